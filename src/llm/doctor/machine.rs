//! What the examination ran on.

use candle_core::Device;
use serde_json::{Map, Value};

use super::report::{Quantity, Row, Unit};

/// Processor, memory, version, features.
pub fn rows(device: &Device) -> Vec<Row> {
    let mut rows = vec![Row::says("pistar", env!("CARGO_PKG_VERSION")).remark(features())];
    let cpu = processor().unwrap_or_else(|| std::env::consts::ARCH.into());
    rows.push(Row::says("processor", cpu));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = rayon::current_num_threads();
    rows.push(Row::says(
        "cores, threads used",
        format!("{cores}, {threads}"),
    ));
    if let Some(bytes) = kilobytes("/proc/meminfo", "MemTotal") {
        let mut row = Row::note("memory", Quantity::new(bytes, Unit::Bytes));
        if let Some(free) = kilobytes("/proc/meminfo", "MemAvailable") {
            let shown = Quantity::new(free, Unit::Bytes).shown();
            row = row
                .remark(format!("{shown} available"))
                .detail("available", free);
        }
        rows.push(row);
    }
    let name = match device {
        Device::Cpu => "the processor",
        Device::Cuda(_) => "CUDA",
        Device::Metal(_) => "Metal",
    };
    rows.push(Row::says("device", name));
    if device.is_cuda() {
        let tf32 = match candle_core::cuda::gemm_reduced_precision_f32() {
            true => "on",
            false => "off",
        };
        rows.push(Row::says("TF32 in f32 products", tf32));
    }
    rows
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
    let build = match cfg!(debug_assertions) {
        true => "; debug: times mean nothing",
        false => "",
    };
    format!("with {}{build}", on.join(", "))
}

/// The processor's name, where the system says it.
fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_string())
}

/// A line of a file of the kernel's, in bytes.
fn kilobytes(file: &str, key: &str) -> Option<f64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    let number: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(1024.0 * number)
}

/// Bytes of the processor's last cache; 64 MB where the system does not say.
pub fn last_cache() -> usize {
    let sizes = (0..8).filter_map(|index| {
        let file = format!("/sys/devices/system/cpu/cpu0/cache/index{index}/size");
        let text = std::fs::read_to_string(file).ok()?;
        let text = text.trim();
        let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
        let factor = match unit {
            "K" => 1 << 10,
            "M" => 1 << 20,
            _ => return None,
        };
        Some(digits.parse::<usize>().ok()? * factor)
    });
    sizes.max().unwrap_or(1 << 26)
}
