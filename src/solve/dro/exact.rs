//! What is known exactly of DRO's losses: limits, expected updates, values at the reference.

use super::{algorithm_1, algorithm_1_as_printed, constant, joint_regression};
use crate::bandit::{Evidence, Problem, Prompt, PromptEvidence, population};
use crate::error::Result;
use crate::loss::{Baseline, Objective};
use crate::solve::answer::by_prompt;
use crate::solve::exact::{Exact, Known, Start};
use crate::solve::update::{Place, scaled, through_softmax};
use crate::solve::{FixedPoint, Part, policy_gradient};

/// Form of the regression.
enum Form {
    /// V trained beside the policy.
    Joint,
    /// V given.
    Fixed,
    /// One V for all prompts.
    Constant,
    /// Algorithm 1 with c = 1.
    Printed,
    /// Algorithm 1 with c = β.
    Corrected,
}

pub(in crate::solve) const EXACT: &Known = &[
    (Objective::DRO_V, &Form::Joint),
    (Objective::DRO_FIXED, &Form::Fixed),
    (Objective::DRO_CONSTANT, &Form::Constant),
    (Objective::DRO_ALGORITHM_1, &Form::Printed),
    (Objective::DRO_ALGORITHM_1_CORRECTED, &Form::Corrected),
];

impl Exact for Form {
    fn fixed_point(
        &self,
        objective: Objective,
        problem: &Problem,
        evidence: &Evidence,
    ) -> Result<FixedPoint> {
        match self {
            Self::Joint => joint_regression(problem, evidence),
            Self::Constant => constant(problem, evidence),
            Self::Printed => algorithm_1_as_printed(problem, evidence),
            Self::Corrected => algorithm_1(problem, evidence, problem.beta()),
            Self::Fixed => {
                let mut point = by_prompt(objective, problem, evidence, |x, prompt, share| {
                    fixed(x, prompt, share, problem.beta())
                })?;
                point.value = problem.prompts().iter().map(|p| p.value).collect();
                Ok(point)
            }
        }
    }

    /// `h − π Σ h` with `h = −μ̄ (R − cu − V)`, times β where the loss is a square.
    fn gradient(&self, place: Place<'_>, table: &[f64]) -> Result<Vec<f64>> {
        let beta = place.beta;
        let (policy, u) = place.policy(table);
        let c = match self {
            Self::Printed => 1.0,
            _ => beta,
        };
        let reward = &place.share.reward;
        let h = (place.share.mean_law().iter().enumerate())
            .map(|(a, m)| {
                if *m > 0.0 {
                    -m * (reward[a] - c * u[a] - place.held)
                } else {
                    0.0
                }
            })
            .collect();
        let update = through_softmax(&policy, h);
        Ok(match self {
            Self::Joint | Self::Fixed | Self::Constant => scaled(beta, update),
            Self::Printed | Self::Corrected => update,
        })
    }

    fn at_reference(&self, start: &Start<'_>) -> Option<f64> {
        let squared = |value: &dyn Fn(&Prompt) -> f64| {
            start.mean(|prompt, share| {
                let v = value(prompt);
                let law = share.mean_law();
                law.iter()
                    .zip(&share.reward)
                    .map(|(m, r)| 0.5 * m * (r - v).powi(2))
                    .sum()
            })
        };
        match self {
            Self::Joint | Self::Fixed => Some(squared(&|prompt| prompt.value.unwrap_or(f64::NAN))),
            Self::Constant => {
                let pooled = start.view.threshold().at;
                Some(squared(&|_| pooled))
            }
            Self::Printed | Self::Corrected => None,
        }
    }
}

/// The limit with V held: the same field as a policy gradient with baseline V, times β/2.
fn fixed(x: usize, prompt: &Prompt, share: &PromptEvidence, beta: f64) -> Result<Part> {
    let what = "the number V(x) to hold fixed";
    let held = (prompt.value).ok_or_else(|| population::missing(x, "value", what))?;
    let part = policy_gradient::limit(x, prompt, share, beta, &Baseline::Given(held))?;
    let residual = part.residual * beta / 2.0;
    Ok(Part { residual, ..part })
}
