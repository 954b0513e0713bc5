//! DPO and the Bradley–Terry reward model: the scores `r = βu` that explain the labels best.
//!
//! Under Bradley–Terry labels of the true rewards that is R itself, up to a constant per component
//! of the comparison graph, so the policy is π*. On a finite dataset it is the Bradley–Terry
//! estimate, which is finite exactly when within every component each arm beats its way to each
//! other; otherwise some margins grow without bound, and gradient flow has a limit all the same.

mod estimate;
mod runoff;

use super::answer::{by_prompt, few_arms};
use super::copg::centre;
use super::exact::{Exact, Known, Start};
use super::graph::{components, describe, strong_components};
use super::update::{Place, scaled};
use super::{FixedPoint, Part, QUADRATIC_CAP, Rest, largest, tilt};
use crate::bandit::{Comparisons, Evidence, Problem};
use crate::error::Result;
use crate::loss::Objective;
use estimate::estimate;
pub(super) use estimate::inside;

const CLOSED_FORM: &str = "closed form";
const ESTIMATE: &str = "Bradley–Terry estimate, Newton";

/// The policy's log-ratios as scores, or scores as they are.
enum Trained {
    Policy,
    Scores,
}

pub(super) const EXACT: &Known = &[
    (Objective::DPO, &Trained::Policy),
    (Objective::REWARD_MODEL, &Trained::Scores),
];

impl Exact for Trained {
    fn fixed_point(
        &self,
        objective: Objective,
        problem: &Problem,
        evidence: &Evidence,
    ) -> Result<FixedPoint> {
        by_prompt(objective, problem, evidence, |x, prompt, share| {
            few_arms("a fit of the Bradley–Terry model", QUADRATIC_CAP, x, prompt)?;
            self.limit(Place::new(x, prompt, share, problem.beta()))
        })
    }

    fn gradient(&self, place: Place<'_>, table: &[f64]) -> Result<Vec<f64>> {
        let pairs = place.share.compared();
        let pull = pairs.pull(&place.share.reward);
        let gap = |scores: &[f64]| -> Vec<f64> {
            (pairs.logistic_pull(scores).iter().zip(pull))
                .map(|(a, b)| a - b)
                .collect()
        };
        Ok(match self {
            Self::Scores => gap(table),
            Self::Policy => {
                let beta = place.beta;
                scaled(beta, gap(&scaled(beta, place.log_ratio(table))))
            }
        })
    }

    fn at_reference(&self, _: &Start<'_>) -> Option<f64> {
        Some(std::f64::consts::LN_2)
    }
}

impl Trained {
    fn limit(&self, place: Place<'_>) -> Result<Part> {
        let Place {
            x,
            prompt,
            share,
            beta,
            ..
        } = place;
        let pairs = share.compared();
        let parts = components(pairs, prompt.arms());
        let disconnected = (parts.len() > 1).then(|| describe(&parts, prompt.kept()));
        let (scores, method) = match pairs {
            Comparisons::Listed {
                edges,
                bradley_terry: false,
            } => {
                let groups = strong_components(edges, prompt.arms());
                if groups.len() > parts.len() {
                    return runoff::limit(x, prompt, edges, &groups, &parts, beta);
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
        let table = match self {
            Self::Scores => &scores,
            Self::Policy => &log_policy,
        };
        Ok(Part {
            residual: largest(self.gradient(place, table)?),
            log_policy: Some(log_policy),
            method,
            unique: parts.len() == 1,
            rest: Rest::of_components(&parts),
            error: None,
            note: disconnected,
        })
    }
}
