//! A moving average of a policy's weights.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use candle_core::{Device, Tensor};

use crate::error::{Error, Result};
use crate::llm::files::checkpoint;
use crate::llm::model::decoder::Decoder;
use crate::llm::model::lora::moves_beside_a_base;
use crate::llm::tensor::parameters::Parameters;

/// Name of its weights in a checkpoint.
const FILE: &str = "average.safetensors";

/// A model whose weights follow another's.
pub struct Average {
    /// The model.
    pub model: Decoder,
    /// Names of its weights that move.
    moving: HashSet<String>,
    rate: f64,
}

impl Average {
    /// One that begins where the policy is, with its rate τ.
    ///
    /// # Errors
    /// A failing device.
    pub fn new(policy: &Decoder, rate: f64) -> Result<Self> {
        // An adapter's base does not move, and is shared.
        let adapted = policy.adapter().is_some();
        let model = if adapted {
            policy.frozen()?
        } else {
            policy.copy()?
        };
        let moves = |name: &str| !adapted || moves_beside_a_base(name);
        let names = model.parameters().iter().map(|p| &p.name);
        let moving = names.filter(|name| moves(name)).cloned().collect();
        Ok(Self {
            model,
            moving,
            rate,
        })
    }

    /// `θ′ ← τθ + (1 − τ)θ′` of every weight that is trained; τ = 0 and 1 leave and take the numbers as they are.
    ///
    /// # Errors
    /// Weights of another shape, or a failing device.
    pub fn follow(&mut self, policy: &Parameters) -> Result<()> {
        if self.rate == 0.0 {
            return Ok(());
        }
        let pairs = self.model.parameters_mut().iter_mut().zip(policy.iter());
        for (own, theirs) in pairs.filter(|(_, theirs)| theirs.trainable) {
            own.tensor = if self.rate == 1.0 {
                theirs.tensor.copy()?
            } else {
                ((&theirs.tensor * self.rate)? + (&own.tensor * (1.0 - self.rate))?)?
            };
        }
        Ok(())
    }

    /// Writes its weights to a folder that is there.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn save(&self, dir: &Path) -> Result<()> {
        let parameters = (self.model.parameters().iter()).filter(|p| self.moving.contains(&p.name));
        let tensors: HashMap<String, Tensor> = parameters
            .map(|p| (p.name.clone(), p.tensor.clone()))
            .collect();
        checkpoint::write_tensors(&dir.join(FILE), &tensors)
    }

    /// Takes them up.
    ///
    /// # Errors
    /// A file that is missing or broken, or is another model's.
    pub fn restore(&mut self, dir: &Path) -> Result<()> {
        let path = dir.join(FILE);
        let tensors = candle_core::safetensors::load(&path, &Device::Cpu);
        let tensors = tensors.map_err(|e| Error::Format {
            origin: path.display().to_string(),
            message: e.to_string(),
            remedy: "resume from another checkpoint".into(),
        })?;
        for (name, tensor) in &tensors {
            (self.model.parameters_mut().set(name, tensor))
                .map_err(|e| e.in_file(&path.display().to_string()))?;
        }
        Ok(())
    }
}
