//! Attention's value.

use std::ops::Range;

use rayon::prelude::*;

use super::narrow;
use super::{ALIGN, Attention, Block, Head, MOST, Task, slope, sloped, tasks};
use crate::llm::tensor::ops::Starts;
use crate::llm::tensor::ops::float::Float;
use crate::llm::tensor::ops::matmul::{Matrix, Mode, Output, Shared, Threads, matmul};
use crate::llm::tensor::ops::simd::{exponentials, max, vectorised};

/// Writes the output `[N, heads · D]` and `ln Σ exp` of the scores, `[heads, N]`.
pub fn forward<T: Float>(
    [q, k, v]: [&[T]; 3],
    [out, lse]: [Shared<T>; 2],
    form: &Attention,
    starts: &Starts,
) {
    (tasks(form, starts).into_par_iter().with_max_len(1)).for_each(|task| {
        if narrow::forward::suits(form.head_dim) {
            // SAFETY: a task writes its piece's rows in its heads' columns, which no other does.
            return unsafe { narrow::forward::one([q, k, v], [&out, &lse], form, &task) };
        }
        let (k, v) = (Head::new(k, &task, form), Head::new(v, &task, form));
        // SAFETY: a task writes its piece's rows in its heads' columns, which no other does.
        unsafe { one(q, &k, &v, [&out, &lse], form, &task) }
    });
}

/// # Safety
/// Nobody else writes the task's rows and columns.
unsafe fn one<T: Float>(
    q: &[T],
    k: &Head<T>,
    v: &Head<T>,
    [out, lse]: [&Shared<T>; 2],
    form: &Attention,
    task: &Task,
) {
    let (d, width) = (form.head_dim, form.heads * form.head_dim);
    let group = form.heads / form.kv_heads;
    let padded = task.span.length().next_multiple_of(ALIGN);
    let scale = T::of(form.scale);
    let mut scores = Vec::new();
    for block in Block::all(task.queries(), form.window) {
        let (rows, keys) = (block.rows(), block.keys());
        scores.resize(rows * keys, T::zero());
        for head in task.head * group..(task.head + 1) * group {
            let factors = (scale, slope(form, head));
            let token = task.span.row(block.from);
            let queries = Matrix::strided(&q[token * width + head * d..], rows, d, width);
            let k = Matrix::strided(&k.columns[block.first..], d, keys, padded);
            matmul(
                Output::new(&mut scores, rows, keys),
                queries,
                k,
                Mode::Write,
                Threads::One,
            );
            let at = head * q.len() / width + token;
            // SAFETY: tokens of this task's piece, of one of its heads.
            let mut lse = unsafe { lse.part(at, [1, rows], rows) };
            let mut sums = [T::zero(); MOST];
            for lse in lse.rows() {
                vectorised(
                    #[inline(always)]
                    || softmax(&mut scores, &block, factors, lse, &mut sums),
                );
            }
            // SAFETY: rows of this task's piece, in the columns of one of its heads.
            let mut out = unsafe { out.part(token * width + head * d, [rows, d], width) };
            let mut mode = Mode::Write;
            for from in depths(block.first..block.to) {
                let seen = from.len();
                let p = Matrix::strided(&scores[from.start - block.first..], rows, seen, keys);
                let v = Matrix::new(&v.rows[from.start * d..], seen, d);
                matmul(out.again(), p, v, mode, Threads::One);
                mode = Mode::Add;
            }
            for (row, &sum) in out.rows().zip(&sums) {
                let factor = T::one() / sum;
                row.iter_mut().for_each(|x| *x *= factor);
            }
        }
    }
}

/// Keys in parts that end at multiples of the depth of gemm's products: it would split them by how many there are, and
/// a query's sum would depend on the block that it is in.
fn depths(keys: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    const DEPTH: usize = 512;
    (keys.start / DEPTH..keys.end.div_ceil(DEPTH))
        .map(move |i| keys.start.max(i * DEPTH)..keys.end.min((i + 1) * DEPTH))
}

/// Whole vectors are looked through: behind what is seen are `exp(−∞)`.
///
/// `scores ← exp(scale · scores − slope · distance − top)` where they are seen, else 0; each row's
/// sum, and `ln Σ exp` without top.
#[inline(always)]
fn softmax<T: Float>(
    scores: &mut [T],
    block: &Block,
    (scale, slope): (T, Option<T>),
    lse: &mut [T],
    sums: &mut [T],
) {
    let keys = block.keys();
    for row in 0..block.rows() {
        let scores = &mut scores[row * keys..][..keys];
        let seen = block.seen(row);
        let scale = match slope {
            Some(slope) => {
                sloped(&mut scores[seen.clone()], scale, slope);
                T::one()
            }
            None => scale,
        };
        let end = seen.end.next_multiple_of(ALIGN);
        scores[..seen.start].fill(T::zero());
        scores[seen.end..end].fill(T::of(f64::NEG_INFINITY));
        scores[end..].fill(T::zero());
        let whole = &mut scores[seen.start..end];
        let top = scale * max(whole, whole[0]);
        let sum = exponentials(whole, scale, top);
        sums[row] = sum;
        lse[row] = sum.ln() + top;
    }
}
