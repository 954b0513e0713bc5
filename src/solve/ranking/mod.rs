//! Losses on ranked lists that compare the responses' own probabilities, RRHF and PRO, with the likelihood of the best
//! response beside.
//!
//! On one list of a prompt both have the infimum 0 (with the likelihood only there) where all probability is on the
//! best response. RRHF is convex in the logits. PRO is not, but no other point is at rest: with `g = ∂L/∂ln π` a rest
//! has `g = π Σ g`, and `g < 0` at the best response while `g > 0` at the worst; and where a response vanishes those
//! below it do, or the loss were infinite, so that on every face the same two signs are left. Without the likelihood
//! that takes a list of all arms. Everything else is followed numerically, [`general`].

mod pro;
mod rrhf;

use super::answer::by_prompt;
use super::copr::linear_advantage;
use super::exact::{Exact, Known, Start};
use super::general;
use super::update::{Place, through_softmax};
use super::{FixedPoint, Part, Rest, log_softmax};
use crate::bandit::{Evidence, Problem, Prompt, PromptEvidence};
use crate::error::Result;
use crate::loss::{Given, Numbers, Objective, pro::Contrast, rrhf::Ranked};

pub(super) const EXACT: &Known = &[(Objective::RRHF, &Form::Rrhf), (Objective::PRO, &Form::Pro)];

/// Loss on a list, by its formula.
enum Form {
    Rrhf,
    Pro,
}

/// What weighs a list's likelihood, and the factor of its advantages.
#[derive(Clone, Copy)]
struct Weights {
    likelihood: f64,
    scale: f64,
}

impl Form {
    fn weights(&self, given: &Given) -> Result<Weights> {
        Ok(match self {
            Self::Rrhf => Weights {
                likelihood: Ranked::read(given)?.sft_weight,
                scale: 1.0,
            },
            Self::Pro => {
                let Contrast {
                    advantage_scale,
                    sft_weight,
                } = Contrast::read(given)?;
                Weights {
                    likelihood: sft_weight,
                    scale: advantage_scale,
                }
            }
        })
    }

    /// Weight of a list's likelihood.
    fn likelihood(&self, weights: Weights, list: &[u32]) -> f64 {
        match self {
            Self::Rrhf => weights.likelihood,
            Self::Pro => weights.likelihood * (list.len() as f64 - 1.0).powi(2),
        }
    }

    /// Value and gradient of the part that compares, at ln π of a list's responses, worst first.
    fn compared(&self, log: &[f64], scale: f64) -> (f64, Vec<f64>) {
        match self {
            Self::Rrhf => rrhf::compared(log),
            Self::Pro => pro::compared(log, scale),
        }
    }

    /// Whether one list has the limit that is known.
    fn known(&self, weights: Weights, prompt: &Prompt, list: &[u32]) -> bool {
        let whole = list.len() == prompt.arms();
        match self {
            Self::Rrhf => weights.likelihood > 0.0,
            Self::Pro => list.len() == 1 || weights.likelihood > 0.0 || whole,
        }
    }
}

fn on(list: &[u32], log: &[f64]) -> Vec<f64> {
    list.iter().map(|&a| log[a as usize]).collect()
}

impl Exact for Form {
    fn fixed_point(
        &self,
        objective: Objective,
        problem: &Problem,
        evidence: &Evidence,
    ) -> Result<FixedPoint> {
        let weights = self.weights(&problem.given())?;
        let view = evidence.of(objective.spec().inputs)?;
        let one = |(prompt, share): (&Prompt, &PromptEvidence)| match share.lists.as_slice() {
            [(list, _)] => self.known(weights, prompt, list),
            lists => lists.is_empty(),
        };
        if !problem.prompts().iter().zip(&view.prompts).all(one) {
            return general::fixed_point(objective, problem, evidence);
        }
        by_prompt(objective, problem, evidence, |_, prompt, share| {
            Ok(match share.lists.as_slice() {
                [(list, _)] if self.likelihood(weights, list) > 0.0 || list.len() > 1 => {
                    best(prompt, list)
                }
                _ => Part {
                    log_policy: Some(prompt.log_reference.clone()),
                    method: "closed form",
                    residual: 0.0,
                    unique: false,
                    rest: Rest::Neutral,
                    error: None,
                    note: Some(
                        "a list of one compares nothing, so it stays at the reference".into(),
                    ),
                },
            })
        })
    }

    fn gradient(&self, place: Place<'_>, table: &[f64]) -> Result<Vec<f64>> {
        let own = Given::from(place.beta);
        let weights = self.weights(place.given.unwrap_or(&own))?;
        let log = log_softmax(table);
        let policy: Vec<f64> = log.iter().map(|l| l.exp()).collect();
        let mut slope = vec![0.0; table.len()];
        for (list, part) in &place.share.lists {
            let (_, compared) = self.compared(&on(list, &log), weights.scale);
            for (&a, g) in list.iter().zip(compared) {
                slope[a as usize] += part * g;
            }
            if let Some(&top) = list.last() {
                slope[top as usize] -= part * self.likelihood(weights, list);
            }
        }
        Ok(through_softmax(&policy, slope))
    }

    fn at_reference(&self, start: &Start<'_>) -> Option<f64> {
        let weights = self.weights(&start.problem.given()).ok()?;
        Some(start.mean(|prompt, share| {
            let value = |(list, part): &(Vec<u32>, f64)| {
                let log = on(list, &prompt.log_reference);
                let (compared, _) = self.compared(&log, weights.scale);
                let best = log.last().copied().unwrap_or(0.0);
                part * (compared - self.likelihood(weights, list) * best)
            };
            share.lists.iter().map(value).sum()
        }))
    }

    fn approach(&self, place: Place<'_>) -> Option<Vec<f64>> {
        let own = Given::from(place.beta);
        let weights = self.weights(place.given.unwrap_or(&own)).ok()?;
        let [(list, _)] = place.share.lists.as_slice() else {
            return None;
        };
        match self {
            Self::Pro if list.len() > 1 => Some(pro::approach(list, place.prompt, weights.scale)),
            _ => None,
        }
    }
}

/// All probability on the best response.
fn best(prompt: &Prompt, list: &[u32]) -> Part {
    let mut log = vec![f64::NEG_INFINITY; prompt.arms()];
    if let Some(&top) = list.last() {
        log[top as usize] = 0.0;
    }
    let alone = prompt.arms() == 1;
    Part {
        log_policy: Some(log),
        method: "closed form",
        residual: 0.0,
        unique: true,
        rest: if alone { Rest::Stable } else { Rest::Boundary },
        error: None,
        note: (!alone).then(|| "every arm but the best ranked goes to probability 0".into()),
    }
}

/// `T_ki = c (A_k − A_i)` of two places in a list of `len`, worst first.
fn temperature(k: usize, i: usize, len: usize, scale: f64) -> f64 {
    scale * (linear_advantage(k + 1, len) - linear_advantage(i + 1, len))
}
