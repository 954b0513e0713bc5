//! What examples are trained on: losses of the registry, on numbers of the sequence's arms.

use super::examples::Example;
use super::method::Base;
use super::plan::Plan;
use super::sequence::Sequence;
use crate::error::Result;
use crate::loss::{Batch, Given, Objective};
use crate::sim::share::Share;
use crate::solve::copr::Divergence;

/// Examples, and the weight of their loss.
pub(super) struct Set<'a> {
    pub weight: f64,
    pub examples: &'a [Example],
}

/// Makes shares of sets of examples; all but the examples is fixed for a run.
#[derive(Clone, Copy)]
pub(super) struct Shares<'a> {
    pub sequence: &'a Sequence,
    pub plan: &'a Plan,
    /// ln π of every arm of the first policy.
    pub start: &'a [f64],
}

impl Shares<'_> {
    /// What a base descends on a set; `before` is ln π of every arm of the policy that the base refers to: that at
    /// the start of the task, of the iteration, or π_old.
    pub fn of(&self, base: Base, set: &Set<'_>, before: &[f64]) -> Result<Vec<Share>> {
        let Set { weight, examples } = *set;
        let own = self.plan.likelihood;
        let share = match base {
            Base::Fit => self.fit(weight, examples, before)?,
            Base::FitAndLikelihood => {
                let mut shares = vec![self.fit(weight, examples, before)?];
                let of_best = own.unwrap_or(1.0);
                if of_best > 0.0 {
                    shares.push(self.likelihood(weight * of_best, examples)?);
                }
                return Ok(shares);
            }
            Base::Likelihood => self.likelihood(weight, examples)?,
            Base::Preferences => self.preferences(weight, examples, before)?,
            Base::Contrasts => {
                let given = with_likelihood(own).with("advantage_scale", self.plan.contrast);
                self.ranking(Objective::PRO, &given, weight, examples, before)?
            }
            Base::Ranks => {
                let given = with_likelihood(own);
                self.ranking(Objective::RRHF, &given, weight, examples, before)?
            }
            Base::SelfPlay => self.self_play(weight, examples, before)?,
            Base::Reward => self.reward(weight, examples, before)?,
            Base::Feedback => self.feedback(weight, examples, true)?,
        };
        Ok(vec![share])
    }

    /// The fit of the sampling distributions of examples (eq. 7), which have the policy `before` for their reference.
    pub fn fit(&self, weight: f64, examples: &[Example], before: &[f64]) -> Result<Share> {
        let loss = match self.plan.divergence {
            Divergence::Reverse => Objective::COPR,
            Divergence::Forward => Objective::COPR_FORWARD,
        };
        self.ranking(loss, &beta(examples), weight, examples, before)
    }

    /// The likelihood of the best responses, negated.
    pub fn likelihood(&self, weight: f64, examples: &[Example]) -> Result<Share> {
        self.ranking(Objective::SFT, &Given::new(), weight, examples, self.start)
    }

    /// A loss on ranked lists.
    fn ranking(
        &self,
        loss: Objective,
        given: &Given,
        weight: f64,
        examples: &[Example],
        before: &[f64],
    ) -> Result<Share> {
        let mut arms = Vec::new();
        let mut batch = Batch::default();
        for e in examples {
            let first = self.first(e);
            arms.extend(e.arms.iter().map(|a| (first + a) as u32));
            batch.reward[0].extend(&e.advantage);
            batch.sizes.push(e.arms.len());
            batch.weight.push(e.weight);
        }
        batch.log_reference[0] = gathered(&arms, before);
        Share::new(loss.bind(given)?, weight, batch, vec![arms])
    }

    /// DPO on all pairs of different rank of each example, equally often, the better one always winning, with the policy
    /// `before` for its reference.
    fn preferences(&self, weight: f64, examples: &[Example], before: &[f64]) -> Result<Share> {
        let mut slots = [Vec::new(), Vec::new()];
        let mut weights = Vec::new();
        for e in examples {
            let first = self.first(e);
            let pairs = pairs(e);
            for &(winner, loser) in &pairs {
                slots[0].push((first + winner) as u32);
                slots[1].push((first + loser) as u32);
                weights.push(e.weight / pairs.len() as f64);
            }
        }
        against(weight, examples, slots, weights, before)
    }

    /// DPO with the best response as the winner and each response of the policy `before`, its reference, as the loser, as
    /// often as that policy writes it.
    fn self_play(&self, weight: f64, examples: &[Example], before: &[f64]) -> Result<Share> {
        let mut slots = [Vec::new(), Vec::new()];
        let mut weights = Vec::new();
        for e in examples {
            let arms = self.sequence.logits.rows()[e.prompt].clone();
            let Some(best) = e.arms.last() else { continue };
            for (loser, log) in arms.clone().zip(&before[arms.clone()]) {
                slots[0].push((arms.start + best) as u32);
                slots[1].push(loser as u32);
                weights.push(e.weight * log.exp());
            }
        }
        against(weight, examples, slots, weights, before)
    }

    /// PPO's clipped surrogate on every response of π_old, as often as it writes it; the baseline is the mean of what
    /// π_old earns, penalty included.
    fn reward(&self, weight: f64, examples: &[Example], old: &[f64]) -> Result<Share> {
        let given = beta(examples).with("epsilon", self.plan.clip);
        let loss = Objective::PPO_CLIP.bind(&given)?;
        let mut batch = Batch::default();
        let mut slot = Vec::new();
        for e in examples {
            let arms = self.first(e)..self.first(e) + e.reward.len();
            let earned =
                |arm: usize| e.reward[arm - arms.start] - e.beta * (old[arm] - self.start[arm]);
            let baseline: f64 = arms.clone().map(|a| old[a].exp() * earned(a)).sum();
            for arm in arms.clone() {
                slot.push(arm as u32);
                batch.baseline.push(baseline);
                batch.weight.push(e.weight * old[arm].exp());
            }
            batch.reward[0].extend(&e.reward);
        }
        batch.log_reference[0] = gathered(&slot, self.start);
        batch.log_old[0] = gathered(&slot, old);
        Share::new(loss, weight, batch, vec![slot])
    }

    /// The likelihood, negated, of the better response of each pair of different rank, or of the worse one; all pairs of
    /// an example equally often.
    pub fn feedback(&self, weight: f64, examples: &[Example], good: bool) -> Result<Share> {
        let mut batch = Batch::default();
        let mut arms = Vec::new();
        for e in examples {
            let pairs = pairs(e);
            for &(better, worse) in &pairs {
                let shown = if good { better } else { worse };
                arms.push((self.first(e) + shown) as u32);
                batch.reward[0].push(0.0);
                batch.sizes.push(1);
                batch.weight.push(e.weight / pairs.len() as f64);
            }
        }
        batch.log_reference[0] = gathered(&arms, self.start);
        let loss = Objective::SFT.bind(&Given::new())?;
        Share::new(loss, weight, batch, vec![arms])
    }

    /// The first of the arms of an example's prompt.
    fn first(&self, example: &Example) -> usize {
        self.sequence.logits.rows()[example.prompt].start
    }
}

/// DPO on pairs of arms.
fn against(
    weight: f64,
    examples: &[Example],
    slots: [Vec<u32>; 2],
    weights: Vec<f64>,
    before: &[f64],
) -> Result<Share> {
    let batch = Batch {
        log_reference: [gathered(&slots[0], before), gathered(&slots[1], before)],
        weight: weights,
        ..Batch::default()
    };
    let loss = Objective::DPO.bind(&beta(examples))?;
    Share::new(loss, weight, batch, slots.to_vec())
}

/// Better and worse arm of every pair of different rank.
fn pairs(e: &Example) -> Vec<(usize, usize)> {
    let mut pairs = Vec::new();
    for (i, &worse) in e.arms.iter().enumerate() {
        for (j, &better) in e.arms.iter().enumerate().skip(i + 1) {
            if e.advantage[i] != e.advantage[j] {
                pairs.push((better, worse));
            }
        }
    }
    pairs
}

/// β of the examples of one task.
fn beta(examples: &[Example]) -> Given {
    examples
        .first()
        .map_or(Given::new(), |e| Given::from(e.beta))
}

/// The weight of the likelihood in a ranking loss, its own default where none is given.
fn with_likelihood(weight: Option<f64>) -> Given {
    weight.map_or(Given::new(), |w| Given::new().with("sft_weight", w))
}

fn gathered(arms: &[u32], numbers: &[f64]) -> Vec<f64> {
    arms.iter().map(|&a| numbers[a as usize]).collect()
}
