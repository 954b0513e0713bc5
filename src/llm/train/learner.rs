//! A network with what it takes to train it.

use std::path::Path;

use candle_core::{Device, Tensor};

use super::networks;
use super::optimizer::Optimizer;
use super::settings::Settings;
use crate::error::{Error, Result};
use crate::llm::files::checkpoint;
use crate::llm::files::finite::broken;
use crate::llm::model::decoder::Decoder;
use crate::llm::model::network::Network;
use crate::llm::tensor::optimizer::{Squares, clip, gradient_norm};
use crate::llm::tensor::parameters::Parameters;
use crate::llm::tensor::tape::LeafGradients;

/// A network that is trained and kept in folders.
pub trait Model: Network {
    /// The decoder in it, with what a head adds to its parameters.
    fn decoder(&self) -> &Decoder;

    /// Parameters, trained and frozen.
    fn parameters(&self) -> &Parameters {
        self.decoder().parameters()
    }

    /// Most tokens of a sequence.
    fn context(&self) -> usize {
        self.decoder().sizes().context
    }

    /// Writes it to a folder that is there. Tokenizer and the like are copied from `companions`, or
    /// from where it was loaded.
    ///
    /// # Errors
    /// If it cannot be written.
    fn save(&self, dir: &Path, companions: Option<&Path>) -> Result<()> {
        networks::save(self.decoder(), dir, companions)
    }
}

/// A network, its gradient and its optimiser.
pub struct Learner {
    /// The network.
    pub model: Box<dyn Model>,
    /// The gradient of the step so far.
    pub gradients: LeafGradients,
    optimizer: Optimizer,
    lr: f64,
    clip: f64,
}

impl Learner {
    /// A network before its first step, and its learning rate.
    ///
    /// # Errors
    /// Constants of the optimiser that are out of range.
    pub fn new(model: Box<dyn Model>, settings: &Settings, lr: f64) -> Result<Self> {
        let optimizer = Optimizer::new(model.parameters(), settings)?;
        let gradients = LeafGradients::new(model.leaves());
        let clip = settings.clip;
        Ok(Self {
            model,
            gradients,
            optimizer,
            lr,
            clip,
        })
    }

    /// The network that an ensemble makes: given its numbers by others, so that it has no
    /// optimiser's state.
    pub fn made(model: Box<dyn Model>, settings: &Settings, lr: f64) -> Self {
        let gradients = LeafGradients::new(model.leaves());
        let (optimizer, clip) = (Optimizer::Sgd, settings.clip);
        Self {
            model,
            gradients,
            optimizer,
            lr,
            clip,
        }
    }

    /// The learning rate before the schedule.
    pub fn lr(&self) -> f64 {
        self.lr
    }

    /// The gradient's norm.
    ///
    /// # Errors
    /// A failing device.
    pub fn norm(&self) -> Result<f64> {
        gradient_norm(self.model.parameters(), &self.gradients)
    }

    /// The first parameter that is not finite, if one is.
    ///
    /// # Errors
    /// A failing device.
    pub(super) fn broken(&self) -> Result<Option<&str>> {
        for parameter in self.model.parameters().iter() {
            if broken(&parameter.tensor)? > 0 {
                return Ok(Some(&parameter.name));
            }
        }
        Ok(None)
    }

    /// Clips a gradient of that norm, takes the step, and forgets the gradient.
    ///
    /// # Errors
    /// A failing device.
    pub fn update(&mut self, norm: f64, factor: f64) -> Result<()> {
        let scale = match self.clip {
            0.0 => 1.0,
            most => clip(norm, most),
        };
        let parameters = self.model.parameters();
        (self.optimizer).step(parameters, &self.gradients, self.lr * factor, scale)?;
        self.gradients.clear();
        Ok(())
    }

    /// The network, and what takes each of its gradients and updates the parameter at once, at the
    /// rate of that step.
    pub(super) fn at_once(&mut self, factor: f64) -> (&dyn Model, Updates<'_>) {
        let model = &*self.model;
        let updates = Updates {
            parameters: model.parameters(),
            optimizer: &mut self.optimizer,
            squares: Squares::new(model.leaves()),
            lr: self.lr * factor,
        };
        (model, updates)
    }

    /// Writes network and optimiser to a folder that is there.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(&self, dir: &Path, companions: Option<&Path>) -> Result<()> {
        self.model.save(dir, companions)?;
        let path = dir.join(OPTIMIZER);
        let state = self.optimizer.state(self.model.parameters())?;
        checkpoint::write_tensors(&path, &state)
    }

    /// Takes up the optimiser's state; the network has been loaded from the same folder.
    ///
    /// # Errors
    /// A file that is missing or broken, or is another network's.
    pub fn restore(&mut self, dir: &Path) -> Result<()> {
        let path = dir.join(OPTIMIZER);
        let state = candle_core::safetensors::load(&path, &Device::Cpu);
        let state = state.map_err(|e| Error::Format {
            origin: path.display().to_string(),
            message: e.to_string(),
            remedy: "resume from another checkpoint".into(),
        })?;
        (self.optimizer.load_state(self.model.parameters(), state))
            .map_err(|e| e.in_file(&path.display().to_string()))
    }
}

/// A step that goes on as gradients come.
pub(super) struct Updates<'a> {
    parameters: &'a Parameters,
    optimizer: &'a mut Optimizer,
    squares: Squares,
    lr: f64,
}

impl Updates<'_> {
    /// Updates a parameter by its gradient.
    pub fn take(&mut self, leaf: usize, gradient: Tensor) -> Result<()> {
        self.squares.add(leaf, &gradient)?;
        (self.optimizer).step_one(self.parameters, leaf, &gradient, self.lr)
    }

    /// The norm of the gradients that came.
    pub fn norm(&self) -> Result<f64> {
        self.squares.norm()
    }
}

const OPTIMIZER: &str = "optimizer.safetensors";
