//! The gradients of attention of narrow heads.

use super::{LANES, Lanes, Scoring, Side, Strip, added, dots, write};
use crate::llm::tensor::ops::attention::Attention;
use crate::llm::tensor::ops::attention::cpu::Task;
use crate::llm::tensor::ops::attention::cpu::backward::{Inputs, OfKeys};
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
    dq: &Shared<T>,
    of_keys: &[OfKeys<T>; 2],
    form: &Attention,
    task: &Task,
) {
    assert!(suits(form.head_dim), "heads that suit");
    vectorised(
        #[inline(always)]
        || {
            // SAFETY: as promised.
            unsafe { of_head::<T, 8>(inputs, dq, of_keys, form, task) }
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
    dq: &Shared<T>,
    [of_k, of_v]: &[OfKeys<T>; 2],
    form: &Attention,
    task: &Task,
) {
    let width = form.heads * D;
    let group = form.heads / form.kv_heads;
    let [keys, values] = [inputs.k, inputs.v].map(|of| task.gathered(of, form));
    let [keys, values] = [&keys, &values].map(|of| Strip::<T, D>::gathered(of));
    let heads = task.head * group..(task.head + 1) * group;
    let (own, count) = (task.span.own.start, task.span.own.len());
    let padded = count.next_multiple_of(LANES);
    let (mut pulls, mut lses) = (
        vec![T::zero(); group * padded],
        vec![T::zero(); group * padded],
    );
    let mut scores = vec![[T::zero(); LANES]; task.span.length()];
    let each = pulls
        .chunks_exact_mut(padded)
        .zip(lses.chunks_exact_mut(padded));
    for (head, (pulls, lses)) in heads.zip(each) {
        let out = Strip::<T, D>::own(inputs.out, task, width, head);
        let gradient = Strip::<T, D>::own(inputs.gradient, task, width, head);
        for (at, pull) in task.queries().zip(pulls) {
            let (out, gradient) = (out.row(at), gradient.row(at));
            for d in 0..D {
                *pull = out[d].mul_add(gradient[d], *pull);
            }
        }
        let at = head * inputs.q.len() / width + own;
        lses[..count].copy_from_slice(&inputs.lse[at..][..count]);
    }
    let of_group = |i: usize| {
        let head = task.head * group + i;
        QueryHead::<T, D> {
            queries: Strip::own(inputs.q, task, width, head),
            gradient: Strip::own(inputs.gradient, task, width, head),
            lse: &lses[i * padded..][..padded],
            pulls: &pulls[i * padded..][..padded],
            scoring: Scoring::new(form, head),
        }
    };
    for i in 0..group {
        // SAFETY: rows of this task's piece, in the columns of one of its heads.
        let mut dq = unsafe {
            let at = own * width + (task.head * group + i) * D;
            dq.part(at, [count, D], width)
        };
        let mut dq = dq.rows();
        let head = of_group(i);
        for at in task.queries().step_by(LANES) {
            let found = of_queries(&head, [&keys, &values], at, &mut scores);
            write(&mut dq, &found, head.queries.end - at);
        }
    }
    let mut gradients = [(); 2].map(|()| vec![T::zero(); keys.end * D]);
    let [mut dk, mut dv] = gradients.each_mut().map(|of| of.chunks_exact_mut(D));
    for at in (0..keys.end).step_by(LANES) {
        let (keys, values, most) = (keys.tile(at), values.tile(at), keys.end - at);
        let mut found = [[[T::zero(); LANES]; D]; 2];
        for i in 0..group {
            found = of_keys(&of_group(i), [&keys, &values], at, found, &mut scores);
        }
        write(&mut dk, &found[0], most);
        write(&mut dv, &found[1], most);
    }
    // SAFETY: as promised.
    unsafe {
        of_k.write(task, form, &gradients[0]);
        of_v.write(task, form, &gradients[1]);
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
    let first = at - head.queries.first;
    let [lse, pull] = [head.lse, head.pulls].map(|of| &of[first..first + LANES]);
    let seen = head.scoring.keys(at, keys.end);
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
    let all = head.queries.first..head.queries.end;
    let seeing = head.scoring.queries(at, all.clone());
    let scores = &mut scores[..seeing.len()];
    (head.scoring).write(scores, &head.queries, seeing.clone(), keys, at, Side::Keys);
    let rows = seeing.start - all.start..seeing.end - all.start;
    let numbers = head.lse[rows.clone()].iter().zip(&head.pulls[rows]);
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
