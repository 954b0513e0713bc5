//! The plain numerics that properties are stated with: explicit flows and numeric minimisers.

use pistar::bandit::population::evaluate;
use pistar::bandit::{Evidence, Problem};
use pistar::loss::Objective;
use pistar::solve::minimise::smooth;

/// Gradient flow `θ̇ = −∇L` by explicit Euler steps of `step` until no entry of the update exceeds
/// `rest`, or `most` steps were taken.
pub fn flow(
    problem: &Problem,
    evidence: &Evidence,
    objective: Objective,
    start: &[Vec<f64>],
    (step, rest, most): (f64, f64, usize),
) -> Vec<Vec<f64>> {
    let mut theta = start.to_vec();
    for _ in 0..most {
        let gradient = evaluate(problem, evidence, objective, &theta)
            .unwrap()
            .gradient;
        let mut size = 0.0f64;
        for (t, g) in theta.iter_mut().flatten().zip(gradient.iter().flatten()) {
            *t -= step * g;
            size = size.max(g.abs());
        }
        if size <= rest {
            break;
        }
    }
    theta
}

/// The numeric minimiser of a population loss over logits (for a reward model: scores).
pub fn minimiser(
    problem: &Problem,
    evidence: &Evidence,
    objective: Objective,
    start: &[Vec<f64>],
) -> Vec<Vec<f64>> {
    let unflatten = |flat: &[f64]| -> Vec<Vec<f64>> {
        let mut rest = flat;
        (start.iter())
            .map(|row| {
                let (head, tail) = rest.split_at(row.len());
                rest = tail;
                head.to_vec()
            })
            .collect()
    };
    let loss = |flat: &[f64]| {
        // Where nothing is left to gain the minimiser may try a point that is no number, and would
        // go on for ever there; a zero gradient ends its run.
        match evaluate(problem, evidence, objective, &unflatten(flat)) {
            Ok(at) => (at.value, at.gradient.concat()),
            Err(_) => (f64::MAX, vec![0.0; flat.len()]),
        }
    };
    let found = smooth(loss, &start.concat()).unwrap();
    unflatten(&found.point)
}
