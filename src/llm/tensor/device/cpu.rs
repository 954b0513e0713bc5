//! The processor, from what Linux says of it.

use std::fs;

use super::{Cpu, Memory};

pub(super) fn describe() -> Cpu {
    let known = std::thread::available_parallelism();
    Cpu {
        name: field("/proc/cpuinfo", "model name"),
        logical_cores: known.map_or_else(|_| rayon::current_num_threads(), usize::from),
        threads: rayon::current_num_threads(),
        vectors: vectors(),
        memory: memory(),
    }
}

/// Memory of the machine; free is what could be had without swapping.
pub(super) fn memory() -> Option<Memory> {
    let bytes = |name| -> Option<u64> {
        let text = field("/proc/meminfo", name)?;
        let kibibytes: u64 = text.strip_suffix("kB")?.trim().parse().ok()?;
        Some(kibibytes * 1024)
    };
    Some(Memory {
        total: bytes("MemTotal")?,
        free: bytes("MemAvailable")?,
    })
}

/// The first value of that name in a file of lines `name : value`.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = pairs.find(|(key, _)| key.trim() == name)?;
    Some(value.trim().to_owned())
}

/// What `pulp` finds, which our kernels are compiled for at run time.
fn vectors() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        match (pulp::x86::V4::try_new(), pulp::x86::V3::try_new()) {
            (Some(_), _) => "avx512",
            (_, Some(_)) => "avx2",
            _ => "none",
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    if cfg!(target_arch = "aarch64") {
        "neon"
    } else {
        "none"
    }
}
