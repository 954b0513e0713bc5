//! The Lagrange multipliers of the constraints that keep old tasks (eq. 10 to 13).

use crate::error::{Error, Result};

/// One multiplier per old task, moved by gradient ascent on its logarithm (eq. 12):
/// `ln λ ← ln λ + α λ J_C`.
///
/// A multiplier is positive at all times and reaches 0 at none. Under a constraint that stays
/// violated it grows without bound in finite time ([`blow_up_time`]); `cap` stops it there.
#[derive(Debug, Clone)]
pub struct Multipliers {
    log: Vec<f64>,
    rate: f64,
    log_cap: f64,
}

impl Multipliers {
    /// `count` multipliers that start at `start` and never exceed `cap`; `rate` is α. (The paper
    /// gives α = 1e-3 and no start.)
    ///
    /// # Errors
    /// A start, rate or cap that is not positive, or a start above the cap.
    pub fn new(count: usize, start: f64, rate: f64, cap: f64) -> Result<Self> {
        for (place, value) in [
            ("multiplier start", start),
            ("multiplier rate", rate),
            ("multiplier cap", cap),
        ] {
            if !(value > 0.0 && value.is_finite()) {
                let problem = format!("it is {value}");
                return Err(Error::invalid(
                    place,
                    problem,
                    "give a finite number greater than 0",
                ));
            }
        }
        if start > cap {
            return Err(Error::invalid(
                "multiplier start",
                format!("it is {start}, above the cap {cap}"),
                "start at or below the cap",
            ));
        }
        Ok(Self {
            log: vec![start.ln(); count],
            rate,
            log_cap: cap.ln(),
        })
    }

    /// Multipliers on their way, at values that are positive.
    pub fn at(values: &[f64], rate: f64, cap: f64) -> Self {
        Self {
            log: values.iter().map(|value| value.ln()).collect(),
            rate,
            log_cap: cap.ln(),
        }
    }

    /// λ, one per constraint.
    pub fn values(&self) -> Vec<f64> {
        self.log.iter().map(|l| l.exp()).collect()
    }

    /// `Λ = 1 + Σ λ`, by which the loss is divided (eq. 11). It rescales a plain gradient step and
    /// leaves the minimiser where it is.
    pub fn normaliser(&self) -> f64 {
        1.0 + self.values().iter().sum::<f64>()
    }

    /// One step of ascent, `constraints` being `J_C`, positive where violated.
    pub fn ascend(&mut self, constraints: &[f64]) {
        for (log, constraint) in self.log.iter_mut().zip(constraints) {
            *log = (*log + self.rate * log.exp() * constraint).min(self.log_cap);
        }
    }
}

/// Time at which a multiplier that starts at `start` becomes infinite under a constant violation, in steps of the
/// update taken as continuous time: `1/(α λ₀ J_C)`, as `(1/λ)˙ = −α J_C`. None where the constraint is met.
pub fn blow_up_time(rate: f64, start: f64, constraint: f64) -> Option<f64> {
    (constraint > 0.0).then(|| 1.0 / (rate * start * constraint))
}
