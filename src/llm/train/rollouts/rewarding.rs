//! Rewards of completions to what an objective takes: normalised, less penalties, spread over tokens.

use super::gae::{Gae, whiten};
use super::row::{Completion, Each, Phase, Row};
use crate::error::{Error, Result};

/// What becomes of the scores of a phase.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rewarding {
    /// The mean of all scores so far is taken off, and the rest divided by their standard deviation.
    pub normalise: bool,
    /// Taken off where a completion did not end.
    pub missing_eos_penalty: f64,
    /// β·ln π_old/π_ref is taken off, whose β is the phase's.
    pub penalised: bool,
    /// Estimates advantages of tokens, where there is a critic.
    pub estimator: Option<Gae>,
    /// Advantages of tokens are whitened over the phase.
    pub whiten: bool,
    /// KL that β follows.
    pub kl_target: Option<f64>,
}

impl Rewarding {
    /// Gives every completion of a phase its reward, and its tokens advantages and returns where there is a critic:
    /// of the rewards `rₜ = −β ln π_old/π_ref`, to the last of which the completion's own is added.
    ///
    /// # Errors
    /// A completion without the numbers of its tokens, where they are wanted.
    pub fn give(&self, phase: &mut Phase) -> Result<()> {
        let running = phase.running;
        for c in phase.rows.iter_mut().flat_map(Row::all_mut) {
            let own = self.own(c, |score| running.normalised(score));
            let penalties: Vec<f64> = match (&c.each, self.penalised) {
                (Some(each), true) => each
                    .log_ratios()
                    .map(|u| running.kl_coefficient * u)
                    .collect(),
                (None, true) => return Err(gone()),
                (_, false) => Vec::new(),
            };
            match self.estimator {
                None => c.reward = own - penalties.iter().sum::<f64>(),
                Some(gae) => {
                    let mut rewards: Vec<f64> = penalties.iter().map(|p| -p).collect();
                    if let Some(last) = rewards.last_mut() {
                        *last += own;
                    }
                    let Some(Each { value, .. }) = &c.each else {
                        return Err(gone());
                    };
                    if value.len() != rewards.len() {
                        return Err(gone());
                    }
                    c.estimated = Some(gae.of(&rewards, value));
                    c.reward = own;
                }
            }
        }
        if self.estimator.is_some() && self.whiten {
            let all = phase.rows.iter_mut().flat_map(Row::all_mut);
            whiten(all.flat_map(|c| &mut c.estimated).flat_map(|[a, _]| a));
        }
        Ok(())
    }

    /// A completion's score, normalised and less what it costs not to end.
    fn own(&self, c: &Completion, normalised: impl Fn(f64) -> f64) -> f64 {
        let score = if self.normalise {
            normalised(c.score)
        } else {
            c.score
        };
        if c.ended {
            score
        } else {
            score - self.missing_eos_penalty
        }
    }
}

fn gone() -> Error {
    Error::invalid(
        "rollouts",
        "a completion has no numbers of its tokens",
        "put the file back as it was, or start the run anew with --overwrite",
    )
}
