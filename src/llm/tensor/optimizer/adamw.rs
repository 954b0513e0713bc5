//! AdamW (Loshchilov and Hutter 2019, as PyTorch defines it).

mod mixed;
mod pass;
mod state;

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use super::{PIECE, check_number, is_coarse, refuse_precision, updates};
use crate::error::{Error, Result};
use crate::llm::tensor::parameters::Parameters;
use crate::llm::tensor::tape::LeafGradients;
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
    /// True to decay parameters of one axis (norms, biases) too.
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
    pub(in crate::llm) fn check(&self) -> Result<()> {
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
    /// Of a bf16 or f16 weight, the f32 number that it is rounded from.
    master: Option<Tensor>,
}

impl Moments {
    /// Before the first step.
    fn new(theta: &Tensor) -> Result<Self> {
        let dtype = precision(theta.dtype());
        let zeros = || Tensor::zeros(theta.shape(), dtype, theta.device());
        Ok(Self {
            steps: 0,
            first: zeros()?,
            second: zeros()?,
            master: if is_coarse(theta.dtype()) {
                Some(theta.to_dtype(dtype)?)
            } else {
                None
            },
        })
    }
}

/// The precision of what is remembered of weights of that precision.
fn precision(dtype: DType) -> DType {
    match dtype {
        DType::F64 => DType::F64,
        _ => DType::F32,
    }
}

/// AdamW. With `ĝ = gradient_scale · g`, in its `t`-th step:
///
/// ```text
/// θ ← (1 − lr·λ) θ
/// m ← β₁ m + (1 − β₁) ĝ        v ← β₂ v + (1 − β₂) ĝ²
/// θ ← θ − lr · m/(1 − β₁ᵗ) / (√(v/(1 − β₂ᵗ)) + ε)
/// ```
///
/// Of f32 and f64 parameters, moments have the same precision. Of bf16 and f16 ones they are f32,
/// and θ above is a master weight in f32, made of the parameter at its first step; the parameter is
/// the master rounded. A parameter that is not trained or never had a gradient has neither.
///
/// A parameter without a gradient stays as it is, and so do its moments and its `t`.
#[derive(Debug, Clone)]
pub struct AdamW {
    config: Config,
    moments: Vec<Option<Moments>>,
}

impl AdamW {
    /// The optimizer before its first step; it needs no memory yet.
    ///
    /// # Errors
    /// Constants out of range, or a precision other than f64, f32, bf16 and f16.
    pub fn new(parameters: &Parameters, config: Config) -> Result<Self> {
        config.check()?;
        match parameters.dtype() {
            DType::F64 | DType::F32 | DType::BF16 | DType::F16 => {}
            other => return Err(refuse_precision(other, "train in f32, f64 or bf16")),
        }
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
        for (index, _, gradient) in updates(parameters, gradients) {
            self.change(parameters, index, gradient, lr, gradient_scale)?;
        }
        Ok(())
    }

    /// The step of one parameter alone, that of a leaf, given its gradient: the step of all is that
    /// of each, in any order.
    ///
    /// # Errors
    /// As [`step`](Self::step), or a parameter that is not trained.
    pub fn step_one(
        &mut self,
        parameters: &Parameters,
        leaf: usize,
        gradient: &Tensor,
        lr: f64,
    ) -> Result<()> {
        check_number("learning rate", lr)?;
        match parameters.iter().nth(leaf) {
            Some(parameter) if parameter.trainable => {
                self.change(parameters, leaf, gradient, lr, 1.0)
            }
            other => {
                let name = other.map_or_else(|| format!("leaf {leaf}"), |p| p.name.clone());
                let problem = "it has a gradient, and is not trained";
                Err(Error::invalid(name, problem, "this is a bug of pistar"))
            }
        }
    }

    fn change(
        &mut self,
        parameters: &Parameters,
        index: usize,
        gradient: &Tensor,
        lr: f64,
        scale: f64,
    ) -> Result<()> {
        let Some(theta) = parameters.iter().nth(index).map(|p| &p.tensor) else {
            return Ok(());
        };
        let moments = match &mut self.moments[index] {
            Some(moments) => moments,
            none => none.insert(Moments::new(theta)?),
        };
        moments.steps = moments.steps.saturating_add(1);
        let pass = Pass::new(&self.config, theta.rank(), moments.steps, lr);
        let gradient = gradient.contiguous()?;
        match (theta.device(), theta.dtype()) {
            (Device::Cpu, DType::F32) => pass.fused::<f32>(theta, &gradient, moments, scale),
            (Device::Cpu, DType::F64) => pass.fused::<f64>(theta, &gradient, moments, scale),
            (Device::Cpu, DType::BF16) => {
                pass.mixed::<half::bf16>(theta, &gradient, moments, scale)
            }
            (Device::Cpu, DType::F16) => pass.mixed::<half::f16>(theta, &gradient, moments, scale),
            _ => pass.composed(theta, &gradient, moments, scale, PIECE),
        }
    }
}
