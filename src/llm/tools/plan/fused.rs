//! Memory of the CPU's kernels in f32 and f64 while they run.

use super::ops::{Form, Needs};
use crate::llm::tensor::ops::memory::rows_per_task;

/// Bytes that the matrix product of `[rows, inner]` and `[inner, columns]` packs, by gemm 0.19: of a right-hand side
/// that does not lie as its kernels want it, as much as the last cache holds.
pub fn packed(form: &Form, [rows, inner, columns]: [usize; 3], transposed: bool) -> u64 {
    // Its kernels take so many rows at once; it packs where this pays.
    let size = form.wide();
    let kernel = 192 / size as usize;
    let least = if transposed { 2 * kernel } else { 128 * kernel };
    if rows <= least {
        return 0;
    }
    let depth = inner.div_ceil(inner.div_ceil(512).max(1));
    let bytes = size * depth as u64 * columns as u64;
    bytes.min(form.machine.last_cache / 16 * 15)
}

pub fn linear(form: &Form, n: usize, [i, o]: [usize; 2], [trained, biased]: [bool; 2]) -> Needs {
    let dx = packed(form, [i, o, n], false);
    let dw = if trained {
        packed(form, [i, n, o], true)
    } else {
        0
    };
    let db = if biased {
        form.of(n.div_ceil(rows_per_task(o)), o)
    } else {
        0
    };
    Needs {
        forward: packed(form, [o, i, n], false),
        backward: dx.max(dw).max(db),
        ..Needs::default()
    }
}

/// A task's rows each have their own sums of `sums` weights' gradients.
pub fn norm(form: &Form, n: usize, width: usize, sums: usize) -> Needs {
    Needs {
        backward: form.of(n.div_ceil(rows_per_task(width)), sums * width),
        ..Needs::default()
    }
}

pub fn rope(n: usize) -> Needs {
    // Positions.
    let all = 8 * n as u64;
    Needs {
        forward: all,
        backward: all,
        ..Needs::default()
    }
}

/// A task has a key head of a sequence: its keys and values, as rows and as columns, and a block of
/// scores; in the backward their gradients and two blocks.
pub fn attention(
    form: &Form,
    [kv_heads, head_dim]: [usize; 2],
    longest: usize,
    sequences: usize,
) -> Needs {
    let tasks = form.machine.threads.min(kv_heads * sequences) as u64;
    let head = form.of(longest, head_dim);
    let scores = form.of((16_384 / longest.max(1)).clamp(16, 64), longest);
    Needs {
        forward: tasks * (4 * head + scores),
        backward: tasks * (6 * head + 2 * scores),
        ..Needs::default()
    }
}
