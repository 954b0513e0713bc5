//! What a policy is worth: exactly, whoever trained it.

use super::Row;
use crate::bandit::{Policy, Problem};
use crate::error::{Error, Result};
use crate::solve::QUADRATIC_CAP;

/// Measures policies on a problem.
pub(super) struct Judge<'a> {
    problem: &'a Problem,
    /// `P(a) − ½` against the initial reference.
    margins: Vec<Vec<f64>>,
}

impl<'a> Judge<'a> {
    pub(super) fn new(problem: &'a Problem) -> Result<Self> {
        let margins = (problem.prompts().iter().enumerate())
            .map(|(x, prompt)| {
                if prompt.arms() > QUADRATIC_CAP {
                    return Err(Error::TooLarge {
                        what: "a win rate over all pairs of arms",
                        cap: QUADRATIC_CAP,
                        prompt: x,
                        arms: prompt.arms(),
                    });
                }
                Ok(prompt.win_margins(&prompt.log_reference))
            })
            .collect::<Result<_>>()?;
        Ok(Self { problem, margins })
    }

    pub(super) fn row(&self, policy: &Policy, seed: usize, update: usize, labels: usize) -> Row {
        let (mut reward, mut win_rate) = (0.0, 0.5);
        for ((prompt, margins), log) in
            (self.problem.prompts().iter().zip(&self.margins)).zip(policy.log())
        {
            for ((l, r), m) in log.iter().zip(&prompt.reward).zip(margins) {
                let p = prompt.weight * l.exp();
                reward += p * r;
                win_rate += p * m;
            }
        }
        Row {
            seed,
            update,
            labels,
            regret: self.problem.regret(policy),
            reward,
            win_rate,
        }
    }
}
