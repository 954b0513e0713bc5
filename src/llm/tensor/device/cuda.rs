//! GPUs of NVIDIA's.

use std::collections::BTreeMap;
use std::ffi::c_int;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::cuda::cudarc::cublas::sys as cublas;
use candle_core::cuda::cudarc::driver::sys::{self, CUdevice_attribute, CUmemPool_attribute};
use candle_core::cuda::cudarc::driver::{CudaContext, DriverError, result};
use candle_core::cuda::{self, CudaDevice, kernels};
use candle_core::{Device, backend::BackendDevice};

use super::{Cuda, Memory, Used, invalid};
use crate::error::{Error, Result};

/// Those that are in use.
static DEVICES: Mutex<BTreeMap<usize, Device>> = Mutex::new(BTreeMap::new());

pub(super) fn device(name: &str, ordinal: usize) -> Result<Device> {
    // Whoever panicked left nothing half-made: a device is put there whole.
    let mut devices = DEVICES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(device) = devices.get(&ordinal) {
        return Ok(device.clone());
    }
    // Held until the device has it too: else the driver would take it down and up again.
    let _context = check(name, ordinal)?;
    // A stream of its own: candle's default is one a thread, and a tensor would go from one to
    // another unordered.
    let device = CudaDevice::new_with_stream(ordinal)?;
    // SAFETY: that stream is the only one.
    unsafe { device.disable_event_tracking() };
    cuda::set_gemm_reduced_precision_bf16(false);
    cuda::set_gemm_reduced_precision_f16(false);
    keep_memory(&device)?;
    let device = Device::Cuda(device);
    devices.insert(ordinal, device.clone());
    Ok(device)
}

/// The GPU's context, if there is such a GPU, and a driver and kernels for it.
fn check(name: &str, ordinal: usize) -> Result<Arc<CudaContext>> {
    let fail = |problem: String, remedy: String| Err(invalid(name, &problem, remedy));
    let failed = |e: DriverError| {
        let problem = format!(", and the CUDA driver does not start ({:?})", e.0);
        let remedy = "nvidia-smi says what it sees: install or start NVIDIA's driver, and look at \
                      CUDA_VISIBLE_DEVICES; or give cpu";
        invalid(name, &problem, remedy)
    };
    let count = CudaContext::device_count().map_err(failed)?;
    if ordinal >= usize::try_from(count).unwrap_or(0) {
        let (problem, remedy) = match count {
            1 => (", and there is one GPU".into(), "give cuda".into()),
            0 => (
                ", and the driver sees no GPU".into(),
                "look at CUDA_VISIBLE_DEVICES; or give cpu".into(),
            ),
            _ => (
                format!(", and there are {count} GPUs"),
                format!("give cuda:0 to cuda:{}", count - 1),
            ),
        };
        return fail(problem, remedy);
    }
    let (has, needs) = (driver_version().map_err(failed)?, sys::CUDA_VERSION);
    if has < needs {
        let problem = format!(
            ", and its driver is for CUDA {} where this build has {}",
            version(has),
            version(needs)
        );
        let remedy =
            "update the driver (580 is the first for CUDA 13.0), or build with an older CUDA";
        return fail(problem, remedy.into());
    }
    let context = CudaContext::new(ordinal).map_err(failed)?;
    let capability = context.compute_capability().map_err(failed)?;
    let target = target();
    if !runs(target, capability) {
        let (major, minor) = capability;
        let problem = format!(
            ", of compute capability {major}.{minor}, and this build's kernels are for {target}"
        );
        let remedy = format!("build with CUDA_COMPUTE_CAP={major}{minor} (docs/gpu.md)");
        return fail(problem, remedy);
    }
    Ok(context)
}

/// What the kernels were compiled for: `sm_90a`.
fn target() -> &'static str {
    let mut lines = kernels::UNARY.ptx().lines();
    lines
        .find_map(|line| line.strip_prefix(".target "))
        .map_or("sm_0", |names| {
            names.split(',').next().unwrap_or(names).trim()
        })
}

/// Whether PTX for a target runs on a GPU: on the same and later ones, with `a` on that one alone,
/// with `f` on those of one major number.
fn runs(target: &str, (major, minor): (i32, i32)) -> bool {
    let target = target.trim_start_matches("sm_");
    let number = target.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let (wanted, has) = (number.parse::<i32>().unwrap_or(0), 10 * major + minor);
    match &target[number.len()..] {
        "a" => wanted == has,
        "f" => wanted / 10 == major && wanted <= has,
        _ => wanted <= has,
    }
}

/// Lets the driver keep what is freed: by default it gives it all back whenever a stream is waited
/// for, and gets it again for the next tensor.
fn keep_memory(device: &CudaDevice) -> Result<()> {
    if device.cuda_stream().context().has_async_alloc() {
        let mut all = u64::MAX;
        let threshold = CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        // SAFETY: the pool is that of a device that is there, the attribute a u64.
        unsafe {
            let pool = pool(device)?;
            let value = (&raw mut all).cast();
            result::mem_pool::set_attribute(pool, threshold, value).map_err(backend)?;
        }
    }
    Ok(())
}

pub(super) fn describe(device: &CudaDevice) -> Result<Cuda> {
    let stream = device.cuda_stream();
    let context = stream.context();
    let (major, minor) = context.compute_capability().map_err(backend)?;
    let count = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
    let count = context.attribute(count).map_err(backend)?;
    let mut blas: c_int = 0;
    // SAFETY: the handle lives as long as the device.
    unsafe { cublas::cublasGetVersion_v2(*device.cublas_handle().handle(), &raw mut blas) }
        .result()
        .map_err(backend)?;
    Ok(Cuda {
        name: context.name().map_err(backend)?,
        ordinal: context.ordinal(),
        compute_capability: format!("{major}.{minor}"),
        built_for: target().into(),
        multiprocessors: usize::try_from(count).unwrap_or(0),
        driver: driver(),
        driver_cuda: version(driver_version().map_err(backend)?),
        build_cuda: version(sys::CUDA_VERSION),
        cublas: cublas_version(blas),
        tf32: cuda::gemm_reduced_precision_f32(),
        memory: memory(device)?,
    })
}

pub(super) fn memory(device: &CudaDevice) -> Result<Memory> {
    let (free, total) = (device.cuda_stream().context())
        .mem_get_info()
        .map_err(backend)?;
    Ok(Memory {
        total: total as u64,
        free: free as u64,
    })
}

pub(super) fn used(device: &CudaDevice) -> Result<Option<Used>> {
    use CUmemPool_attribute::{
        CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT, CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH,
        CU_MEMPOOL_ATTR_USED_MEM_CURRENT, CU_MEMPOOL_ATTR_USED_MEM_HIGH,
    };
    if !device.cuda_stream().context().has_async_alloc() {
        return Ok(None);
    }
    device.synchronize()?;
    let get = |attribute| -> Result<u64> {
        let mut value = 0u64;
        // SAFETY: the pool is that of a device that is there, the attributes are u64.
        unsafe {
            let value = (&raw mut value).cast();
            result::mem_pool::get_attribute(pool(device)?, attribute, value).map_err(backend)?;
        }
        Ok(value)
    };
    Ok(Some(Used {
        now: get(CU_MEMPOOL_ATTR_USED_MEM_CURRENT)?,
        peak: get(CU_MEMPOOL_ATTR_USED_MEM_HIGH)?,
        reserved: get(CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)?,
        reserved_peak: get(CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH)?,
    }))
}

pub(super) fn reset_peak(device: &CudaDevice) -> Result<()> {
    use CUmemPool_attribute::{CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH, CU_MEMPOOL_ATTR_USED_MEM_HIGH};
    if !device.cuda_stream().context().has_async_alloc() {
        return Ok(());
    }
    device.synchronize()?;
    for attribute in [
        CU_MEMPOOL_ATTR_USED_MEM_HIGH,
        CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH,
    ] {
        // Zero is the only value that may be set, and means: what there is now.
        let mut zero = 0u64;
        // SAFETY: the pool is that of a device that is there, the attributes are u64.
        unsafe {
            let value = (&raw mut zero).cast();
            result::mem_pool::set_attribute(pool(device)?, attribute, value).map_err(backend)?;
        }
    }
    Ok(())
}

/// Where candle's tensors are allocated.
fn pool(device: &CudaDevice) -> Result<sys::CUmemoryPool> {
    let device = device.cuda_stream().context().cu_device();
    // SAFETY: the device is there.
    unsafe { result::device::get_mem_pool(device) }.map_err(backend)
}

/// The newest CUDA that the driver knows: 13000 for 13.0.
fn driver_version() -> std::result::Result<u32, DriverError> {
    let mut version: c_int = 0;
    // SAFETY: it writes one number.
    unsafe { sys::cuDriverGetVersion(&raw mut version) }.result()?;
    Ok(u32::try_from(version).unwrap_or(0))
}

/// The driver's own version, in the first line of what its module says.
fn driver() -> Option<String> {
    let text = std::fs::read_to_string("/proc/driver/nvidia/version").ok()?;
    let is_version =
        |word: &&str| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit());
    let first = text.lines().next()?;
    first.split_whitespace().find(is_version).map(str::to_owned)
}

/// 13010 as 13.1.
fn version(number: u32) -> String {
    format!("{}.{}", number / 1000, number % 1000 / 10)
}

/// 130100 as 13.1.0.
fn cublas_version(number: c_int) -> String {
    format!(
        "{}.{}.{}",
        number / 10_000,
        number / 100 % 100,
        number % 100
    )
}

fn backend(error: impl std::fmt::Debug) -> Error {
    Error::Backend {
        backend: "cuda",
        message: format!("{error:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_run_where_nvidia_says() {
        assert!(runs("sm_80", (8, 0)) && runs("sm_80", (9, 0)) && !runs("sm_80", (7, 5)));
        assert!(runs("sm_90a", (9, 0)) && !runs("sm_90a", (10, 0)));
        assert!(runs("sm_120f", (12, 1)) && !runs("sm_121f", (12, 0)));
    }

    #[test]
    fn versions_read_as_nvidia_writes_them() {
        assert_eq!(version(13_000), "13.0");
        assert_eq!(version(12_080), "12.8");
        assert_eq!(cublas_version(130_100), "13.1.0");
        assert!(target().starts_with("sm_") && target() != "sm_0");
    }
}
