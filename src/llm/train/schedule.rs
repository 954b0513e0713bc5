//! Learning rates over a run, as `transformers` has them.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::llm::files::named::named;

named! {
    /// Shape of the learning rate schedule after warm-up.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
    #[non_exhaustive]
    pub enum Shape {
        /// It stays
        Constant = "constant",
        /// It falls to 0 in a straight line
        Linear = "linear",
        /// It falls to 0 along half a cosine
        Cosine = "cosine",
    }
}

/// A factor of the learning rate for every step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    shape: Shape,
    warmup: u64,
    steps: u64,
}

impl Schedule {
    /// `warmup` counts steps, or, below 1, is the share of all `steps`, rounded up.
    ///
    /// # Errors
    /// A warm-up that is neither.
    pub fn new(shape: Shape, warmup: f64, steps: u64) -> Result<Self> {
        let warmup = match warmup {
            share if (0.0..1.0).contains(&share) => (share * steps as f64).ceil() as u64,
            count if count >= 1.0 && count.fract() == 0.0 && count < 2f64.powi(53) => count as u64,
            other => {
                return Err(Error::invalid(
                    "warmup",
                    format!("it is {other}"),
                    "give a whole number of steps, or a share of them below 1",
                ));
            }
        };
        Ok(Self {
            shape,
            warmup,
            steps,
        })
    }

    /// The factor of the step after `done` others: during warm-up `done/warmup` (so the first step
    /// has 0), then, with `p = (done − warmup)/(steps − warmup)`, 1, `1 − p` or `½(1 + cos πp)`.
    ///
    /// Source: `get_{constant,linear,cosine}_schedule_with_warmup` of `transformers`.
    pub fn factor(&self, done: u64) -> f64 {
        if done < self.warmup {
            return done as f64 / self.warmup as f64;
        }
        let left = self.steps.saturating_sub(self.warmup).max(1) as f64;
        match self.shape {
            Shape::Constant => 1.0,
            Shape::Linear => self.steps.saturating_sub(done) as f64 / left,
            Shape::Cosine => {
                let progress = (done - self.warmup) as f64 / left;
                (0.5 * (1.0 + (std::f64::consts::PI * progress).cos())).max(0.0)
            }
        }
    }
}
