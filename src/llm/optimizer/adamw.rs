//! AdamW (Loshchilov and Hutter 2019, as PyTorch defines it).

mod pass;
mod state;

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use super::{check_number, check_precision, updates};
use crate::error::{Error, Result};
use crate::llm::parameters::{Parameter, Parameters};
use crate::llm::tape::LeafGradients;
use pass::Pass;

/// AdamW's constants; PyTorch's by default.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Decay of the first moment, in [0, 1).
    pub beta1: f64,
    /// Decay of the second moment, in [0, 1).
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Whether parameters of one axis (norms, biases) decay too.
    pub decay_vectors: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.01,
            decay_vectors: true,
        }
    }
}

impl Config {
    fn check(&self) -> Result<()> {
        for (name, beta) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&beta) {
                let problem = format!("it is {beta}");
                return Err(Error::invalid(name, problem, "give at least 0, below 1"));
            }
        }
        check_number("epsilon", self.epsilon)?;
        check_number("weight_decay", self.weight_decay)
    }
}

/// What is remembered of a parameter.
#[derive(Debug, Clone)]
struct Moments {
    steps: u32,
    first: Tensor,
    second: Tensor,
}

/// With `ĝ = gradient_scale · g`, in its `t`-th step:
///
/// ```text
/// θ ← (1 − lr·λ) θ
/// m ← β₁ m + (1 − β₁) ĝ        v ← β₂ v + (1 − β₂) ĝ²
/// θ ← θ − lr · m/(1 − β₁ᵗ) / (√(v/(1 − β₂ᵗ)) + ε)
/// ```
///
/// Moments have the parameters' precision, f32 or f64. A parameter without a gradient stays as it
/// is, and so do its moments and its `t`.
#[derive(Debug, Clone)]
pub struct AdamW {
    config: Config,
    moments: Vec<Option<Moments>>,
}

impl AdamW {
    /// No step taken yet.
    ///
    /// # Errors
    /// Constants out of range, or a precision other than f32 and f64.
    pub fn new(parameters: &Parameters, config: Config) -> Result<Self> {
        config.check()?;
        check_precision(parameters)?;
        let moments = vec![None; parameters.len()];
        Ok(Self { config, moments })
    }

    /// Its constants.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Changes the parameters in place.
    ///
    /// # Errors
    /// A rate or scale that is negative or not finite, or a failing device.
    pub fn step(
        &mut self,
        parameters: &Parameters,
        gradients: &LeafGradients,
        lr: f64,
        gradient_scale: f64,
    ) -> Result<()> {
        check_number("learning rate", lr)?;
        check_number("gradient scale", gradient_scale)?;
        for (index, Parameter { tensor, .. }, gradient) in updates(parameters, gradients) {
            let moments = match &mut self.moments[index] {
                Some(moments) => moments,
                none => none.insert(Moments {
                    steps: 0,
                    first: tensor.zeros_like()?,
                    second: tensor.zeros_like()?,
                }),
            };
            moments.steps = moments.steps.saturating_add(1);
            let pass = Pass::new(&self.config, tensor.rank(), moments.steps, lr);
            let gradient = gradient.contiguous()?;
            match (tensor.device(), tensor.dtype()) {
                (Device::Cpu, DType::F32) => {
                    pass.fused::<f32>(tensor, &gradient, moments, gradient_scale)?;
                }
                (Device::Cpu, DType::F64) => {
                    pass.fused::<f64>(tensor, &gradient, moments, gradient_scale)?;
                }
                _ => pass.composed(tensor, &gradient, moments, gradient_scale)?,
            }
        }
        Ok(())
    }
}
