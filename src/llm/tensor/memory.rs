//! Memory of this process: an allocator that counts large blocks, and what the system says.
//!
//! A program that wants tensors counted installs it:
//!
//! ```
//! #[global_allocator]
//! static HEAP: pistar::llm::internals::tensor::memory::Counting = pistar::llm::internals::tensor::memory::Counting;
//!
//! let block = vec![1u8; 1 << 20];
//! assert!(pistar::llm::internals::tensor::memory::peak().is_some_and(|most| most >= 1 << 20));
//! # drop(block);
//! ```

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

/// Smallest block that is counted. Below are the strings, tables and lists of a program; a tensor that is small
/// weighs nothing.
pub const COUNTED: usize = 1 << 16;

static LIVE: AtomicU64 = AtomicU64::new(0);
static PEAK: AtomicU64 = AtomicU64::new(0);

/// The system's allocator, counting blocks of 64 KiB and more: tensors, and little else. A smaller block costs one
/// comparison.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counting;

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        let block = unsafe { System.alloc(layout) };
        if layout.size() >= COUNTED && !block.is_null() {
            grown(layout.size());
        }
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        let block = unsafe { System.alloc_zeroed(layout) };
        if layout.size() >= COUNTED && !block.is_null() {
            grown(layout.size());
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(block, layout) };
        if layout.size() >= COUNTED {
            LIVE.fetch_sub(layout.size() as u64, Ordering::Relaxed);
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as the caller promises.
        let moved = unsafe { System.realloc(block, layout, size) };
        if !moved.is_null() {
            if layout.size() >= COUNTED {
                LIVE.fetch_sub(layout.size() as u64, Ordering::Relaxed);
            }
            if size >= COUNTED {
                grown(size);
            }
        }
        moved
    }
}

fn grown(size: usize) {
    let live = LIVE.fetch_add(size as u64, Ordering::Relaxed) + size as u64;
    PEAK.fetch_max(live, Ordering::Relaxed);
}

/// Bytes in large blocks now.
pub fn live() -> u64 {
    LIVE.load(Ordering::Relaxed)
}

/// Most bytes that were in large blocks at once; none where [`Counting`] is not the allocator.
pub fn peak() -> Option<u64> {
    Some(PEAK.load(Ordering::Relaxed)).filter(|&peak| peak > 0)
}

/// Counts the [`peak`] from now on.
pub fn reset_peak() {
    PEAK.store(live(), Ordering::Relaxed);
}

/// Bytes of this process that are in memory now, if the system says (Linux).
pub fn resident() -> Option<u64> {
    status("VmRSS:")
}

/// Most bytes of this process that were in memory at once, if the system says (Linux).
pub fn peak_resident() -> Option<u64> {
    status("VmHWM:")
}

/// Bytes of memory that this process may use: the machine's, or those of its control group if they are fewer (Linux).
pub fn of_machine() -> Option<u64> {
    let all = kilobytes("/proc/meminfo", "MemTotal:");
    let files = [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ];
    let group = files
        .iter()
        .find_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok());
    match (all, group) {
        (Some(all), Some(group)) => Some(all.min(group)),
        (all, group) => all.or(group),
    }
}

fn status(name: &str) -> Option<u64> {
    kilobytes("/proc/self/status", name)
}

fn kilobytes(file: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let number: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(number * 1024)
}
