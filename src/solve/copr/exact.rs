//! What is known exactly of COPR's fits and of the likelihood: limits, expected updates, values at the reference.

use super::limit::limit;
use super::{Divergence, Target, linear_advantage};
use crate::bandit::{Evidence, Problem, Prompt, log_sum_exp};
use crate::error::Result;
use crate::loss::Objective;
use crate::solve::answer::by_prompt;
use crate::solve::exact::{Exact, Known, Start};
use crate::solve::update::Place;
use crate::solve::{FixedPoint, Part, largest, log_softmax};

/// Form of the fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Form {
    /// KL(P_θ‖P*).
    Reverse,
    /// KL(P*‖P_θ), summed over the list.
    Forward,
    /// KL(P*‖P_θ), the mean over the list.
    ForwardMean,
    /// KL(P_θ‖P*) − ln π(best).
    WithLikelihood,
    /// −ln π(best).
    Likelihood,
}

pub(in crate::solve) const EXACT: &Known = &[
    (Objective::COPR, &Form::Reverse),
    (Objective::COPR_FORWARD, &Form::Forward),
    (Objective::COPR_FORWARD_MEAN, &Form::ForwardMean),
    (Objective::COPR_SFT, &Form::WithLikelihood),
    (Objective::SFT, &Form::Likelihood),
];

impl Exact for Form {
    fn fixed_point(
        &self,
        objective: Objective,
        problem: &Problem,
        evidence: &Evidence,
    ) -> Result<FixedPoint> {
        by_prompt(objective, problem, evidence, |x, prompt, share| {
            let beta = problem.beta();
            let part = limit(*self, x, prompt, share, beta)?;
            let place = Place::new(x, prompt, share, beta);
            let residual = (part.log_policy.as_ref())
                .map(|log| self.gradient(place, log))
                .transpose()?
                .map_or(0.0, largest);
            Ok(Part { residual, ..part })
        })
    }

    fn gradient(&self, place: Place<'_>, table: &[f64]) -> Result<Vec<f64>> {
        match self {
            Self::Reverse => reverse(&place, table, 0.0),
            Self::WithLikelihood => reverse(&place, table, 1.0),
            Self::Forward => forward(&place, table, false),
            Self::ForwardMean => forward(&place, table, true),
            Self::Likelihood => best(&place, table),
        }
    }

    fn at_reference(&self, start: &Start<'_>) -> Option<f64> {
        let beta = start.problem.beta();
        Some(start.mean(|prompt, _| {
            let list = Reference::new(prompt, beta);
            match self {
                Self::Reverse => list.reverse(),
                Self::Forward => list.forward(),
                Self::ForwardMean => {
                    list.forward() / prompt.ranking.as_ref().map_or(1, Vec::len) as f64
                }
                Self::Likelihood => best_at_reference(prompt),
                Self::WithLikelihood => list.reverse() + best_at_reference(prompt),
            }
        }))
    }
}

/// The reference on a prompt's list.
struct Reference {
    beta: f64,
    /// Its share of each response.
    p: Vec<f64>,
    /// The advantage of each.
    a: Vec<f64>,
    /// `ln E e^{A/β}`.
    normaliser: f64,
}

impl Reference {
    fn new(prompt: &Prompt, beta: f64) -> Self {
        let list = prompt.ranking.clone().unwrap_or_default();
        let on: Vec<f64> = list
            .iter()
            .map(|&a| prompt.log_reference[a as usize])
            .collect();
        let total = log_sum_exp(&on);
        let p: Vec<f64> = on.iter().map(|l| (l - total).exp()).collect();
        let n = list.len();
        let a: Vec<f64> = (1..=n).map(|j| linear_advantage(j, n)).collect();
        let normaliser = p
            .iter()
            .zip(&a)
            .map(|(p, a)| p * (a / beta).exp())
            .sum::<f64>()
            .ln();
        Self {
            beta,
            p,
            a,
            normaliser,
        }
    }

    /// KL(P_θ‖P*).
    fn reverse(&self) -> f64 {
        let both = self.p.iter().zip(&self.a);
        self.normaliser - both.map(|(p, a)| p * a / self.beta).sum::<f64>()
    }

    /// KL(P*‖P_θ).
    fn forward(&self) -> f64 {
        let tilted =
            |(p, a): (&f64, &f64)| p * (a / self.beta - self.normaliser).exp() * a / self.beta;
        self.p.iter().zip(&self.a).map(tilted).sum::<f64>() - self.normaliser
    }
}

fn best_at_reference(prompt: &Prompt) -> f64 {
    let best = prompt.ranking.as_ref().and_then(|r| r.last().copied());
    best.map_or(0.0, |a| -prompt.log_reference[a as usize])
}

/// The mean over the prompt's lists of one gradient each, at the policy of a table.
fn mean(
    place: &Place<'_>,
    table: &[f64],
    each: impl Fn(&Target, &[f64]) -> Vec<f64>,
) -> Result<Vec<f64>> {
    let log_policy = log_softmax(table);
    let mut sum = vec![0.0; table.len()];
    for (list, part) in &place.share.lists {
        let target = Target::ranked(place.prompt, list, place.beta)?;
        (sum.iter_mut().zip(each(&target, &log_policy))).for_each(|(s, g)| *s += part * g);
    }
    Ok(sum)
}

/// `P_θ (ln P_θ/P* − KL(P_θ‖P*))`, plus `likelihood · (π − 1_best)`.
fn reverse(place: &Place<'_>, table: &[f64], likelihood: f64) -> Result<Vec<f64>> {
    mean(place, table, |target, log_policy| {
        target.gradient_with_likelihood(log_policy, Divergence::Reverse, likelihood)
    })
}

/// `P_θ − P*`, over J for the mean.
fn forward(place: &Place<'_>, table: &[f64], divide: bool) -> Result<Vec<f64>> {
    mean(place, table, |target, log_policy| {
        let mut gradient = target.gradient(log_policy, Divergence::Forward);
        if divide {
            let len = target.arms.len() as f64;
            gradient.iter_mut().for_each(|g| *g /= len);
        }
        gradient
    })
}

/// `π − 1_best`.
fn best(place: &Place<'_>, table: &[f64]) -> Result<Vec<f64>> {
    mean(place, table, |target, log_policy| {
        let mut gradient: Vec<f64> = log_policy.iter().map(|l| l.exp()).collect();
        gradient[target.top()] -= 1.0;
        gradient
    })
}
