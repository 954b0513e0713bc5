//! Rewards of completions to what an objective takes: normalised, less penalties, spread over tokens.

use super::gae::{Gae, whiten};
use super::row::{Completion, Each, Phase, Row};
use super::running::Running;
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
            let own = self.own(c, running);
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
    fn own(&self, c: &Completion, running: Running) -> f64 {
        let score = if self.normalise {
            running.normalised(c.score)
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

#[cfg(test)]
mod tests {
    use super::*;

    const SCORES: [f64; 2] = [3.0, -1.0];

    /// Two completions of two tokens, with log-ratios to the reference of 0.5 and −2, and 1 and 0; the second was cut.
    fn phase() -> Phase {
        let completion = |i: usize| Completion {
            score: SCORES[i],
            ended: i == 0,
            each: Some(Each {
                old: vec![-1.0, -2.0],
                reference: [[-1.5, 0.0], [-2.0, -2.0]][i].to_vec(),
                value: vec![0.25, 0.75],
            }),
            ..Completion::default()
        };
        let row = Row {
            index: 0,
            prompt: String::new(),
            completions: vec![completion(0), completion(1)],
            demonstration: None,
            preferred: Vec::new(),
        };
        Phase {
            rows: vec![row],
            metrics: Vec::new(),
            running: Running::new(0.4).with(SCORES.into_iter()),
            kl: None,
        }
    }

    const BARE: Rewarding = Rewarding {
        normalise: false,
        missing_eos_penalty: 0.0,
        penalised: false,
        estimator: None,
        whiten: false,
        kl_target: None,
    };

    fn rewards(of: Rewarding) -> Vec<f64> {
        let mut phase = phase();
        of.give(&mut phase).unwrap();
        phase.rows[0].completions.iter().map(|c| c.reward).collect()
    }

    fn near(a: &[f64], b: &[f64]) {
        let off = a.iter().zip(b).map(|(a, b)| (a - b).abs());
        assert!(
            a.len() == b.len() && off.fold(0.0, f64::max) < 1e-7,
            "{a:?} {b:?}"
        );
    }

    #[test]
    fn rewards_are_normalised_and_less_penalties() {
        near(&rewards(BARE), &SCORES);
        let cut = Rewarding {
            missing_eos_penalty: 0.7,
            ..BARE
        };
        near(&rewards(cut), &[3.0, -1.7]);
        // β times the sum of log-ratios: 0.4·(−1.5) and 0.4·1.
        let penalised = Rewarding {
            penalised: true,
            ..cut
        };
        near(&rewards(penalised), &[3.6, -2.1]);
        // Mean 1, standard deviation √8; the penalty is taken off afterwards.
        let normalised = Rewarding {
            normalise: true,
            ..cut
        };
        near(&rewards(normalised), &[0.5f64.sqrt(), -0.5f64.sqrt() - 0.7]);
    }

    /// γ = λ = 1: what follows, less the value. The completion's own reward comes at its last token.
    #[test]
    fn tokens_have_the_penalty_each_and_the_reward_at_the_last() {
        let critic = Rewarding {
            penalised: true,
            missing_eos_penalty: 0.7,
            estimator: Some(Gae {
                discount: 1.0,
                lambda: 1.0,
            }),
            ..BARE
        };
        let mut found = phase();
        critic.give(&mut found).unwrap();
        let each: Vec<&[Vec<f64>; 2]> = (found.rows[0].completions.iter())
            .map(|c| c.estimated.as_ref().unwrap())
            .collect();
        // Rewards −0.2, 0.8 + 3; −0.4, −1.7.
        near(&each[0][1], &[3.6, 3.8]);
        near(&each[0][0], &[3.6 - 0.25, 3.8 - 0.75]);
        near(&each[1][1], &[-2.1, -1.7]);
        let mut whitened = phase();
        let of = Rewarding {
            whiten: true,
            ..critic
        };
        of.give(&mut whitened).unwrap();
        let all: Vec<f64> = (whitened.rows[0].completions.iter())
            .flat_map(|c| c.estimated.as_ref().unwrap()[0].clone())
            .collect();
        assert!(all.iter().sum::<f64>().abs() < 1e-9);
        // Returns stay as they are.
        let returns = &whitened.rows[0].completions[0].estimated.as_ref().unwrap()[1];
        near(returns, &[3.6, 3.8]);
    }

    #[test]
    fn numbers_that_are_not_there_are_missed() {
        let mut phase = phase();
        phase.rows[0].completions[1].each = None;
        let of = Rewarding {
            penalised: true,
            ..BARE
        };
        assert!(of.give(&mut phase).is_err());
    }
}
