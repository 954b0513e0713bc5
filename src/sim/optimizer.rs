//! SGD and Adam, in f64.

use crate::error::{Error, Result};

/// Optimizer: how a step is made from a gradient.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Optimizer {
    /// `θ ← θ − lr·g`
    Sgd {
        /// Learning rate.
        lr: f64,
    },
    /// Adam with bias correction (Kingma and Ba 2014; ε outside the root).
    Adam {
        /// Learning rate.
        lr: f64,
        /// Decay of the first moment.
        beta1: f64,
        /// Decay of the second moment.
        beta2: f64,
        /// Added to the root of the second moment.
        eps: f64,
    },
}

impl Optimizer {
    /// Adam with its usual constants (0.9, 0.999, 1e-8).
    pub fn adam(lr: f64) -> Self {
        Self::Adam {
            lr,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
        }
    }

    /// The learning rate.
    pub fn lr(&self) -> f64 {
        match *self {
            Self::Sgd { lr } | Self::Adam { lr, .. } => lr,
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        if self.lr().is_finite() && self.lr() > 0.0 {
            return Ok(());
        }
        Err(Error::invalid(
            "learning rate",
            format!("it is {}", crate::text::exact(self.lr())),
            "give a finite number greater than 0",
        ))
    }
}

/// The optimiser's memory for a vector of parameters.
pub(super) struct State {
    optimizer: Optimizer,
    steps: i32,
    first: Vec<f64>,
    second: Vec<f64>,
}

impl State {
    pub(super) fn new(optimizer: Optimizer, parameters: usize) -> Self {
        let moments = match optimizer {
            Optimizer::Sgd { .. } => 0,
            Optimizer::Adam { .. } => parameters,
        };
        Self {
            optimizer,
            steps: 0,
            first: vec![0.0; moments],
            second: vec![0.0; moments],
        }
    }

    pub(super) fn step(&mut self, theta: &mut [f64], gradient: &[f64]) {
        self.steps = self.steps.saturating_add(1);
        match self.optimizer {
            Optimizer::Sgd { lr } => {
                for (t, g) in theta.iter_mut().zip(gradient) {
                    *t -= lr * g;
                }
            }
            Optimizer::Adam {
                lr,
                beta1,
                beta2,
                eps,
            } => {
                let rate = lr / (1.0 - beta1.powi(self.steps));
                let scale = (1.0 - beta2.powi(self.steps)).sqrt();
                let moments = self.first.iter_mut().zip(&mut self.second);
                for ((t, g), (m, v)) in theta.iter_mut().zip(gradient).zip(moments) {
                    *m = beta1 * *m + (1.0 - beta1) * g;
                    *v = beta2 * *v + (1.0 - beta2) * g * g;
                    *t -= rate * *m / (v.sqrt() / scale + eps);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adam_takes_the_published_steps() {
        let mut state = State::new(Optimizer::adam(0.1), 1);
        let mut theta = [1.0];
        state.step(&mut theta, &[0.5]);
        // The first step is lr·g/(|g| + ε).
        assert!((theta[0] - (1.0 - 0.1 * 0.5 / (0.5 + 1e-8))).abs() < 1e-15);
        state.step(&mut theta, &[-1.0]);
        let m = (0.9 * 0.05 - 0.1) / (1.0 - 0.81);
        let v: f64 = (0.999 * 0.001 * 0.25 + 0.001) / (1.0 - 0.999f64.powi(2));
        let first = 1.0 - 0.1 * 0.5 / (0.5 + 1e-8);
        assert!((theta[0] - (first - 0.1 * m / (v.sqrt() + 1e-8))).abs() < 1e-14);
    }
}
