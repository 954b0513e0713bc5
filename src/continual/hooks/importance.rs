//! The importance of each parameter, from estimate to estimate.

use super::vectors::Vectors;
use crate::error::Result;

/// How estimates of the importance, one a task or one a plateau, become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Accumulation {
    /// Their sum: EWC with one penalty for all old tasks, and MAS as its authors' code has it.
    Sum,
    /// Their mean, `Ω ← (n Ω + Ω_new)/(n + 1)`: task-free continual learning (TFCL).
    Mean,
}

/// The importance ω of each parameter to what was learned so far; 0 at first.
///
/// One estimate is a mean over examples: of `(∂ ln π(y)/∂w)²` for EWC, which
/// [`add_product`](Vectors::add_product) adds up, of `|∂‖f(x)‖²/∂w|` for MAS, which
/// [`add_absolute`](Vectors::add_absolute) does.
#[derive(Debug, Clone, PartialEq)]
pub struct Importance<V> {
    /// ω.
    pub weights: V,
    /// Estimates taken in.
    pub estimates: u64,
    accumulation: Accumulation,
}

impl<V: Vectors> Importance<V> {
    /// No importance yet; `like` has the shape of the parameters.
    ///
    /// # Errors
    /// If memory cannot be had.
    pub fn new(accumulation: Accumulation, like: &V) -> Result<Self> {
        Ok(Self::restored(accumulation, like.zeros_like()?, 0))
    }

    /// What was saved of another.
    pub fn restored(accumulation: Accumulation, weights: V, estimates: u64) -> Self {
        Self {
            weights,
            estimates,
            accumulation,
        }
    }

    /// Takes a new estimate in.
    ///
    /// # Errors
    /// An estimate of another shape, or a device that fails.
    pub fn take(&mut self, estimate: &V) -> Result<()> {
        let count = self.estimates as f64;
        match self.accumulation {
            Accumulation::Sum => self.weights.add(1.0, estimate)?,
            Accumulation::Mean => {
                self.weights.scale(count / (count + 1.0))?;
                self.weights.add(1.0 / (count + 1.0), estimate)?;
            }
        }
        self.estimates += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_means_of_estimates() {
        let estimates = [vec![1.0, 4.0], vec![2.0, 0.5], vec![9.0, 3.0]];
        for (accumulation, want) in [
            (Accumulation::Sum, [12.0, 7.5]),
            (Accumulation::Mean, [4.0, 2.5]),
        ] {
            let mut importance = Importance::new(accumulation, &estimates[0]).unwrap();
            assert_eq!(importance.weights, [0.0; 2]);
            for (i, estimate) in estimates.iter().enumerate() {
                // What is saved goes on as if nothing had been.
                let Importance { weights, .. } = importance;
                importance = Importance::restored(accumulation, weights, i as u64);
                importance.take(estimate).unwrap();
            }
            assert_eq!(importance.estimates, 3);
            for (got, want) in importance.weights.iter().zip(want) {
                assert!((got - want).abs() < 1e-15, "{got} {want}");
            }
            assert!(importance.take(&vec![1.0]).is_err());
        }
    }
}
