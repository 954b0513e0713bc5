//! Where tensors live.

use candle_core::Device;

use crate::error::{Error, Result};

/// The device of that name: `cpu`, `cuda` (the first GPU) or `cuda:N`.
///
/// # Errors
/// Another name, a GPU where there is none, or a build without CUDA.
pub fn device(name: &str) -> Result<Device> {
    let number = match name {
        "cpu" => return Ok(Device::Cpu),
        "cuda" => Some(0),
        _ => name.strip_prefix("cuda:").and_then(|n| n.parse().ok()),
    };
    let Some(number) = number else {
        return Err(Error::invalid(
            "device",
            format!("it is `{name}`"),
            "give cpu, cuda or cuda:N",
        ));
    };
    if !candle_core::utils::cuda_is_available() {
        return Err(Error::invalid(
            "device",
            format!("it is `{name}`, and this build has no CUDA"),
            "give cpu, or build with --features cuda",
        ));
    }
    Ok(Device::new_cuda(number)?)
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
}
