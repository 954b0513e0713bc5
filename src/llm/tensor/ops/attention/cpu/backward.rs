//! Attention's gradients.

use std::ops::Range;

use rayon::prelude::*;

use super::narrow;
use super::{ALIGN, Attention, Block, Head, Task, slope, sloped, tasks};
use crate::llm::tensor::ops::Starts;
use crate::llm::tensor::ops::float::Float;
use crate::llm::tensor::ops::matmul::{Matrix, Mode, Output, Shared, Threads, matmul};
use crate::llm::tensor::ops::simd::{add, exponentials, sum, vectorised};

/// Inputs of the gradients.
pub struct Inputs<'a, T> {
    pub q: &'a [T],
    pub k: &'a [T],
    pub v: &'a [T],
    pub out: &'a [T],
    pub lse: &'a [T],
    pub gradient: &'a [T],
}

/// Gradients of keys, or of values.
pub struct OfKeys<'a, T> {
    /// Of each piece's own, a row for a row.
    own: Shared<'a, T>,
    /// Of the prefix of each piece that has one, in the order of pieces.
    prefixes: Shared<'a, T>,
}

impl<T: Float> OfKeys<'_, T> {
    /// Writes the rows of a task's sequence.
    ///
    /// # Safety
    /// Nobody else writes the task's rows and columns.
    pub unsafe fn write(&self, task: &Task, form: &Attention, rows: &[T]) {
        let (d, width) = (form.head_dim, form.kv_heads * form.head_dim);
        let prefix = task.span.prefix.len();
        let (of_prefix, of_own) = rows.split_at(prefix * d);
        for (to, first, from) in [
            (&self.own, task.span.own.start, of_own),
            (&self.prefixes, task.before, of_prefix),
        ] {
            let at = first * width + task.head * d;
            if from.is_empty() {
                continue;
            }
            // SAFETY: rows of this task alone, in the columns of its key head.
            let mut to = unsafe { to.part(at, [from.len() / d, d], width) };
            for (to, from) in to.rows().zip(from.chunks_exact(d)) {
                to.copy_from_slice(from);
            }
        }
    }
}

/// Writes the gradients of q, k and v.
pub fn backward<T: Float>(
    inputs: &Inputs<T>,
    [dq, dk, dv]: [&mut [T]; 3],
    form: &Attention,
    starts: &Starts,
) {
    let tasks = tasks(form, starts);
    let width = form.kv_heads * form.head_dim;
    let rows = tasks
        .last()
        .map_or(0, |task| task.before + task.span.prefix.len());
    let mut prefixes = [(); 2].map(|()| vec![T::zero(); rows * width]);
    let dq = Shared::new(dq);
    {
        let [of_k, of_v] = &mut prefixes;
        let of_keys = [(&mut *dk, of_k), (&mut *dv, of_v)].map(|(own, prefixes)| OfKeys {
            own: Shared::new(own),
            prefixes: Shared::new(prefixes),
        });
        (tasks.par_iter().with_max_len(1)).for_each(|task| {
            // SAFETY: a task writes its piece's rows in its heads' columns, which no other does.
            unsafe {
                if narrow::backward::suits(form.head_dim) {
                    narrow::backward::one(inputs, &dq, &of_keys, form, task);
                } else {
                    one(inputs, &dq, &of_keys, form, task);
                }
            }
        });
    }
    for (to, found) in [dk, dv].into_iter().zip(&prefixes) {
        add_prefixes(to, found, width, &tasks);
    }
}

/// Adds to each prefix what the pieces that go on from it found, in their order.
fn add_prefixes<T: Float>(to: &mut [T], found: &[T], width: usize, tasks: &[Task]) {
    // Rows that are added up at once.
    const ROWS: usize = 16;
    let mut groups: Vec<(Range<usize>, Range<usize>)> = Vec::new();
    for task in tasks.iter().filter(|task| task.head == 0) {
        let (prefix, rows) = (
            &task.span.prefix,
            task.before..task.before + task.span.prefix.len(),
        );
        match groups.last_mut() {
            _ if prefix.is_empty() => {}
            Some((same, all)) if same == prefix => all.end = rows.end,
            _ => groups.push((prefix.clone(), rows)),
        }
    }
    let to = Shared::new(to);
    let some = groups.into_iter().flat_map(|(prefix, rows)| {
        let all = (0..prefix.len()).step_by(ROWS);
        all.map(move |at| {
            (
                prefix.clone(),
                at..prefix.len().min(at + ROWS),
                rows.clone(),
            )
        })
    });
    (some.collect::<Vec<_>>().into_par_iter()).for_each(|(prefix, some, rows)| {
        let first = (prefix.start + some.start) * width;
        // SAFETY: different rows of a prefix, or of different prefixes.
        let mut to = unsafe { to.part(first, [some.len(), width], width) };
        let found = &found[rows.start * width..rows.end * width];
        vectorised(
            #[inline(always)]
            || {
                for piece in found.chunks_exact(prefix.len() * width) {
                    let piece = &piece[some.start * width..some.end * width];
                    for (to, found) in to.rows().zip(piece.chunks_exact(width)) {
                        add(to, found);
                    }
                }
            },
        );
    });
}

/// # Safety
/// Nobody else writes the task's rows and columns.
unsafe fn one<T: Float>(
    inputs: &Inputs<T>,
    dq: &Shared<T>,
    [of_k, of_v]: &[OfKeys<T>; 2],
    form: &Attention,
    task: &Task,
) {
    let (d, width) = (form.head_dim, form.heads * form.head_dim);
    let group = form.heads / form.kv_heads;
    let length = task.span.length();
    let padded = length.next_multiple_of(ALIGN);
    let scale = T::of(form.scale);
    let (k, v) = (
        Head::new(inputs.k, task, form),
        Head::new(inputs.v, task, form),
    );
    let [mut dk, mut dv] = [(); 2].map(|()| vec![T::zero(); length * d]);
    let (mut p, mut dp) = (Vec::new(), Vec::new());
    for block in Block::all(task.queries(), form.window) {
        let (rows, keys, first) = (block.rows(), block.keys(), block.first);
        let seen = block.to - first;
        p.resize(rows * keys, T::zero());
        dp.resize(rows * keys, T::zero());
        for head in task.head * group..(task.head + 1) * group {
            let factors = (scale, slope(form, head));
            let token = task.span.row(block.from);
            let at = token * width + head * d;
            let q = Matrix::strided(&inputs.q[at..], rows, d, width);
            let gradient = Matrix::strided(&inputs.gradient[at..], rows, d, width);
            let kt = Matrix::strided(&k.columns[first..], d, keys, padded);
            let vt = Matrix::strided(&v.columns[first..], d, keys, padded);
            matmul(
                Output::new(&mut p, rows, keys),
                q,
                kt,
                Mode::Write,
                Threads::One,
            );
            matmul(
                Output::new(&mut dp, rows, keys),
                gradient,
                vt,
                Mode::Write,
                Threads::One,
            );
            let lse = &inputs.lse[head * inputs.q.len() / width + token..][..rows];
            let (out, dout) = (&inputs.out[at..], &inputs.gradient[at..]);
            vectorised(
                #[inline(always)]
                || {
                    for row in 0..rows {
                        let here = row * width..row * width + d;
                        let pull = sum(&out[here.clone()], &dout[here], |x, y| x * y);
                        let (p, dp) = (&mut p[row * keys..][..keys], &mut dp[row * keys..][..keys]);
                        differentiate(p, dp, block.seen(row), factors, [lse[row], pull]);
                    }
                },
            );
            let p = Matrix::strided(&p, rows, seen, keys);
            let ds = Matrix::strided(&dp, rows, seen, keys);
            let k = Matrix::new(&k.rows[first * d..], seen, d);
            // SAFETY: rows of this task's piece, in the columns of one of its heads.
            let dq = unsafe { dq.part(at, [rows, d], width) };
            matmul(dq, ds, k, Mode::Write, Threads::One);
            let add = |sum: &mut [T], a: Matrix<T>, b: Matrix<T>| {
                let out = Output::new(&mut sum[first * d..], seen, d);
                matmul(out, a.t(), b, Mode::Add, Threads::One);
            };
            add(&mut dk, ds, q);
            add(&mut dv, p, gradient);
        }
    }
    // SAFETY: as promised.
    unsafe {
        of_k.write(task, form, &dk);
        of_v.write(task, form, &dv);
    }
}

/// `p ← exp(scale · p − slope · distance − lse)` and `dp ← scale · p (dp − pull)` where they are seen,
/// else 0.
#[inline(always)]
fn differentiate<T: Float>(
    p: &mut [T],
    dp: &mut [T],
    seen: Range<usize>,
    (scale, slope): (T, Option<T>),
    [lse, pull]: [T; 2],
) {
    // Whole vectors are looked through: behind what is seen are `exp(−∞)`.
    let end = seen.end.next_multiple_of(ALIGN);
    for x in [&mut *p, &mut *dp] {
        x[..seen.start].fill(T::zero());
        x[end..].fill(T::zero());
    }
    p[seen.end..end].fill(T::of(f64::NEG_INFINITY));
    dp[seen.end..end].fill(T::zero());
    let scale_of_scores = match slope {
        Some(slope) => {
            sloped(&mut p[seen.clone()], scale, slope);
            T::one()
        }
        None => scale,
    };
    let (p, dp) = (&mut p[seen.start..end], &mut dp[seen.start..end]);
    exponentials(p, scale_of_scores, lse);
    let n = dp.len();
    let p = &p[..n];
    for i in 0..n {
        dp[i] = scale * p[i] * (dp[i] - pull);
    }
}
