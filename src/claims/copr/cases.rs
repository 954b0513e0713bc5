//! Random prompts with rankings.

use super::super::random_problems;
use crate::bandit::{Prompt, log_sum_exp};
use crate::error::Result;
use crate::random::{Purpose, Stream};
use crate::solve::copr::{Target, linear_advantage};

/// A prompt, some of its arms from worst to best, and the sampling distribution to fit.
pub(super) struct Case {
    pub prompt: Prompt,
    pub beta: f64,
    pub ranking: Vec<u32>,
    /// Its `ln P*` is π* conditioned on Y.
    pub target: Target,
    /// π* with the linear advantages as rewards on Y, and the latent rewards off it.
    pub log_optimum: Vec<f64>,
}

impl Case {
    /// π* with the mass of Y set to `on`, its odds within and without Y kept.
    pub fn with_mass(&self, on: f64) -> Vec<f64> {
        let off: Vec<f64> = (0..self.log_optimum.len())
            .filter(|a| !self.target.arms.contains(a))
            .map(|a| self.log_optimum[a])
            .collect();
        let mut log: Vec<f64> = (self.log_optimum.iter())
            .map(|l| l - log_sum_exp(&off) + (-on).ln_1p())
            .collect();
        (self.target.arms.iter().zip(&self.target.log)).for_each(|(&a, l)| log[a] = l + on.ln());
        log
    }
}

/// The prompts of `count` random problems; `partial` leaves at least one arm out of each ranking.
pub(super) fn cases(count: u64, key: u64, partial: bool) -> Result<Vec<Case>> {
    let mut stream = Stream::new(key, Purpose::Start, 78);
    let mut cases = Vec::new();
    for problem in random_problems(count, key)? {
        let beta = problem.beta();
        for prompt in problem.prompts() {
            let mut ranking: Vec<u32> = (0..prompt.arms() as u32).collect();
            stream.shuffle(&mut ranking);
            if partial {
                ranking.truncate(1 + stream.below(prompt.arms() as u32 - 1) as usize);
            }
            let target = Target::ranked(prompt, &ranking, beta)?;
            let mut reward = prompt.reward.clone();
            let len = ranking.len();
            for (j, &a) in ranking.iter().enumerate() {
                reward[a as usize] = linear_advantage(j + 1, len);
            }
            let logits: Vec<f64> = (prompt.log_reference.iter().zip(&reward))
                .map(|(l, r)| l + r / beta)
                .collect();
            cases.push(Case {
                prompt: prompt.clone(),
                beta,
                ranking,
                target,
                log_optimum: log_softmax(&logits),
            });
        }
    }
    Ok(cases)
}

pub(super) fn log_softmax(logits: &[f64]) -> Vec<f64> {
    let normaliser = log_sum_exp(logits);
    logits.iter().map(|l| l - normaliser).collect()
}

/// Logits in ±`scale`.
pub(super) fn logits(stream: &mut Stream, arms: usize, scale: f64) -> Vec<f64> {
    (0..arms)
        .map(|_| scale * (2.0 * stream.uniform() - 1.0))
        .collect()
}

/// Largest difference of two distributions in logarithms.
pub(super) fn apart(a: &[f64], b: &[f64]) -> f64 {
    (a.iter().zip(b)).fold(0.0, |m, (a, b)| (a.exp() - b.exp()).abs().max(m))
}
