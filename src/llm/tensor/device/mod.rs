//! Devices that tensors live on: which there are, what they are, and how much memory they have.

mod about;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;

use candle_core::Device;

use crate::error::{Error, Result};

pub use about::{About, Cpu, Cuda, Memory, Used};

/// The device of that name: `cpu`, `cuda` (the first GPU) or `cuda:N`.
///
/// A GPU is the same device whenever it is asked for: candle refuses operations on tensors of two
/// devices, and what is made anew is another device to it. Its work is one stream, whichever thread
/// it comes from; memory that is freed stays with the process, for the next tensor; and products
/// are exact to their precision ([`tf32`] is off, bfloat16 is summed in f32).
///
/// # Errors
/// Another name, a GPU that is not there, a driver that does not start or is too old, or a build
/// without CUDA.
pub fn device(name: &str) -> Result<Device> {
    let number = match name {
        "cpu" => return Ok(Device::Cpu),
        "cuda" => Some(0),
        _ => name.strip_prefix("cuda:").and_then(|n| n.parse().ok()),
    };
    let Some(number) = number else {
        return Err(invalid(name, "", "give cpu, cuda or cuda:N"));
    };
    gpu(name, number)
}

/// Allows (or forbids) products of f32 matrices on a GPU to round their factors to TF32: 10 bits instead of 23,
/// several times as fast. Off until it is asked for; for all devices and threads of the process, those that come
/// later too.
pub fn tf32(on: bool) {
    candle_core::cuda::set_gemm_reduced_precision_f32(on);
}

/// Description of a device and of its driver.
///
/// # Errors
/// A failing device.
pub fn describe(device: &Device) -> Result<About> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => Ok(About::Cuda(cuda::describe(device)?)),
        _ => Ok(About::Cpu(cpu::describe())),
    }
}

/// Memory of a device, and how much of it is free. `None` if the system does not say.
///
/// # Errors
/// A failing device.
pub fn memory(device: &Device) -> Result<Option<Memory>> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => cuda::memory(device).map(Some),
        _ => Ok(cpu::memory()),
    }
}

/// Memory of a GPU that this process's tensors take, now and at most since [`reset_peak`]. Waits until all that was
/// asked of the device is done. `None` on the CPU, and where the driver keeps no count.
///
/// # Errors
/// A failing device.
pub fn memory_used(device: &Device) -> Result<Option<Used>> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => cuda::used(device),
        _ => Ok(None),
    }
}

/// Lets the peaks of [`memory_used`] begin anew.
///
/// # Errors
/// A failing device.
pub fn reset_peak(device: &Device) -> Result<()> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => cuda::reset_peak(device),
        _ => Ok(()),
    }
}

#[cfg(feature = "cuda")]
fn gpu(name: &str, number: usize) -> Result<Device> {
    cuda::device(name, number)
}

#[cfg(not(feature = "cuda"))]
fn gpu(name: &str, _: usize) -> Result<Device> {
    let remedy = "give cpu, or build with --features cuda (docs/gpu.md)";
    Err(invalid(name, ", and this build has no CUDA", remedy))
}

fn invalid(name: &str, problem: &str, remedy: impl Into<String>) -> Error {
    Error::invalid("device", format!("it is `{name}`{problem}"), remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_devices() {
        assert!(device("cpu").unwrap().is_cpu());
        for name in ["gpu", "cuda:", "cuda:x", "cuda:-1", ""] {
            let error = device(name).unwrap_err().to_string();
            assert!(error.contains("cpu, cuda or cuda:N"), "{error}");
        }
        #[cfg(not(feature = "cuda"))]
        for name in ["cuda", "cuda:1"] {
            let error = device(name).unwrap_err().to_string();
            assert!(error.contains("--features cuda"), "{error}");
        }
    }

    #[test]
    fn the_cpu_is_described() {
        let About::Cpu(cpu) = describe(&Device::Cpu).unwrap() else {
            panic!("the CPU is no GPU");
        };
        assert!(cpu.logical_cores > 0 && cpu.threads > 0);
        if cfg!(target_os = "linux") {
            let memory = memory(&Device::Cpu).unwrap().unwrap();
            assert!(0 < memory.free && memory.free < memory.total);
            assert_eq!(memory.total, cpu.memory.unwrap().total);
        }
        let json = serde_json::to_value(About::Cpu(cpu)).unwrap();
        assert_eq!(json["kind"], "cpu");
        assert_eq!(memory_used(&Device::Cpu).unwrap(), None);
        reset_peak(&Device::Cpu).unwrap();
    }
}
