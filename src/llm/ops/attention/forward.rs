//! Attention's value.

use rayon::prelude::*;

use super::{ALIGN, Attention, Block, Head, Starts, Task, tasks};
use crate::llm::ops::float::Float;
use crate::llm::ops::matmul::{Matrix, Mode, Output, Shared, Threads, matmul};
use crate::llm::ops::simd::{exponentials, max, vectorised};

/// Writes the output `[N, heads · D]` and `ln Σ exp` of each token's and head's scores.
pub fn forward<T: Float>(
    [q, k, v]: [&[T]; 3],
    [out, lse]: [Shared<T>; 2],
    form: &Attention,
    starts: &Starts,
) {
    (tasks(form, starts).into_par_iter().with_max_len(1)).for_each(|task| {
        let (k, v) = (Head::new(k, task, form), Head::new(v, task, form));
        // SAFETY: a task writes its sequence's rows in its heads' columns, which no other does.
        unsafe { one(q, &k, &v, [&out, &lse], form, task) }
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
    task: Task,
) {
    let (d, width) = (form.head_dim, form.heads * form.head_dim);
    let group = form.heads / form.kv_heads;
    let padded = task.length.next_multiple_of(ALIGN);
    let scale = T::from_f64(form.scale);
    let mut scores = Vec::new();
    for block in Block::all(task.length, form.window) {
        let (rows, keys) = (block.rows(), block.keys());
        scores.resize(rows * keys, T::zero());
        for head in task.head * group..(task.head + 1) * group {
            let token = task.start + block.from;
            let q = Matrix::strided(&q[token * width + head * d..], rows, d, width);
            let k = Matrix::strided(&k.columns[block.first..], d, keys, padded);
            matmul(
                Output::new(&mut scores, rows, keys),
                q,
                k,
                Mode::Write,
                Threads::One,
            );
            // SAFETY: rows of this task's sequence, in a column of one of its heads.
            let mut lse = unsafe { lse.part(token * form.heads + head, [rows, 1], form.heads) };
            let mut sums = [T::zero(); 64];
            vectorised(
                #[inline(always)]
                || {
                    let each = scores.chunks_exact_mut(keys).zip(lse.rows()).zip(&mut sums);
                    for (i, ((scores, lse), sum)) in each.enumerate() {
                        let seen = block.seen(i);
                        let top = scale * max(&scores[seen.clone()], scores[seen.start]);
                        *sum = exponentials(&mut scores[seen.clone()], scale, top);
                        scores[..seen.start].fill(T::zero());
                        scores[seen.end..].fill(T::zero());
                        lse[0] = sum.ln() + top;
                    }
                },
            );
            // SAFETY: rows of this task's sequence, in the columns of one of its heads.
            let mut out = unsafe { out.part(token * width + head * d, [rows, d], width) };
            let seen = block.to - block.first;
            let p = Matrix::strided(&scores, rows, seen, keys);
            let v = Matrix::new(&v.rows[block.first * d..], seen, d);
            matmul(out.again(), p, v, Mode::Write, Threads::One);
            for (row, &sum) in out.rows().zip(&sums) {
                row.iter_mut().for_each(|x| *x /= sum);
            }
        }
    }
}
