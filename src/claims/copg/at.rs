//! A policy at one prompt, in plain numbers: what the claims' right-hand sides are computed from.

use crate::bandit::{Evidence, Problem, Prompt, log_sum_exp, population};
use crate::error::Result;
use crate::loss::{Batch, Cotangents, Objective};
use crate::magnitude::larger;
use crate::random::{Purpose, Stream};
use crate::solve::minimise;

pub(super) struct At<'a> {
    pub prompt: &'a Prompt,
    /// μ₁ and μ₂.
    pub first: Vec<f64>,
    pub second: Vec<f64>,
    pub pi: Vec<f64>,
    /// ln π/π_ref.
    pub u: Vec<f64>,
}

impl<'a> At<'a> {
    pub fn new(prompt: &'a Prompt, logits: &[f64]) -> Self {
        let normaliser = log_sum_exp(logits);
        let log: Vec<f64> = logits.iter().map(|l| l - normaliser).collect();
        let (first, second) = prompt.law.marginals();
        let u = log.iter().zip(&prompt.log_reference);
        Self {
            prompt,
            first,
            second,
            u: u.map(|(l, r)| l - r).collect(),
            pi: log.iter().map(|l| l.exp()).collect(),
        }
    }

    /// Every prompt of a problem.
    pub fn every(problem: &'a Problem, logits: &[Vec<f64>]) -> Vec<Self> {
        let prompts = problem.prompts().iter().zip(logits);
        prompts.map(|(p, l)| Self::new(p, l)).collect()
    }

    /// `R − βu`.
    pub fn regularised(&self, beta: f64) -> Vec<f64> {
        let rewards = self.prompt.reward.iter().zip(&self.u);
        rewards.map(|(r, u)| r - beta * u).collect()
    }

    /// `Σ_a c_a ∇ln π(a)` with respect to the logits.
    pub fn along(&self, c: &[f64]) -> Vec<f64> {
        let sum: f64 = c.iter().sum();
        c.iter().zip(&self.pi).map(|(c, p)| c - sum * p).collect()
    }

    /// `∇J = Σ π R_β ∇ln π` with respect to the logits.
    pub fn policy_gradient(&self, beta: f64) -> Vec<f64> {
        let weighted = self.pi.iter().zip(self.regularised(beta));
        self.along(&weighted.map(|(p, r)| p * r).collect::<Vec<_>>())
    }
}

pub(super) fn mean(law: &[f64], of: &[f64]) -> f64 {
    law.iter().zip(of).map(|(p, v)| p * v).sum()
}

/// Random logits in ±`scale`.
pub(super) fn logits(problem: &Problem, key: u64, scale: f64) -> Vec<Vec<f64>> {
    let mut stream = Stream::new(key, Purpose::Start, 77);
    let mut row = |arms| {
        (0..arms)
            .map(|_| scale * (2.0 * stream.uniform() - 1.0))
            .collect()
    };
    problem.prompts().iter().map(|p| row(p.arms())).collect()
}

/// The paper's L and its gradient: the negated loss, which is minimised.
pub(super) fn objective(problem: &Problem, logits: &[Vec<f64>]) -> Result<(f64, Vec<Vec<f64>>)> {
    let evidence = Evidence::population(problem);
    let at = population::evaluate(problem, &evidence, Objective::COPG, logits)?;
    let gradient = at.gradient.into_iter();
    let negated = |row: Vec<f64>| row.into_iter().map(|g| -g).collect();
    Ok((-at.value, gradient.map(negated).collect()))
}

/// The minimiser of an objective's loss from given logits, found numerically.
pub(super) fn minimiser(
    problem: &Problem,
    evidence: &Evidence,
    which: Objective,
    start: &[Vec<f64>],
) -> Result<crate::bandit::Policy> {
    let unflatten = |flat: &[f64]| {
        let mut rest = flat;
        let cut = |row: &Vec<f64>| {
            let (head, tail) = rest.split_at(row.len());
            rest = tail;
            head.to_vec()
        };
        start.iter().map(cut).collect::<Vec<_>>()
    };
    let loss = |flat: &[f64]| match population::evaluate(problem, evidence, which, &unflatten(flat))
    {
        Ok(at) => (at.value, at.gradient.concat()),
        Err(_) => (f64::MAX, vec![0.0; flat.len()]),
    };
    let found = minimise::smooth(loss, &start.concat())?;
    Ok(crate::bandit::Policy::softmax(&unflatten(&found.point)))
}

/// CoPG's ℓ (not negated) on every ordered pair of arms of one prompt at once, and its gradient
/// with respect to ln π of either response; `squared` for `(R_β(y) − R_β(y′))²` instead.
pub(super) fn pairs(at: &At<'_>, reward: &[f64], beta: f64, squared: bool) -> Result<Cotangents> {
    let k = at.pi.len();
    let slot = |arm: &dyn Fn(usize) -> usize, of: &dyn Fn(usize) -> f64| -> Vec<f64> {
        (0..k * k).map(|i| of(arm(i))).collect()
    };
    let (y, z) = (|i: usize| i / k, |i: usize| i % k);
    let log = |a: usize| at.u[a] + at.prompt.log_reference[a];
    let reference = |a: usize| at.prompt.log_reference[a];
    let rewards = |a: usize| reward[a];
    let mut batch = Batch {
        weight: vec![if squared { 1.0 } else { -1.0 }; k * k],
        ..Batch::default()
    };
    batch.log_policy = [slot(&y, &log), slot(&z, &log)];
    batch.log_reference = [slot(&y, &reference), slot(&z, &reference)];
    batch.reward = [slot(&y, &rewards), slot(&z, &rewards)];
    let which = if squared {
        Objective::COPG_SQUARED
    } else {
        Objective::COPG
    };
    which.bind(&beta.into())?.on_tape(&batch)
}

/// The largest difference of two lists, relative to the size of the second where that exceeds 1.
pub(super) fn gap<'a>(
    a: impl IntoIterator<Item = &'a f64>,
    b: impl IntoIterator<Item = &'a f64>,
) -> f64 {
    let (mut difference, mut size) = (0.0f64, 1.0f64);
    for (a, b) in a.into_iter().zip(b) {
        let d = (a - b).abs();
        // Not f64::max, which would hide a NaN.
        difference = if d <= difference { difference } else { d };
        size = larger(size, b.abs());
    }
    difference / size
}
