//! How a sequence of tasks is learned: the settings.

use super::hooks::PlateauWindow;
use super::sequence::Score;
use crate::error::{Error, Result};
use crate::solve::copr::{Divergence, Multipliers};

/// Training settings of each task: plain gradient descent on exact full-batch losses, as eq. 12 has it.
///
/// Every loss that sums over tasks is divided by the sum of their weights (Λ of eq. 11; the number of
/// tasks for replay and joint training), so that one step size is stable for all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// Steps per task; training on everything takes as many for each task it trains on.
    pub steps: usize,
    /// Step size η of the sequence's own policy; one that was [brought](super::run_with) has its own.
    pub rate: f64,
    /// Share of each task's prompts kept for replay, at least one prompt unless 0. They are drawn
    /// without regard to weight, and their weights rescaled to sum to one. Memories that are filled as examples come
    /// have room for this share of the prompts of all tasks.
    pub replay: f64,
    /// Weight of the likelihood of the best response, where a method has it beside another loss: none is what the
    /// method's paper has, 1 in COPR and RRHF, 0.05 in PRO.
    pub likelihood: Option<f64>,
    /// β of the fit, of DPO, of SPIN (λ there) and of PPO's penalty; none is that of each task's problem.
    pub beta: Option<f64>,
    /// Strength of the pull at parameters, `strength/2 Σ ω (w − a)²`: L2, EWC, MAS, TFCL.
    pub pull: f64,
    /// What TFCL takes for a plateau of the loss.
    pub plateau: PlateauWindow,
    /// Weight of LwF's distillation.
    pub distillation: f64,
    /// Weight of DER++'s distance from stored numbers, its α.
    pub matching: f64,
    /// Weight of DER++'s likelihood of stored labels, its β.
    pub rehearsal: f64,
    /// Factor of the advantages in PRO.
    pub contrast: f64,
    /// Correlation ρ of the parameters of CoH's two policies, within (−1, 1).
    pub coupling: f64,
    /// Iterations of SPIN in a task: how often its opponent becomes the policy of then.
    pub iterations: usize,
    /// Steps of PPO on the responses of one π_old.
    pub inner_steps: usize,
    /// ε of PPO's clip.
    pub clip: f64,
    /// Direction of the KL divergences of COPR.
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
            likelihood: None,
            beta: None,
            pull: 0.02,
            plateau: PlateauWindow {
                mean: 1.0,
                ..PlateauWindow::default()
            },
            distillation: 1.0,
            matching: 0.1,
            rehearsal: 1.0,
            contrast: 1.0,
            coupling: 0.0,
            iterations: 4,
            inner_steps: 4,
            clip: 0.2,
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
        let positive = "give a finite number greater than 0";
        for (place, value) in [
            ("rate", self.rate),
            ("contrast", self.contrast),
            ("clip", self.clip),
            ("beta", self.beta.unwrap_or(1.0)),
        ] {
            if !(value > 0.0 && value.is_finite()) {
                return fail(place, value, positive);
            }
        }
        for (place, value) in [
            ("likelihood", self.likelihood.unwrap_or(0.0)),
            ("pull", self.pull),
            ("distillation", self.distillation),
            ("matching", self.matching),
            ("rehearsal", self.rehearsal),
        ] {
            if !(value >= 0.0 && value.is_finite()) {
                return fail(place, value, "give a finite number, 0 or greater");
            }
        }
        if !(0.0..=1.0).contains(&self.replay) {
            return fail("replay", self.replay, "give a share from 0 to 1");
        }
        if self.coupling.abs() >= 1.0 || self.coupling.is_nan() {
            return fail("coupling", self.coupling, "give a number within −1 and 1");
        }
        for (place, count) in [
            ("record_every", self.record_every),
            ("iterations", self.iterations),
            ("inner_steps", self.inner_steps),
        ] {
            if count == 0 {
                return fail(place, 0.0, "give at least 1");
            }
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
