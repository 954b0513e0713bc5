//! Adapters from and to folders.

use std::path::Path;

use candle_core::{DType, Tensor};

use super::modules::{Module, b_name};
use super::{Adapter, AdapterConfig, HEAD};
use crate::error::{Error, Result};
use crate::file::Staged;
use crate::file::json::sorted;
use crate::llm::model::decoder::Decoder;
use crate::llm::model::families::{Names, join, split};
use crate::llm::model::graph::EMBEDDING;
use crate::llm::model::heads::ScalarHead;
use crate::llm::model::weights::{self, Checkpoint, Item};
use crate::llm::tensor::same;

/// Name of the adapter's configuration file.
pub const CONFIG: &str = "adapter_config.json";
/// Its weights.
pub(in crate::llm) const WEIGHTS: &str = "adapter_model.safetensors";

/// What PEFT puts before every path.
const PREFIX: &str = "base_model.model.";

/// What an adapter's file calls a tensor.
pub(super) fn key(name: &str) -> String {
    format!("{PREFIX}{name}")
}

/// Whether a reward head was saved with the adapter in a folder.
///
/// # Errors
/// Weights that cannot be read.
pub(in crate::llm) fn has_reward_head(dir: &Path) -> Result<bool> {
    let name = key(ScalarHead::Reward.names()[0]);
    Ok(Checkpoint::file(&dir.join(WEIGHTS))?.has(&name))
}

/// An adapter as it is in a folder.
struct Read {
    config: AdapterConfig,
    modules: Vec<Module>,
    /// Of each module A, and B of its parts.
    tensors: Vec<Tensor>,
    /// A reward head that was saved with it.
    score: Option<Tensor>,
}

impl Decoder {
    /// Puts the adapter of a folder in (`adapter_config.json`, `adapter_model.safetensors`), and a
    /// reward head that was saved with it. The whole model is frozen then;
    /// [`train_adapter`](Self::train_adapter) trains the adapter.
    ///
    /// # Errors
    /// A file that is missing or broken, a configuration that is not supported, or tensors that do
    /// not fit it and the model.
    pub fn load_adapter(&mut self, dir: impl AsRef<Path>) -> Result<()> {
        let Read {
            config,
            modules,
            tensors,
            score,
        } = self.read_adapter(dir.as_ref())?;
        let mut tensors = tensors.into_iter();
        self.attach(config, modules, |_, _| {
            (tensors.next()).ok_or_else(|| {
                Error::invalid(WEIGHTS, "a tensor is missing", "this is a bug of pistar")
            })
        })?;
        if let Some(score) = score {
            ScalarHead::Reward.set(self, &score)?;
        }
        for parameter in self.parameters_mut().iter_mut() {
            parameter.trainable = false;
        }
        Ok(())
    }

    /// Gives the adapter, and a reward head that is saved with it, the numbers of a folder.
    ///
    /// # Errors
    /// As [`load_adapter`](Self::load_adapter); a model without adapter, or with another.
    pub(in crate::llm) fn set_adapter(&mut self, dir: &Path) -> Result<()> {
        let Read {
            modules,
            tensors,
            score,
            ..
        } = self.read_adapter(dir)?;
        let names = modules.iter().flat_map(|module| {
            let parts = module.parts.iter().map(|(part, _)| b_name(part));
            std::iter::once(module.a().0).chain(parts)
        });
        for (name, tensor) in names.zip(&tensors) {
            self.parameters_mut()
                .set(&name, tensor)
                .map_err(|e| e.in_file(&dir.display().to_string()))?;
        }
        match score {
            Some(score) => ScalarHead::Reward.set(self, &score),
            None => Ok(()),
        }
    }

    /// An adapter for this model, out of its folder.
    fn read_adapter(&self, dir: &Path) -> Result<Read> {
        let config = AdapterConfig::read(&dir.join(CONFIG))?;
        let modules = self.modules(&config, false)?;
        let path = dir.join(WEIGHTS);
        if !path.exists() {
            let problem = "there is no such file";
            let remedy = "an adapter's folder holds its weights as safetensors";
            return Err(Error::invalid(path.display().to_string(), problem, remedy));
        }
        let mut checkpoint = Checkpoint::file(&path)?;
        self.unchanged(&mut checkpoint)?;
        let mut tensors: Vec<Tensor> = Vec::new();
        for module in &modules {
            let (_, [input]) = module.a();
            let rank = config.rank;
            let of_kind = |kind: &str| key(&format!("{}.lora_{kind}.weight", module.path));
            tensors.push(checkpoint.take(&of_kind("A"), &[rank, input])?);
            let total = module.parts.iter().map(|(_, [output, _])| output).sum();
            let b = checkpoint.take(&of_kind("B"), &[total, rank])?;
            let rows: Vec<usize> = module
                .parts
                .iter()
                .map(|(_, [output, _])| *output)
                .collect();
            tensors.extend(split(&b, &rows, module.turns)?);
        }
        let score = key("score.weight");
        let score = if checkpoint.has(&score) {
            Some(checkpoint.take(&score, &[1, self.sizes().width])?)
        } else {
            None
        };
        checkpoint.all_taken()?;
        Ok(Read {
            config,
            modules,
            tensors,
            score,
        })
    }

    /// Says where the base of the adapter is.
    pub(in crate::llm) fn set_base(&mut self, base: &Path) {
        if let Some(adapter) = &mut self.adapter {
            adapter.config.base = Some(base.display().to_string());
        }
    }

    /// PEFT saves embeddings and output head too if either is adapted: they must be the base's.
    fn unchanged(&self, checkpoint: &mut Checkpoint) -> Result<()> {
        let names = self
            .config()
            .map_or(Names::LLAMA, |config| config.family.names);
        let embedding = names.of(EMBEDDING);
        let embedding = embedding.strip_suffix(".weight").unwrap_or(&embedding);
        let tied = self.sizes().tied;
        let head = if tied { EMBEDDING } else { "lm_head.weight" };
        for (path, ours) in [(embedding, EMBEDDING), (HEAD, head)] {
            for end in ["weight", "base_layer.weight"] {
                let name = key(&format!("{path}.{end}"));
                let Some(id) = self
                    .parameters()
                    .find(ours)
                    .filter(|_| checkpoint.has(&name))
                else {
                    continue;
                };
                let ours = &self.parameters().get(id).tensor;
                if !same(&checkpoint.take(&name, ours.dims())?, ours)? {
                    let place = format!("{}: {name}", checkpoint.origin().display());
                    let problem = "it differs from the base's";
                    let remedy = "adapters with trained embeddings are not supported";
                    return Err(Error::invalid(place, problem, remedy));
                }
            }
        }
        Ok(())
    }

    /// Saves the adapter to a folder that PEFT loads, in the parameters' precision; a reward head
    /// with it.
    ///
    /// # Errors
    /// A model without adapter; a file that cannot be written (then nothing is left behind).
    pub fn save_adapter(&self, dir: impl AsRef<Path>) -> Result<()> {
        let dir = dir.as_ref();
        let Some(Adapter { config, modules }) = self.adapter() else {
            let place = dir.display().to_string();
            let remedy = "save the model itself";
            return Err(Error::invalid(place, "the model has no adapter", remedy));
        };
        let mut config = config.clone();
        if config.base.is_none() {
            config.base = self.origin().map(|dir| dir.display().to_string());
        }
        let reward = ScalarHead::of(self) == Some(ScalarHead::Reward);
        let mut items = Vec::new();
        for module in modules {
            let of_kind = |kind: &str| key(&format!("{}.lora_{kind}.weight", module.path));
            items.push(self.item(of_kind("A"), vec![module.a().0], 0)?);
            let parts = module.parts.iter().map(|(part, _)| b_name(part)).collect();
            items.push(self.item(of_kind("B"), parts, module.turns)?);
        }
        if reward {
            let name = ScalarHead::Reward.names()[0];
            items.push(self.item(key(name), vec![name.into()], 0)?);
        }
        let mut staged = Staged::new(dir)?;
        let paths: Vec<&str> = modules.iter().map(|m| m.path.as_str()).collect();
        let json = sorted(config.to_json(&paths, self.stores_transposed(), reward));
        staged.bytes(CONFIG, format!("{json:#}\n").as_bytes())?;
        let items: Vec<&Item> = items.iter().collect();
        let dtype: DType = self.parameters().dtype();
        weights::file(&mut staged, WEIGHTS, &items, dtype)?;
        staged.finish()
    }

    /// Parameters under one name, one after the other along the first axis or in turn.
    fn item(&self, name: String, parts: Vec<String>, turns: usize) -> Result<Item<'static>> {
        let tensors = (parts.iter())
            .map(|part| {
                let id = self.parameters().find(part).ok_or_else(|| {
                    Error::invalid(part, "it is missing", "this is a bug of pistar")
                })?;
                Ok(self.parameters().get(id).tensor.clone())
            })
            .collect::<Result<Vec<_>>>()?;
        let mut shape = tensors[0].dims().to_vec();
        shape[0] = tensors.iter().map(|t| t.dims()[0]).sum();
        let tensor = Box::new(move || join(&tensors, turns));
        Ok(Item {
            name,
            shape,
            tensor,
        })
    }
}
