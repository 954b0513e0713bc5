//! The Bradley–Terry estimate of labelled pairs.

use crate::backend::nd::{sigmoid, softplus};
use crate::bandit::Edge;
use crate::error::Result;
use crate::solve::laplacian::solve_listed;
use crate::solve::largest;
use crate::solve::update::inner_preference_gradient;

/// Of all arms, whether each is one of these.
pub(in crate::solve) fn inside(arms: &[usize], total: usize) -> Vec<bool> {
    let mut inside = vec![false; total];
    arms.iter().for_each(|&a| inside[a] = true);
    inside
}

/// The Bradley–Terry estimate over strongly connected `arms`, summing to zero: damped Newton, each
/// step a Laplacian system.
pub(super) fn estimate(edges: &[Edge], arms: &[usize], x: usize) -> Result<Vec<f64>> {
    let total = arms.last().map_or(0, |a| a + 1);
    let inside = inside(arms, total);
    let edges: Vec<Edge> = (edges.iter().copied())
        .filter(|e| {
            e.a != e.b && (e.b as usize) < total && inside[e.a as usize] && inside[e.b as usize]
        })
        .collect();
    let mut scores = vec![0.0; total];
    let gap = |s: &[f64], e: &Edge| s[e.a as usize] - s[e.b as usize];
    let loss = |s: &[f64]| -> f64 {
        (edges.iter())
            .map(|e| e.wins * softplus(-gap(s, e)) + e.losses * softplus(gap(s, e)))
            .sum()
    };
    let mut value = loss(&scores);
    for _ in 0..200 {
        let g = inner_preference_gradient(&edges, &scores, &inside);
        let curvature = |e: &Edge| {
            let s = sigmoid(gap(&scores, e));
            e.weight() * s * (1.0 - s)
        };
        let downhill: Vec<f64> = g.iter().map(|g| -g).collect();
        let step = solve_listed(&edges, curvature, arms, &downhill, x)?;
        let mean = step.iter().sum::<f64>() / step.len() as f64;
        let size = largest(step.iter().map(|s| s - mean));
        let decrease: f64 = arms
            .iter()
            .zip(&step)
            .map(|(&a, s)| g[a] * (s - mean))
            .sum();
        // Halve until the loss falls enough; at rounding level take the full Newton step and stop.
        let last = size < 1e-9 * (1.0 + largest(scores.iter().copied()));
        let mut length = 1.0;
        loop {
            let mut moved = scores.clone();
            arms.iter()
                .zip(&step)
                .for_each(|(&a, s)| moved[a] += length * (s - mean));
            let new = loss(&moved);
            // Below the loss's rounding its fall cannot be seen, and the step is Newton's own.
            let unseen = -decrease <= 1e-12 * value;
            if last || unseen || new <= value + 1e-4 * length * decrease || length < 1e-12 {
                (scores, value) = (moved, new);
                break;
            }
            length /= 2.0;
        }
        if last {
            break;
        }
    }
    Ok(arms.iter().map(|&a| scores[a]).collect())
}
