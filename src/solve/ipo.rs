//! IPO: weighted least squares on the comparison graph.
//!
//! `L_w v = r` with `r_a = Σ_b w_ab (p_ab − ½)`, then `u = v/β` (or `2v/β` in GPO's scaling). This
//! is the maximiser of the expected preference `E_{y′~μ₂} σ(R(y) − R(y′))` of CoPG's section 5
//! only when both laws agree, or with two arms.

use super::graph::{components, describe};
use super::laplacian::{solve_listed, solve_product};
use super::update::{Place, gradient};
use super::{Part, Rest, largest, tilt};
use crate::bandit::{Comparisons, Edge, Prompt, PromptEvidence};
use crate::error::Result;
use crate::loss::Objective;

/// IPO's fixed point, in the scaling of `objective`.
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
    let (v, parts) = least_squares(x, prompt, share, pairs)?;
    let target = if objective == Objective::IpoGpo {
        2.0
    } else {
        1.0
    };
    let log_policy = tilt(prompt, v.iter().map(|v| target * v / beta));
    Ok(Part {
        residual: largest(gradient(
            objective,
            Place::new(x, prompt, share, beta),
            &log_policy,
        )?),
        log_policy: Some(log_policy),
        method: match pairs {
            Comparisons::Product { .. } => "least squares, diagonal plus rank two",
            Comparisons::Listed { .. } => "least squares, star-mesh elimination",
        },
        unique: parts.len() == 1,
        rest: Rest::of_components(&parts),
        error: None,
        note: (parts.len() > 1).then(|| describe(&parts, prompt.kept())),
    })
}

/// `(v, components)` with v summing to zero over each component, as gradient flow from the
/// reference leaves it.
fn least_squares(
    x: usize,
    prompt: &Prompt,
    share: &PromptEvidence,
    pairs: &Comparisons,
) -> Result<(Vec<f64>, Vec<Vec<usize>>)> {
    let parts = components(pairs, prompt.arms());
    let pull = pairs.pull(&share.reward);
    let mut v = match pairs {
        Comparisons::Product { first, second } => solve_product(first, second, &pull),
        Comparisons::Listed { edges, .. } => {
            let mut v = vec![0.0; prompt.arms()];
            for part in &parts {
                let values = solve_listed(edges, Edge::weight, part, &pull, x)?;
                part.iter().zip(values).for_each(|(&a, value)| v[a] = value);
            }
            v
        }
    };
    for part in &parts {
        let mean = part.iter().map(|&a| v[a]).sum::<f64>() / part.len() as f64;
        part.iter().for_each(|&a| v[a] -= mean);
    }
    Ok((v, parts))
}
