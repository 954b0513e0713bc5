//! DRO's loss at one prompt, in plain numbers from the paper's equations.

use crate::bandit::{Evidence, PairLaw, Problem, Prompt, PromptEvidence, log_sum_exp};
use crate::error::Result;
use crate::loss::InputKind;
use crate::random::{Purpose, Stream};

/// A policy at a prompt, under the law μ of single responses.
pub(super) struct Row<'a> {
    pub prompt: &'a Prompt,
    /// μ = (μ₁ + μ₂)/2.
    pub law: Vec<f64>,
    /// ln π.
    pub log: Vec<f64>,
    pub pi: Vec<f64>,
    /// ln π/π_ref.
    pub u: Vec<f64>,
}

impl<'a> Row<'a> {
    pub fn new(prompt: &'a Prompt, logits: &[f64]) -> Self {
        let normaliser = log_sum_exp(logits);
        let log: Vec<f64> = logits.iter().map(|l| l - normaliser).collect();
        let (first, second) = prompt.law.marginals();
        let u = log.iter().zip(&prompt.log_reference);
        Self {
            prompt,
            law: (first.iter().zip(&second))
                .map(|(p, q)| 0.5 * (p + q))
                .collect(),
            u: u.map(|(l, r)| l - r).collect(),
            pi: log.iter().map(|l| l.exp()).collect(),
            log,
        }
    }

    /// `r − τu`.
    pub fn regularised(&self, tau: f64) -> Vec<f64> {
        let rewards = self.prompt.reward.iter().zip(&self.u);
        rewards.map(|(r, u)| r - tau * u).collect()
    }

    /// `E_μ` of a number per arm.
    pub fn mean(&self, of: &[f64]) -> f64 {
        mean(&self.law, of)
    }

    /// `V^π = E_μ[r − τu]`.
    pub fn value(&self, tau: f64) -> f64 {
        self.mean(&self.regularised(tau))
    }

    /// `E_μ[w ∇_θ ln π]` in logits.
    pub fn along(&self, w: &[f64]) -> Vec<f64> {
        let sum = self.mean(w);
        (0..w.len())
            .map(|a| self.law[a] * w[a] - self.pi[a] * sum)
            .collect()
    }

    /// `½ E_μ[(r − V − τu)²]`.
    pub fn loss(&self, tau: f64, value: f64) -> f64 {
        let misses = self
            .regularised(tau)
            .into_iter()
            .map(|t| (t - value).powi(2));
        0.5 * self.mean(&misses.collect::<Vec<_>>())
    }

    /// Its gradient with respect to the logits.
    pub fn slope(&self, tau: f64, value: f64) -> Vec<f64> {
        let pulls: Vec<f64> = (self.regularised(tau).iter())
            .map(|t| -tau * (t - value))
            .collect();
        self.along(&pulls)
    }
}

pub(super) fn mean(law: &[f64], of: &[f64]) -> f64 {
    law.iter().zip(of).map(|(m, v)| m * v).sum()
}

/// Random logits in ±`scale`, and a random value in ±2, for each prompt.
pub(super) fn points(problem: &Problem, key: u64, scale: f64) -> Vec<(Vec<f64>, f64)> {
    let mut stream = Stream::new(key, Purpose::Start, 78);
    let mut draw = move || 2.0 * stream.uniform() - 1.0;
    (problem.prompts().iter())
        .map(|p| {
            let logits = (0..p.arms()).map(|_| scale * draw()).collect();
            (logits, 2.0 * draw())
        })
        .collect()
}

/// One prompt of a problem with its evidence.
pub(super) fn shares(problem: &Problem) -> Result<Vec<(Prompt, PromptEvidence)>> {
    let evidence = Evidence::population(problem);
    let responses = evidence.of(InputKind::Singles)?.prompts.iter().cloned();
    Ok(problem.prompts().iter().cloned().zip(responses).collect())
}

/// The problem with one law for both responses: their mean.
pub(super) fn one_law(problem: &Problem) -> Problem {
    problem.map_prompts(|_, prompt| {
        let (first, second) = prompt.law.marginals();
        let law: Vec<f64> = (first.iter().zip(&second))
            .map(|(p, q)| 0.5 * (p + q))
            .collect();
        prompt.law = PairLaw::Product {
            first: law.clone(),
            second: law,
        };
    })
}

/// The largest difference of two rows; NaN stays visible.
pub(super) fn apart(a: &[f64], b: &[f64]) -> f64 {
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    crate::magnitude::largest(&differences)
}

/// The larger of two errors; NaN stays visible.
pub(super) fn worse(a: f64, b: f64) -> f64 {
    crate::magnitude::largest([a, b])
}

/// Central differences of a function of several numbers.
pub(super) fn differences(f: impl Fn(&[f64]) -> f64, at: &[f64]) -> Vec<f64> {
    let step = 1e-5;
    (0..at.len())
        .map(|i| {
            let moved = |by: f64| {
                let mut point = at.to_vec();
                point[i] += by;
                f(&point)
            };
            (moved(step) - moved(-step)) / (2.0 * step)
        })
        .collect()
}
