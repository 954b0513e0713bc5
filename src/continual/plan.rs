//! How a sequence of tasks is learned: the methods, and their settings.

use super::sequence::Score;
use crate::error::{Error, Result};
use crate::solve::copr::{Divergence, Multipliers};

/// Method of continual learning: how a new task is learned without the data of the old ones.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Method {
    /// COPR's Algorithm 1: the fit of the new task under one constraint per old task,
    /// `J_Ci = E_{R_i} divergence(P_θ, P_i*) − d_i ≤ 0`, with d_i its value at the start of the new
    /// task (eq. 13) and a multiplier for each, by gradient ascent (eq. 12).
    Copr,
    /// The fit of the new task, nothing else.
    Sequential,
    /// The fit of the new task plus that of the replayed ones: COPR with every multiplier held at 1,
    /// since a threshold has no gradient.
    Replay,
    /// The fit plus `strength/2 ‖w − w_{t−1}‖²`.
    Anchor {
        /// Strength of the pull.
        strength: f64,
    },
    /// The fit plus `strength/2 Σ_k F_k (w_k − w_{t−1,k})²`, F the exact diagonal Fisher information
    /// summed over the old tasks (elastic weight consolidation with a running anchor).
    ElasticWeights {
        /// Strength of the pull.
        strength: f64,
    },
    /// DPO on the pairs of the ranking, the better response always winning, and on the replayed pairs
    /// of old tasks; its reference is the policy at the start of the task.
    DpoReplay,
    /// The fit of all tasks so far at once, on all their prompts, from the first policy: what a method
    /// without access to old data is measured against.
    Joint,
}

impl Method {
    /// Its name in rows.
    pub fn name(self) -> &'static str {
        match self {
            Self::Copr => "copr",
            Self::Sequential => "sequential",
            Self::Replay => "replay",
            Self::Anchor { .. } => "l2",
            Self::ElasticWeights { .. } => "ewc",
            Self::DpoReplay => "dpo-replay",
            Self::Joint => "joint",
        }
    }
}

/// Training settings of each task: plain gradient descent on exact full-batch losses, as eq. 12 has it.
///
/// Every loss that sums over tasks is divided by the sum of their weights (Λ of eq. 11; the number of
/// tasks for replay and joint training), so that one step size is stable for all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// Steps per task; joint training takes as many for each task it trains on.
    pub steps: usize,
    /// Step size η of the sequence's own policy; one that was [brought](super::run_with) has its own.
    pub rate: f64,
    /// Share of each task's prompts kept for replay, at least one prompt unless 0. They are drawn
    /// without regard to weight, and their weights rescaled to sum to one.
    pub replay: f64,
    /// Weight of the likelihood of the best response, in the fit of the new task (joint training: of
    /// all tasks): 1 in the paper, 0 leaves it out.
    pub likelihood: f64,
    /// Direction of the KL divergences.
    pub divergence: Divergence,
    /// Initial value of each Lagrange multiplier, at the start of every task (the paper does not say).
    pub multiplier_start: f64,
    /// α of eq. 12.
    pub multiplier_rate: f64,
    /// Upper bound of each Lagrange multiplier.
    pub multiplier_cap: f64,
    /// Definition of accuracy.
    pub score: Score,
    /// Steps between recorded moments.
    pub record_every: usize,
    /// Seed of the choice of replayed prompts.
    pub seed: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            steps: 1000,
            rate: 1.0,
            replay: 0.05,
            likelihood: 0.0,
            divergence: Divergence::Reverse,
            multiplier_start: 1.0,
            multiplier_rate: 1e-3,
            multiplier_cap: 1e3,
            score: Score::Order,
            record_every: 50,
            seed: 0,
        }
    }
}

impl Plan {
    pub(super) fn check(&self) -> Result<()> {
        let fail = |place: &str, value: f64, remedy: &str| {
            Err(Error::invalid(place, format!("it is {value}"), remedy))
        };
        if !(self.rate > 0.0 && self.rate.is_finite()) {
            return fail("rate", self.rate, "give a finite number greater than 0");
        }
        if !(0.0..=1.0).contains(&self.replay) {
            return fail("replay", self.replay, "give a share from 0 to 1");
        }
        if !(self.likelihood >= 0.0 && self.likelihood.is_finite()) {
            return fail(
                "likelihood",
                self.likelihood,
                "give a finite number, 0 or greater",
            );
        }
        if self.record_every == 0 {
            return fail("record_every", 0.0, "give at least 1");
        }
        Multipliers::new(
            0,
            self.multiplier_start,
            self.multiplier_rate,
            self.multiplier_cap,
        )
        .map(|_| ())
    }
}
