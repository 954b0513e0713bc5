//! Memory of kernels, and how their work is shared between threads.

use rayon::prelude::*;

use super::float::Float;
use super::simd::{add, vectorised};

/// Numbers per task: small enough to stay in a core's cache, large enough to pay for the task.
pub const TASK: usize = 1 << 14;

/// Memory for `len` numbers whose content is anything.
///
/// # Safety
/// Every number is written before it is read.
#[allow(clippy::uninit_vec)]
pub unsafe fn unwritten<T: Float>(len: usize) -> Vec<T> {
    let mut numbers = Vec::with_capacity(len);
    // SAFETY: the capacity is there, and the caller writes before reading.
    unsafe { numbers.set_len(len) };
    numbers
}

/// Rows of that width in one task: a function of shapes only, so that sums over a task's rows do
/// not depend on the number of threads.
pub fn rows_per_task(width: usize) -> usize {
    (TASK / width.max(1)).max(1)
}

/// `f(i, part)` for the parts of `out`, `size` numbers each (the last may be shorter), compiled for
/// this processor's vectors if `f` is marked `#[inline(always)]`.
pub fn parts<T: Float>(out: &mut [T], size: usize, f: impl Fn(usize, &mut [T]) + Sync) {
    share(out, size, &|i, part| {
        vectorised(
            #[inline(always)]
            || f(i, part),
        );
    });
}

/// The same for two outputs whose parts go together.
pub fn parts2<T: Float>(
    both: [&mut [T]; 2],
    sizes: [usize; 2],
    f: impl Fn(usize, &mut [T], &mut [T]) + Sync,
) {
    share2(both, sizes, &|i, a, b| {
        vectorised(
            #[inline(always)]
            || f(i, a, b),
        );
    });
}

// Sharing is compiled once for all kernels, for each type of number: a call by address is nothing beside a part.

type Pair<'f, T> = &'f (dyn Fn(usize, &mut [T], &mut [T]) + Sync);

fn share<T: Float>(out: &mut [T], size: usize, f: &(dyn Fn(usize, &mut [T]) + Sync)) {
    match out.len() <= size {
        true if out.is_empty() => {}
        true => f(0, out),
        false => (out.par_chunks_mut(size).enumerate()).for_each(|(i, part)| f(i, part)),
    }
}

fn share2<T: Float>([a, b]: [&mut [T]; 2], [size_a, size_b]: [usize; 2], f: Pair<T>) {
    match a.len() <= size_a {
        true if a.is_empty() => {}
        true => f(0, a, b),
        false => (a.par_chunks_mut(size_a).zip(b.par_chunks_mut(size_b)))
            .enumerate()
            .for_each(|(i, (a, b))| f(i, a, b)),
    }
}

/// Copies `row` to every row of `out`.
pub fn repeat<T: Float>(row: &[T], out: &mut [T]) {
    let width = row.len();
    parts(out, rows_per_task(width) * width, |_, rows| {
        rows.chunks_exact_mut(width)
            .for_each(|to| to.copy_from_slice(row));
    });
}

/// The sum of `rows` rows of `width` numbers, in the same order for any number of threads.
pub fn sum_rows<T: Float>(rows: &[T], width: usize) -> Vec<T> {
    let each = rows_per_task(width) * width;
    let mut partial = vec![T::zero(); rows.len().div_ceil(each.max(1)) * width];
    parts(
        &mut partial,
        width,
        #[inline(always)]
        |i, sum| {
            let mut at = i * each;
            while at < rows.len().min((i + 1) * each) {
                add(sum, &rows[at..at + width]);
                at += width;
            }
        },
    );
    add_up(&partial, width)
}

/// The sum of a few rows of `width` numbers, in order.
pub fn add_up<T: Float>(rows: &[T], width: usize) -> Vec<T> {
    let mut total = vec![T::zero(); width];
    for row in rows.chunks_exact(width.max(1)) {
        add(&mut total, row);
    }
    total
}
