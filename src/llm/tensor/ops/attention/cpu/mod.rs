//! [`attention`](super::attention) on the CPU: a block of queries at a time, one task for each piece and key head;
//! [narrow heads](narrow) apart. The probabilities are not kept: the backward makes them again from each row's
//! `ln Σ exp`. A piece that goes on from another has a copy of its keys and values, and finds gradients for them,
//! which are added to the other's at last.

mod backward;
mod forward;
pub mod narrow;

use std::ops::Range;

use super::Attention;
use crate::error::{Error, Result};
use crate::llm::tensor::ops::float::Float;
use crate::llm::tensor::ops::kernel::{same, tensor};
use crate::llm::tensor::ops::matmul::Shared;
use crate::llm::tensor::ops::memory::unwritten;
use crate::llm::tensor::ops::slice::Slice;
use crate::llm::tensor::ops::{Span, Starts};
use crate::llm::tensor::tape::{Node, Tape};

/// Backward, with `P` the probabilities: `dV = Pᵀ dO`, `dP = dO Vᵀ`,
/// `dS = scale · P (dP − rowsum(dO O))`, `dQ = dS K`, `dK = dSᵀ Q`.
pub fn attention<T: Float>(
    tape: &Tape,
    [q, k, v]: [&Node; 3],
    form: &Attention,
    starts: &Starts,
) -> Result<Node> {
    let n = check([q, k, v], form, starts)?;
    let (width, kv_width) = (form.heads * form.head_dim, form.kv_heads * form.head_dim);
    let inputs = [q, k, v].map(|node| node.value().contiguous());
    let [Ok(q_value), Ok(k_value), Ok(v_value)] = inputs else {
        return Err(Error::Backend {
            backend: "ops",
            message: "attention: no memory for contiguous inputs".into(),
        });
    };
    // SAFETY: the tasks write every number of both.
    let mut out = unsafe { unwritten::<T>(n * width) };
    let mut lse = unsafe { unwritten::<T>(n * form.heads) };
    forward::forward(
        [
            &Slice::new(&q_value)?,
            &Slice::new(&k_value)?,
            &Slice::new(&v_value)?,
        ],
        [Shared::new(&mut out), Shared::new(&mut lse)],
        form,
        starts,
    );
    let out = tensor(out, (n, width))?;
    Ok(tape.record(out.clone(), &[q, k, v], || {
        let (q, k, v) = (q.target(), k.target(), v.target());
        let (form, starts) = (form.clone(), starts.clone());
        Box::new(move |gradient, sums| {
            let gradient = gradient.contiguous()?;
            // SAFETY: the tasks write every number.
            let mut dq = unsafe { unwritten::<T>(n * width) };
            let mut dk = unsafe { unwritten::<T>(n * kv_width) };
            let mut dv = unsafe { unwritten::<T>(n * kv_width) };
            backward::backward(
                &backward::Inputs {
                    q: &Slice::new(&q_value)?,
                    k: &Slice::new(&k_value)?,
                    v: &Slice::new(&v_value)?,
                    out: &Slice::new(&out)?,
                    lse: &lse,
                    gradient: &Slice::new(&gradient)?,
                },
                [&mut dq, &mut dk, &mut dv],
                &form,
                &starts,
            );
            sums.add(&q, tensor(dq, (n, width))?)?;
            sums.add(&k, tensor(dk, (n, kv_width))?)?;
            sums.add(&v, tensor(dv, (n, kv_width))?)
        })
    }))
}

/// The number of rows; an error unless all shapes fit.
pub fn check([q, k, v]: [&Node; 3], form: &Attention, starts: &Starts) -> Result<usize> {
    let Attention {
        heads,
        kv_heads,
        head_dim,
        window,
        ref slopes,
        ..
    } = *form;
    if kv_heads == 0 || heads % kv_heads != 0 || window == Some(0) {
        return Err(Error::invalid(
            "attention",
            format!("{heads} heads, {kv_heads} key heads, window {window:?}"),
            "key heads divide heads, and a token sees at least itself",
        ));
    }
    if let Some(slopes) = slopes {
        same("attention", slopes.len(), heads)?;
    }
    let (n, width) = q.value().dims2()?;
    same("attention", width, heads * head_dim)?;
    for node in [k, v] {
        let (rows, width) = node.value().dims2()?;
        same("attention", n, rows)?;
        same("attention", width, kv_heads * head_dim)?;
    }
    same("attention", n, starts.last().copied().unwrap_or(0))?;
    Ok(n)
}

/// A head's slope, if it has one.
fn slope<T: Float>(form: &Attention, head: usize) -> Option<T> {
    form.slopes.as_ref().map(|slopes| T::of(slopes[head]))
}

/// A piece, whose queries see it and what it goes on from, and a key head.
#[derive(Clone)]
pub struct Task {
    span: Span,
    head: usize,
    /// Rows of prefixes of the pieces before it.
    before: usize,
}

fn tasks(form: &Attention, starts: &Starts) -> Vec<Task> {
    let mut tasks = Vec::new();
    let mut before = 0;
    for span in starts.filled() {
        tasks.extend((0..form.kv_heads).map(|head| Task {
            span: span.clone(),
            head,
            before,
        }));
        before += span.prefix.len();
    }
    tasks
}

impl Task {
    /// Positions of its queries.
    fn queries(&self) -> Range<usize> {
        self.span.prefix.len()..self.span.length()
    }

    /// The rows of its keys or values, one after another.
    fn gathered<T: Float>(&self, numbers: &[T], form: &Attention) -> Vec<T> {
        let (d, width) = (form.head_dim, form.kv_heads * form.head_dim);
        let mut rows = Vec::with_capacity(self.span.length() * d);
        for row in self.span.rows() {
            rows.extend_from_slice(&numbers[row * width + self.head * d..][..d]);
        }
        rows
    }
}

/// Queries `from..to` of a sequence, which see keys `first..to`.
#[derive(Clone, Copy)]
pub struct Block {
    from: usize,
    to: usize,
    first: usize,
    window: usize,
}

/// Most queries of a block.
const MOST: usize = 64;

/// Keys are taken in as many as vectors hold.
const ALIGN: usize = 16;

impl Block {
    /// Those of a sequence whose queries are at those positions, the last at its end. They have the borders, and see the
    /// keys, that blocks of all its positions would have and see.
    fn all(queries: Range<usize>, window: Option<usize>) -> impl Iterator<Item = Self> {
        let Range { start, end } = queries;
        let size = Self::size(end);
        let window = window.unwrap_or(end);
        (start / size * size..end)
            .step_by(size)
            .map(move |at| Self {
                from: at.max(start),
                to: end.min(at + size),
                first: (at + 1).saturating_sub(window) / ALIGN * ALIGN,
                window,
            })
    }

    /// So many that a block's scores stay in the cache.
    pub fn size(length: usize) -> usize {
        (16_384 / length.max(1)).clamp(16, MOST)
    }

    fn rows(&self) -> usize {
        self.to - self.from
    }

    /// Keys, rounded up.
    fn keys(&self) -> usize {
        (self.to - self.first).next_multiple_of(ALIGN)
    }

    /// The keys that each row's query sees, among the block's.
    fn seen(&self, row: usize) -> std::ops::Range<usize> {
        let query = self.from + row;
        let first = (query + 1).saturating_sub(self.window);
        first.saturating_sub(self.first)..query + 1 - self.first
    }
}

/// A head's rows, copied together: `[length, head_dim]`, and transposed `[head_dim, padded]` with
/// zeros behind.
struct Head<T> {
    rows: Vec<T>,
    columns: Vec<T>,
}

impl<T: Float> Head<T> {
    fn new(numbers: &[T], task: &Task, form: &Attention) -> Self {
        let d = form.head_dim;
        let padded = task.span.length().next_multiple_of(ALIGN);
        let rows = task.gathered(numbers, form);
        let mut columns = vec![T::zero(); d * padded];
        for (i, row) in rows.chunks_exact(d).enumerate() {
            (columns.iter_mut().skip(i).step_by(padded).zip(row)).for_each(|(to, &x)| *to = x);
        }
        Self { rows, columns }
    }
}

/// `scores ← scale · scores − slope · (i − j)` of query i and the keys j up to it.
#[inline(always)]
fn sloped<T: Float>(scores: &mut [T], scale: T, slope: T) {
    let n = scores.len();
    for (j, score) in scores.iter_mut().enumerate() {
        *score = scale * *score - slope * T::of((n - 1 - j) as f64);
    }
}
