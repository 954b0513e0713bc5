//! The gradients of attention of narrow heads.

use super::{LANES, Lanes, Scoring, Side, Strip, added, dots, write};
use crate::llm::tensor::ops::attention::Attention;
use crate::llm::tensor::ops::attention::cpu::Task;
use crate::llm::tensor::ops::attention::cpu::backward::Inputs;
use crate::llm::tensor::ops::float::Float;
use crate::llm::tensor::ops::matmul::Shared;
use crate::llm::tensor::ops::simd::vectorised;

/// True if heads of that width are faster here than as products of matrices.
pub fn suits(head_dim: usize) -> bool {
    head_dim == 8
}

/// Writes the gradients of a task, whose heads [suit](suits).
///
/// # Safety
/// Nobody else writes the task's rows and columns.
pub unsafe fn one<T: Float>(
    inputs: &Inputs<T>,
    gradients: &[Shared<T>; 3],
    form: &Attention,
    task: Task,
) {
    assert!(suits(form.head_dim), "heads that suit");
    vectorised(
        #[inline(always)]
        || {
            // SAFETY: as promised.
            unsafe { of_head::<T, 8>(inputs, gradients, form, task) }
        },
    );
}

/// A query head of a sequence.
struct QueryHead<'a, T, const D: usize> {
    queries: Strip<'a, T, D>,
    /// dO
    gradient: Strip<'a, T, D>,
    lse: &'a [T],
    /// `Σ dO ∘ O` of each query.
    pulls: &'a [T],
    scoring: Scoring<T>,
}

/// # Safety
/// As [`one`].
#[inline(always)]
unsafe fn of_head<T: Float, const D: usize>(
    inputs: &Inputs<T>,
    [dq, dk, dv]: &[Shared<T>; 3],
    form: &Attention,
    task: Task,
) {
    let (width, kv_width) = (form.heads * D, form.kv_heads * D);
    let group = form.heads / form.kv_heads;
    let rows = [task.start, task.length];
    let keys = Strip::<T, D>::new(inputs.k, rows, kv_width, task.head);
    let values = Strip::<T, D>::new(inputs.v, rows, kv_width, task.head);
    let heads = task.head * group..(task.head + 1) * group;
    let padded = task.length.next_multiple_of(LANES);
    let (mut pulls, mut lses) = (
        vec![T::zero(); group * padded],
        vec![T::zero(); group * padded],
    );
    let mut scores = vec![[T::zero(); LANES]; task.length];
    let each = pulls
        .chunks_exact_mut(padded)
        .zip(lses.chunks_exact_mut(padded));
    for (head, (pulls, lses)) in heads.zip(each) {
        let out = Strip::<T, D>::new(inputs.out, rows, width, head);
        let gradient = Strip::<T, D>::new(inputs.gradient, rows, width, head);
        for (i, pull) in pulls[..task.length].iter_mut().enumerate() {
            let (out, gradient) = (out.row(i), gradient.row(i));
            for d in 0..D {
                *pull = out[d].mul_add(gradient[d], *pull);
            }
        }
        let at = head * inputs.q.len() / width + task.start;
        lses[..task.length].copy_from_slice(&inputs.lse[at..][..task.length]);
    }
    let of_group = |i: usize| {
        let head = task.head * group + i;
        QueryHead::<T, D> {
            queries: Strip::new(inputs.q, rows, width, head),
            gradient: Strip::new(inputs.gradient, rows, width, head),
            lse: &lses[i * padded..][..padded],
            pulls: &pulls[i * padded..][..padded],
            scoring: Scoring::new(form, head),
        }
    };
    for i in 0..group {
        // SAFETY: rows of this task's sequence, in the columns of one of its heads.
        let mut dq = unsafe {
            let at = task.start * width + (task.head * group + i) * D;
            dq.part(at, [task.length, D], width)
        };
        let mut dq = dq.rows();
        let head = of_group(i);
        for at in (0..task.length).step_by(LANES) {
            let found = of_queries(&head, [&keys, &values], at, &mut scores);
            write(&mut dq, &found, task.length - at);
        }
    }
    let at = task.start * kv_width + task.head * D;
    // SAFETY: rows of this task's sequence, in the columns of its key head.
    let [mut dk, mut dv] = [dk, dv].map(|of| unsafe { of.part(at, [task.length, D], kv_width) });
    let (mut dk, mut dv) = (dk.rows(), dv.rows());
    for at in (0..task.length).step_by(LANES) {
        let (keys, values) = (keys.tile(at), values.tile(at));
        let mut found = [[[T::zero(); LANES]; D]; 2];
        for i in 0..group {
            found = of_keys(&of_group(i), [&keys, &values], at, found, &mut scores);
        }
        write(&mut dk, &found[0], task.length - at);
        write(&mut dv, &found[1], task.length - at);
    }
}

/// The gradients of the queries from `at` on.
#[inline(always)]
fn of_queries<T: Float, const D: usize>(
    head: &QueryHead<T, D>,
    [keys, values]: [&Strip<T, D>; 2],
    at: usize,
    scores: &mut [Lanes<T>],
) -> [Lanes<T>; D] {
    let (queries, gradient) = (head.queries.tile(at), head.gradient.tile(at));
    let (lse, pull) = (&head.lse[at..at + LANES], &head.pulls[at..at + LANES]);
    let seen = head.scoring.keys(at, keys.length);
    let scores = &mut scores[..seen.len()];
    (head.scoring).write(scores, keys, seen.clone(), &queries, at, Side::Queries);
    let mut found = [[T::zero(); LANES]; D];
    for (key, scores) in seen.zip(scores.iter()) {
        let mut ds = dots(values.row(key), &gradient);
        for lane in 0..LANES {
            let p = (scores[lane] - lse[lane]).exp();
            ds[lane] = head.scoring.scale * p * (ds[lane] - pull[lane]);
        }
        found = added(found, keys.row(key), &ds);
    }
    found
}

/// The sums `dk` and `dv`, with what this head adds to them for the keys from `at` on, which lie side by side.
#[inline(always)]
fn of_keys<T: Float, const D: usize>(
    head: &QueryHead<T, D>,
    [keys, values]: [&[Lanes<T>; D]; 2],
    at: usize,
    [mut dk, mut dv]: [[Lanes<T>; D]; 2],
    scores: &mut [Lanes<T>],
) -> [[Lanes<T>; D]; 2] {
    let seeing = head.scoring.queries(at, head.queries.length);
    let scores = &mut scores[..seeing.len()];
    (head.scoring).write(scores, &head.queries, seeing.clone(), keys, at, Side::Keys);
    let numbers = head.lse[seeing.clone()]
        .iter()
        .zip(&head.pulls[seeing.clone()]);
    for ((query, scores), (&lse, &pull)) in seeing.zip(scores.iter()).zip(numbers) {
        let gradient = head.gradient.row(query);
        let (mut p, mut ds) = (*scores, dots(gradient, values));
        for lane in 0..LANES {
            p[lane] = (p[lane] - lse).exp();
            ds[lane] = head.scoring.scale * p[lane] * (ds[lane] - pull);
        }
        dk = added(dk, head.queries.row(query), &ds);
        dv = added(dv, gradient, &p);
    }
    [dk, dv]
}
