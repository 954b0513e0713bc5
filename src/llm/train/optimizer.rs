//! The optimiser of a network: AdamW, or gradient descent.

use std::collections::HashMap;

use candle_core::Tensor;

use super::enums::OptimizerKind;
use super::settings::Settings;
use crate::error::{Error, Result};
use crate::llm::tensor::optimizer::{AdamW, sgd};
use crate::llm::tensor::parameters::Parameters;
use crate::llm::tensor::tape::LeafGradients;

/// An optimiser with its state.
pub(super) enum Optimizer {
    AdamW(Box<AdamW>),
    /// Has none.
    Sgd,
}

impl Optimizer {
    /// That of the settings, before its first step.
    ///
    /// # Errors
    /// Constants that are out of range.
    pub fn new(parameters: &Parameters, settings: &Settings) -> Result<Self> {
        Ok(match settings.optimizer {
            OptimizerKind::AdamW => {
                Self::AdamW(Box::new(AdamW::new(parameters, settings.adamw())?))
            }
            OptimizerKind::Sgd => Self::Sgd,
        })
    }

    /// A step along a gradient times `scale`.
    ///
    /// # Errors
    /// A failing device.
    pub fn step(
        &mut self,
        parameters: &Parameters,
        gradients: &LeafGradients,
        lr: f64,
        scale: f64,
    ) -> Result<()> {
        match self {
            Self::AdamW(adamw) => adamw.step(parameters, gradients, lr, scale),
            Self::Sgd => sgd(parameters, gradients, lr, scale),
        }
    }

    /// A step of one parameter.
    ///
    /// # Errors
    /// A failing device; gradient descent, which settings refuse to run in the backward.
    pub fn step_one(
        &mut self,
        parameters: &Parameters,
        leaf: usize,
        gradient: &Tensor,
        lr: f64,
    ) -> Result<()> {
        match self {
            Self::AdamW(adamw) => adamw.step_one(parameters, leaf, gradient, lr),
            Self::Sgd => Err(Error::invalid(
                "optimizer",
                "sgd does not run in the backward",
                "leave out optimizer_in_backward",
            )),
        }
    }

    /// Its state by name.
    ///
    /// # Errors
    /// A failing device.
    pub fn state(&self, parameters: &Parameters) -> Result<HashMap<String, Tensor>> {
        match self {
            Self::AdamW(adamw) => Ok(adamw.state(parameters)?.into_iter().collect()),
            Self::Sgd => Ok(HashMap::new()),
        }
    }

    /// Takes up a state.
    ///
    /// # Errors
    /// One of other parameters.
    pub fn load_state(
        &mut self,
        parameters: &Parameters,
        state: HashMap<String, Tensor>,
    ) -> Result<()> {
        match self {
            Self::AdamW(adamw) => adamw.load_state(parameters, state),
            Self::Sgd => Ok(()),
        }
    }
}
