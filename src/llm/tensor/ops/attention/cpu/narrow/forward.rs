//! The value of attention of narrow heads.

use super::{LANES, Lanes, Scoring, Side, Strip, added, write};
use crate::llm::tensor::ops::attention::Attention;
use crate::llm::tensor::ops::attention::cpu::Task;
use crate::llm::tensor::ops::float::Float;
use crate::llm::tensor::ops::matmul::Shared;
use crate::llm::tensor::ops::simd::vectorised;

/// True if heads of that width are faster here than as products of matrices.
pub fn suits(head_dim: usize) -> bool {
    matches!(head_dim, 8 | 16)
}

/// Writes the output and `ln Σ exp` of a task, whose heads [suit](suits).
///
/// # Safety
/// Nobody else writes the task's rows and columns.
pub unsafe fn one<T: Float>(
    qkv: [&[T]; 3],
    results: [&Shared<T>; 2],
    form: &Attention,
    task: &Task,
) {
    vectorised(
        #[inline(always)]
        || {
            // SAFETY: as promised.
            unsafe {
                match form.head_dim {
                    8 => of_head::<T, 8>(qkv, results, form, task),
                    16 => of_head::<T, 16>(qkv, results, form, task),
                    _ => unreachable!("heads that suit"),
                }
            }
        },
    );
}

/// # Safety
/// As [`one`].
#[inline(always)]
unsafe fn of_head<T: Float, const D: usize>(
    [q, k, v]: [&[T]; 3],
    [out, lse]: [&Shared<T>; 2],
    form: &Attention,
    task: &Task,
) {
    let width = form.heads * D;
    let group = form.heads / form.kv_heads;
    let [keys, values] = [k, v].map(|of| task.gathered(of, form));
    let [keys, values] = [&keys, &values].map(|of| Strip::<T, D>::gathered(of));
    let (own, count) = (task.span.own.start, task.span.own.len());
    let mut weights = vec![[T::zero(); LANES]; task.span.length()];
    for head in task.head * group..(task.head + 1) * group {
        let queries = Strip::<T, D>::own(q, task, width, head);
        let scoring = Scoring::new(form, head);
        // SAFETY: tokens of this task's piece, of one of its heads.
        let mut lse = unsafe { lse.part(head * q.len() / width + own, [1, count], count) };
        // SAFETY: rows of this task's piece, in the columns of one of its heads.
        let mut out = unsafe { out.part(own * width + head * D, [count, D], width) };
        let lse = lse.rows().next().unwrap_or_default();
        let mut out = out.rows();
        let tiles = task.queries().step_by(LANES);
        for (at, lse) in tiles.zip(lse.chunks_mut(LANES)) {
            let (sums, of_lse) = of_tile(&queries, [&keys, &values], at, scoring, &mut weights);
            write(&mut out, &sums, lse.len());
            let count = lse.len();
            lse.copy_from_slice(&of_lse[..count]);
        }
    }
}

/// The output of the queries from `at` on, and their `ln Σ exp`.
#[inline(always)]
fn of_tile<T: Float, const D: usize>(
    queries: &Strip<T, D>,
    [keys, values]: [&Strip<T, D>; 2],
    at: usize,
    scoring: Scoring<T>,
    weights: &mut [Lanes<T>],
) -> ([Lanes<T>; D], Lanes<T>) {
    let tile = queries.tile(at);
    let seen = scoring.keys(at, keys.end);
    let weights = &mut weights[..seen.len()];
    scoring.write(weights, keys, seen.clone(), &tile, at, Side::Queries);
    let mut tops = [T::of(f64::NEG_INFINITY); LANES];
    for weights in weights.iter() {
        for lane in 0..LANES {
            tops[lane] = if weights[lane] > tops[lane] {
                weights[lane]
            } else {
                tops[lane]
            };
        }
    }
    let (mut sums, mut total) = ([[T::zero(); LANES]; D], [T::zero(); LANES]);
    for (key, weights) in seen.zip(weights.iter()) {
        let mut p = *weights;
        for lane in 0..LANES {
            p[lane] = (p[lane] - tops[lane]).exp();
            total[lane] += p[lane];
        }
        sums = added(sums, values.row(key), &p);
    }
    let mut out = [[T::zero(); LANES]; D];
    for lane in 0..LANES {
        let factor = T::one() / total[lane];
        for d in 0..D {
            out[d][lane] = sums[d][lane] * factor;
        }
        tops[lane] += total[lane].ln();
    }
    (out, tops)
}
