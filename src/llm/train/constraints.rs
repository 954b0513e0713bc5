//! Constraints of a run, that the losses of some of its shares stay where they were, and their multipliers.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::solve::copr::Multipliers;

/// How multipliers move: `ln λ ← ln λ + α λ J_C` after every step (COPR, eq. 12), J_C being the batch's loss less the
/// threshold, or its moving average.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ascent {
    /// λ at the first step. (The paper does not say.)
    pub start: f64,
    /// α; 0 holds every multiplier where it starts.
    pub rate: f64,
    /// Maximum of λ, which under a constraint that stays violated would grow without bound in finite time.
    pub cap: f64,
    /// Share of the past in the moving average of J_C: 0 takes each batch's own.
    pub decay: f64,
    /// True if thresholds are 0, and not what the losses are at the first step.
    pub from_zero: bool,
}

impl Default for Ascent {
    fn default() -> Self {
        Self {
            start: 1.0,
            rate: 1e-3,
            cap: 1e3,
            decay: 0.9,
            from_zero: false,
        }
    }
}

impl Ascent {
    /// Looks whether it can be.
    ///
    /// # Errors
    /// A number out of range.
    pub fn check(&self) -> Result<()> {
        let fail = |place: &str, value: f64, remedy: &str| {
            Err(Error::invalid(place, format!("it is {value}"), remedy))
        };
        if !(self.rate >= 0.0 && self.rate.is_finite()) {
            return fail(
                "multiplier_rate",
                self.rate,
                "give a finite number, 0 or greater",
            );
        }
        if !(0.0..1.0).contains(&self.decay) {
            return fail(
                "multiplier_decay",
                self.decay,
                "give a number from 0 to below 1",
            );
        }
        // The rate's own range is wider here.
        Multipliers::new(0, self.start, 1.0, self.cap).map(|_| ())
    }
}

/// State of a run's constraints, in the order of their shares.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Constraints {
    /// d, the loss of each share over all its rows at the first step.
    pub thresholds: Vec<f64>,
    /// λ
    pub multipliers: Vec<f64>,
    /// The moving average of each J_C.
    pub violations: Vec<f64>,
}

impl Constraints {
    /// Before the first step, with those thresholds.
    pub fn new(thresholds: Vec<f64>, ascent: &Ascent) -> Self {
        Self {
            multipliers: vec![ascent.start; thresholds.len()],
            violations: vec![0.0; thresholds.len()],
            thresholds,
        }
    }

    /// Λ = 1 + Σ λ, by which the step's loss is divided (eq. 11).
    pub fn normaliser(&self) -> f64 {
        1.0 + self.multipliers.iter().sum::<f64>()
    }

    /// Moves the multipliers by a step's losses.
    pub fn ascend(&mut self, losses: &[f64], ascent: &Ascent) {
        let each = self
            .violations
            .iter_mut()
            .zip(losses.iter().zip(&self.thresholds));
        for (average, (loss, threshold)) in each {
            *average = ascent.decay * *average + (1.0 - ascent.decay) * (loss - threshold);
        }
        // At rate 0 each is held at its start, to the bit.
        if ascent.rate > 0.0 {
            let mut multipliers = Multipliers::at(&self.multipliers, ascent.rate, ascent.cap);
            multipliers.ascend(&self.violations);
            self.multipliers = multipliers.values();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With every batch's own J_C the multipliers are those of the solver.
    #[test]
    fn multipliers_are_those_of_equation_12() {
        let ascent = Ascent {
            start: 0.5,
            rate: 0.3,
            cap: 4.0,
            decay: 0.0,
            from_zero: false,
        };
        let mut found = Constraints::new(vec![1.0, 2.0], &ascent);
        let mut wanted = Multipliers::new(2, 0.5, 0.3, 4.0).unwrap();
        let mut by_hand = [0.5f64, 0.5];
        for step in 0..60 {
            let losses = [1.0 + 0.2 * f64::from(step).cos(), 2.5];
            found.ascend(&losses, &ascent);
            wanted.ascend(&[losses[0] - 1.0, 0.5]);
            let apart = |(a, b): (&f64, f64)| (a - b).abs();
            for (lambda, violation) in by_hand.iter_mut().zip([losses[0] - 1.0, 0.5]) {
                *lambda = (*lambda * (0.3 * *lambda * violation).exp()).min(4.0);
            }
            let each = found.multipliers.iter().zip(by_hand).map(apart);
            assert!(each.fold(0.0, f64::max) < 1e-12);
            let worst = found.multipliers.iter().zip(wanted.values()).map(apart);
            assert!(worst.fold(0.0, f64::max) < 1e-12);
            assert!((found.normaliser() - wanted.normaliser()).abs() < 1e-12);
        }
        assert!((found.multipliers[1] - 4.0).abs() < 1e-12, "at its cap");
        let held = Ascent {
            rate: 0.0,
            ..ascent
        };
        let mut at_start = Constraints::new(vec![0.0], &held);
        at_start.ascend(&[7.0], &held);
        assert_eq!(at_start.multipliers, [0.5]);
    }
}
