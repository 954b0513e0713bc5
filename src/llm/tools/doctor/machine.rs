//! Description of the machine that the examination runs on.

use candle_core::Device;
use serde_json::{Map, Value};

use super::report::{Quantity, Row, Unit};
use crate::llm::tensor::device::{About, Memory, describe};

/// Version, features, and what the device is.
pub fn rows(device: &Device) -> Vec<Row> {
    let mut rows = vec![Row::says("pistar", env!("CARGO_PKG_VERSION")).remark(features())];
    if device.is_cuda() {
        rows.extend(of(&Device::Cpu));
    }
    rows.extend(of(device));
    rows
}

fn of(device: &Device) -> Vec<Row> {
    match describe(device) {
        Ok(About::Cpu(cpu)) => {
            let name = cpu.name.unwrap_or_else(|| std::env::consts::ARCH.into());
            let threads = format!("{} of {}", cpu.threads, cpu.logical_cores);
            let mut rows = vec![
                Row::says("processor", name),
                Row::says("threads, of cores", threads),
                Row::says("vectors", cpu.vectors),
            ];
            rows.extend(cpu.memory.map(|held| memory("memory", held)));
            rows
        }
        Ok(About::Cuda(gpu)) => {
            let says = |name: &str, text: String| Row::says(name, text);
            vec![
                says("GPU", gpu.name),
                says("number", gpu.ordinal.to_string()),
                says("compute capability", gpu.compute_capability),
                says("built for", gpu.built_for),
                says("multiprocessors", gpu.multiprocessors.to_string()),
                says("driver", gpu.driver.unwrap_or_else(|| "unknown".into())),
                says("CUDA of the driver", gpu.driver_cuda),
                says("CUDA of the build", gpu.build_cuda),
                says("cuBLAS", gpu.cublas),
                says("TF32", if gpu.tf32 { "on" } else { "off" }.into()),
                memory("memory of the GPU", gpu.memory),
            ]
        }
        Err(error) => vec![Row::failed("device", &error)],
    }
}

fn memory(name: &str, memory: Memory) -> Row {
    let [total, free] = [memory.total, memory.free].map(|bytes| bytes as f64);
    let shown = Quantity::new(free, Unit::Bytes).shown();
    let row = Row::note(name, Quantity::new(total, Unit::Bytes));
    row.remark(format!("{shown} free"))
        .detail("free", memory.free)
}

/// The same as one JSON object.
pub fn object(device: &Device) -> Map<String, Value> {
    (rows(device).into_iter())
        .map(|row| {
            (
                row.name,
                serde_json::to_value(row.found).unwrap_or_default(),
            )
        })
        .collect()
}

/// Those that change what is computed, or where.
fn features() -> String {
    let all = [
        ("cuda", cfg!(feature = "cuda")),
        ("parquet", cfg!(feature = "parquet")),
        ("plot", cfg!(feature = "plot")),
    ];
    let on: Vec<&str> = all.iter().filter(|(_, on)| *on).map(|(n, _)| *n).collect();
    let build = if cfg!(debug_assertions) {
        "; debug: times mean nothing"
    } else {
        ""
    };
    format!("with {}{build}", on.join(", "))
}
