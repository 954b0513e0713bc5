//! What a run carries from phase to phase: the coefficient of KL, and moments of the rewards so far.

use serde::{Deserialize, Serialize};

/// State of the rewards, as a phase uses it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Running {
    /// β, the weight of KL in the reward.
    pub kl_coefficient: f64,
    /// Number of scores so far, those of the phase included.
    pub count: f64,
    /// Their mean.
    pub mean: f64,
    /// Sum of their squared distances from it.
    pub squares: f64,
}

/// How fast an adaptive coefficient follows (Ziegler et al. 2019, `K_β`).
const GAIN: f64 = 0.1;

/// Largest share by which KL counts as off its target.
const MOST: f64 = 0.2;

/// Added to a standard deviation that is divided by.
const LEAST: f64 = 1e-8;

impl Running {
    /// That before the first phase.
    pub fn new(kl_coefficient: f64) -> Self {
        Self {
            kl_coefficient,
            count: 0.0,
            mean: 0.0,
            squares: 0.0,
        }
    }

    /// The same after more scores (Welford).
    #[must_use]
    pub fn with(mut self, scores: impl Iterator<Item = f64>) -> Self {
        for score in scores {
            self.count += 1.0;
            let before = score - self.mean;
            self.mean += before / self.count;
            self.squares += before * (score - self.mean);
        }
        self
    }

    /// The same with the coefficient that follows a phase with that KL, where one is aimed at:
    ///
    /// `β ← β(1 + 0.1 clip(KL/target − 1, ±0.2))`
    #[must_use]
    pub fn after(mut self, kl: f64, target: Option<f64>) -> Self {
        if let Some(target) = target {
            let off = (kl / target - 1.0).clamp(-MOST, MOST);
            self.kl_coefficient *= 1.0 + GAIN * off;
        }
        self
    }

    /// A score less the mean of all so far, over their standard deviation (with n − 1).
    pub fn normalised(self, score: f64) -> f64 {
        let variance = if self.count > 1.0 {
            self.squares / (self.count - 1.0)
        } else {
            0.0
        };
        (score - self.mean) / (variance.sqrt() + LEAST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_of_several_phases_are_as_those_of_one() {
        let all = [1.0, 4.0, -2.0, 7.5, 0.0, 3.0];
        let once = Running::new(0.1).with(all.into_iter());
        let twice = Running::new(0.1)
            .with(all[..2].iter().copied())
            .with(all[2..].iter().copied());
        assert_eq!(once, twice);
        let mean = all.iter().sum::<f64>() / 6.0;
        let variance = all.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 5.0;
        for score in all {
            let wanted = (score - mean) / variance.sqrt();
            assert!((once.normalised(score) - wanted).abs() < 1e-7);
        }
        assert_eq!(
            Running::new(0.1).with([3.0].into_iter()).normalised(3.0),
            0.0
        );
    }

    #[test]
    fn the_coefficient_follows_kl() {
        let start = Running::new(0.2);
        assert_eq!(start.after(50.0, None), start);
        assert_eq!(start.after(6.0, Some(6.0)), start);
        let after = |kl: f64| start.after(kl, Some(6.0)).kl_coefficient;
        assert!((after(6.6) - 0.2 * 1.01).abs() < 1e-12);
        assert!((after(600.0) - 0.2 * 1.02).abs() < 1e-12);
        assert!((after(0.0) - 0.2 * 0.98).abs() < 1e-12);
    }
}
