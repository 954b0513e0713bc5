//! Description of a device.

use std::fmt;

use serde::Serialize;

/// Description of a device: its name, cores or capability, and driver.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum About {
    /// The processor.
    Cpu(Cpu),
    /// A GPU of NVIDIA's.
    Cuda(Cuda),
}

/// A processor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cpu {
    /// Its name, if the system says.
    pub name: Option<String>,
    /// Cores as the system counts them.
    pub logical_cores: usize,
    /// Threads that share the work (`RAYON_NUM_THREADS`).
    pub threads: usize,
    /// The vectors that our kernels use: `avx512`, `avx2`, `neon` or `none`.
    pub vectors: &'static str,
    /// Memory, if the system says.
    pub memory: Option<Memory>,
}

/// A GPU of NVIDIA's, and what drives it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cuda {
    /// Its name.
    pub name: String,
    /// N of `cuda:N`.
    pub ordinal: usize,
    /// Its compute capability: `9.0`.
    pub compute_capability: String,
    /// The architecture that this build's kernels are for: `sm_90a`.
    pub built_for: String,
    /// Its streaming multiprocessors.
    pub multiprocessors: usize,
    /// The driver, if the system says: `580.95.05`.
    pub driver: Option<String>,
    /// The newest CUDA that the driver knows: `13.0`.
    pub driver_cuda: String,
    /// The CUDA that this build was compiled with.
    pub build_cuda: String,
    /// cuBLAS: `13.1.0`.
    pub cublas: String,
    /// True if f32 products round their factors to TF32.
    pub tf32: bool,
    /// Its memory.
    pub memory: Memory,
}

/// Memory in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// All of it.
    pub total: u64,
    /// Memory that a process could still get, in bytes.
    pub free: u64,
}

/// Memory of a GPU that a process takes, in bytes; without the driver's own part, some hundred MB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Used {
    /// Bytes in tensors now.
    pub now: u64,
    /// Most bytes in tensors at once.
    pub peak: u64,
    /// Kept for tensors now.
    pub reserved: u64,
    /// Kept for tensors, at most: what the card must have.
    pub reserved_peak: u64,
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const GB: f64 = 1e9;
        let [total, free] = [self.total, self.free].map(|bytes| bytes as f64 / GB);
        write!(f, "{total:.1} GB, {free:.1} GB free")
    }
}

impl fmt::Display for About {
    /// One line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu(cpu) => {
                let name = cpu.name.as_deref().unwrap_or("processor");
                let (threads, cores) = (cpu.threads, cpu.logical_cores);
                write!(f, "{name}, {threads} threads on {cores} cores")?;
                write!(f, ", vectors: {}", cpu.vectors)?;
                match cpu.memory {
                    Some(memory) => write!(f, ", {memory}"),
                    None => Ok(()),
                }
            }
            Self::Cuda(gpu) => {
                let (name, capability) = (&gpu.name, &gpu.compute_capability);
                let driver = gpu.driver.as_deref().unwrap_or("unknown");
                write!(
                    f,
                    "{name} (compute capability {capability}), driver {driver}"
                )?;
                write!(f, " for CUDA {}, built with CUDA ", gpu.driver_cuda)?;
                write!(f, "{} for {}", gpu.build_cuda, gpu.built_for)?;
                write!(f, ", cuBLAS {}, {}", gpu.cublas, gpu.memory)
            }
        }
    }
}
