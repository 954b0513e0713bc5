//! A machine, as far as the memory of operations depends on it.

use std::fs;

use serde::Serialize;

/// Machine that a run computes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// True on the processor, false on a GPU.
    pub cpu: bool,
    /// Threads that compute, on a processor.
    pub threads: usize,
    /// Bytes of a core's second cache.
    pub second_cache: u64,
    /// Bytes of the processor's last cache.
    pub last_cache: u64,
}

impl Machine {
    /// This processor, or a GPU.
    pub fn new(cpu: bool) -> Self {
        Self {
            cpu,
            threads: rayon::current_num_threads(),
            second_cache: cache(2).unwrap_or(1 << 20),
            last_cache: cache(3).unwrap_or(32 << 20),
        }
    }
}

/// Bytes of a cache of that level, as Linux says.
fn cache(level: u32) -> Option<u64> {
    (0..8).find_map(|index| {
        let dir = format!("/sys/devices/system/cpu/cpu0/cache/index{index}");
        let said = |name: &str| fs::read_to_string(format!("{dir}/{name}")).ok();
        let is_this = said("level")?.trim() == level.to_string();
        let size = said("size").filter(|_| is_this)?;
        let kilobytes: u64 = size.trim().strip_suffix('K')?.parse().ok()?;
        Some(kilobytes * 1024)
    })
}
