//! IPO: weighted least squares on the comparison graph.
//!
//! `L_w v = r` with `r_a = Σ_b w_ab (p_ab − ½)`, then `u = v/β` (or `2v/β` in GPO's scaling). This
//! is the maximiser of the expected preference `E_{y′~μ₂} σ(R(y) − R(y′))` of CoPG's section 5
//! only when both laws agree, or with two arms.

use super::answer::{by_prompt, few_arms};
use super::exact::{Exact, Known, Start};
use super::graph::{components, describe};
use super::laplacian::{solve_listed, solve_product};
use super::update::{Place, scaled};
use super::{FixedPoint, Part, QUADRATIC_CAP, Rest, largest, tilt};
use crate::bandit::{Comparisons, Edge, Evidence, Problem, Prompt, PromptEvidence};
use crate::error::Result;
use crate::loss::Objective;

/// A scaling: its gradient is `scale · (L_w u − target · r/β)`.
struct Scaling {
    scale: fn(f64) -> f64,
    target: f64,
    /// Its value at the reference, at a β.
    at_reference: fn(f64) -> f64,
}

pub(super) const EXACT: &Known = &[
    (
        Objective::IPO,
        &Scaling {
            scale: |_| 2.0,
            target: 1.0,
            at_reference: |beta| 0.25 / (beta * beta),
        },
    ),
    (
        Objective::IPO_COPG,
        &Scaling {
            scale: |beta| 2.0 * beta * beta,
            target: 1.0,
            at_reference: |_| 0.25,
        },
    ),
    (
        Objective::IPO_GPO,
        &Scaling {
            scale: |beta| 2.0 * beta * beta,
            target: 2.0,
            at_reference: |_| 1.0,
        },
    ),
];

impl Exact for Scaling {
    fn fixed_point(
        &self,
        objective: Objective,
        problem: &Problem,
        evidence: &Evidence,
    ) -> Result<FixedPoint> {
        by_prompt(objective, problem, evidence, |x, prompt, share| {
            few_arms("IPO", QUADRATIC_CAP, x, prompt)?;
            self.limit(Place::new(x, prompt, share, problem.beta()))
        })
    }

    fn gradient(&self, place: Place<'_>, table: &[f64]) -> Result<Vec<f64>> {
        let pairs = place.share.compared();
        let pull = pairs.pull(&place.share.reward);
        let target = self.target / place.beta;
        let update = (pairs.laplacian(&place.log_ratio(table)).iter().zip(pull))
            .map(|(lu, r)| lu - target * r)
            .collect();
        Ok(scaled((self.scale)(place.beta), update))
    }

    fn at_reference(&self, start: &Start<'_>) -> Option<f64> {
        Some((self.at_reference)(start.problem.beta()))
    }
}

impl Scaling {
    fn limit(&self, place: Place<'_>) -> Result<Part> {
        let Place {
            x,
            prompt,
            share,
            beta,
            ..
        } = place;
        let pairs = share.compared();
        let (v, parts) = least_squares(x, prompt, share, pairs)?;
        let log_policy = tilt(prompt, v.iter().map(|v| self.target * v / beta));
        Ok(Part {
            residual: largest(self.gradient(place, &log_policy)?),
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
