//! DPO and the Bradley–Terry reward model: the scores `r = βu` that explain the labels best.
//!
//! Under Bradley–Terry labels of the true rewards that is R itself, up to a constant per component
//! of the comparison graph, so the policy is π*. On a finite dataset it is the Bradley–Terry
//! estimate, which is finite exactly when within every component each arm beats its way to each
//! other; otherwise some margin grows without bound.

use super::copg::centre;
use super::graph::{arm_list, components, describe, dominant};
use super::laplacian::solve_listed;
use super::update::{Place, gradient, inner_preference_gradient};
use super::{Part, Rest, largest, tilt};
use crate::backend::nd::{sigmoid, softplus};
use crate::bandit::{Comparisons, Edge, Prompt, PromptEvidence};
use crate::error::Result;
use crate::loss::Objective;

const CLOSED_FORM: &str = "closed form";
const ESTIMATE: &str = "Bradley–Terry estimate, Newton";

/// The fixed point of DPO or of the reward model.
///
/// # Errors
/// No pairs, or listed pairs over more than 2,000 arms.
pub fn fixed_point(
    objective: Objective,
    x: usize,
    prompt: &Prompt,
    share: &PromptEvidence,
    beta: f64,
) -> Result<Part> {
    let pairs = share.compared();
    let parts = components(pairs, prompt.arms());
    let disconnected = (parts.len() > 1).then(|| describe(&parts, prompt.kept()));
    let (scores, method) = match pairs {
        Comparisons::Listed {
            edges,
            bradley_terry: false,
        } => {
            let tops: Vec<Option<Vec<usize>>> = parts
                .iter()
                .map(|part| dominant(edges, part, prompt.arms()))
                .collect();
            let diverges = |i: &usize| {
                tops[*i]
                    .as_ref()
                    .is_none_or(|top| top.len() < parts[*i].len())
            };
            let diverging: Vec<usize> = (0..parts.len()).filter(diverges).collect();
            match diverging.as_slice() {
                [] => {}
                // Only one component's margins grow, so its top takes all mass from the others too.
                &[only] => match &tops[only] {
                    Some(top) => return separable(x, prompt, edges, top, beta),
                    None => return Ok(path_dependent()),
                },
                _ => return Ok(path_dependent()),
            }
            let mut scores = vec![0.0; prompt.arms()];
            for part in &parts {
                let fitted = estimate(edges, part, x)?;
                part.iter().zip(fitted).for_each(|(&a, s)| scores[a] = s);
            }
            (scores, ESTIMATE)
        }
        // The labels are those of the problem's rewards, whatever rewards were logged besides.
        _ => (centre(&prompt.reward, &parts), CLOSED_FORM),
    };
    let log_policy = tilt(prompt, scores.iter().map(|s| s / beta));
    let table = if objective.trains_scores() {
        &scores
    } else {
        &log_policy
    };
    Ok(Part {
        residual: largest(gradient(
            objective,
            Place::new(x, prompt, share, beta),
            table,
        )?),
        log_policy: Some(log_policy),
        method,
        unique: parts.len() == 1,
        rest: Rest::of_components(&parts),
        error: None,
        note: disconnected,
    })
}

/// Every arm outside `top` only ever loses to it: the margins towards them grow for ever, all mass
/// ends on `top`, and within it the policy is the estimate of its own comparisons.
fn separable(x: usize, prompt: &Prompt, edges: &[Edge], top: &[usize], beta: f64) -> Result<Part> {
    let fitted = estimate(edges, top, x)?;
    let mut scores = vec![f64::NEG_INFINITY; prompt.arms()];
    top.iter().zip(&fitted).for_each(|(&a, &s)| scores[a] = s);
    let gradient = inner_preference_gradient(edges, &scores, &inside(top, prompt.arms()));
    Ok(Part {
        residual: largest(gradient),
        log_policy: Some(tilt(prompt, scores.iter().map(|s| s / beta))),
        method: "limit of gradient flow, no finite minimiser",
        unique: false,
        rest: Rest::Boundary,
        error: None,
        note: Some(format!(
            "the labels are separable: no other arm ever beats one of {}, so the margin grows without \
             bound and they share all mass",
            arm_list(top, prompt.kept())
        )),
    })
}

fn path_dependent() -> Part {
    Part::none(
        "none: no finite minimiser, and the limit depends on the path",
        "the labels are separable in several ways: no arm beats its way to all others, so several \
         margins grow without bound at rates that depend on the optimiser",
    )
}

fn inside(arms: &[usize], total: usize) -> Vec<bool> {
    let mut inside = vec![false; total];
    arms.iter().for_each(|&a| inside[a] = true);
    inside
}

/// The Bradley–Terry estimate over strongly connected `arms`, summing to zero: damped Newton, each
/// step a Laplacian system.
fn estimate(edges: &[Edge], arms: &[usize], x: usize) -> Result<Vec<f64>> {
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
