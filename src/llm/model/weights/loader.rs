//! A decoder's parameters out of a checkpoint.

use std::collections::HashMap;

use candle_core::Tensor;

use super::{Checkpoint, Entry};
use crate::error::{Error, Result};
use crate::llm::model::config::Config;

/// Turns the tensors of files into parameters, under Llama's names.
pub struct Loader {
    checkpoint: Checkpoint,
    /// The tensor that each parameter is in.
    entries: HashMap<String, Entry>,
    /// Parameters that were read with another, of the same tensor.
    ready: HashMap<String, Tensor>,
}

impl Loader {
    /// A loader for a decoder of that configuration. The prefix of names, `model.` or `transformer.`, may be missing
    /// from all of them, as in files of the body alone.
    pub fn new(checkpoint: Checkpoint, config: &Config, head: bool) -> Self {
        let mut list = config.family.names.layout(&config.graph, head);
        let bare = |name: &str| {
            let bare = name
                .strip_prefix("model.")
                .or(name.strip_prefix("transformer."));
            bare.unwrap_or(name).to_string()
        };
        if (list.first())
            .is_some_and(|e| !checkpoint.has(&e.name) && checkpoint.has(&bare(&e.name)))
        {
            for entry in &mut list {
                entry.name = bare(&entry.name);
            }
        }
        let mut entries = HashMap::new();
        for entry in list {
            for (part, _) in &entry.parts {
                entries.insert(part.clone(), entry.clone());
            }
        }
        let ready = HashMap::new();
        Self {
            checkpoint,
            entries,
            ready,
        }
    }

    /// A parameter.
    ///
    /// # Errors
    /// A tensor that is missing, of another shape, or cannot be read.
    pub fn take(&mut self, parameter: &str) -> Result<Tensor> {
        if let Some(tensor) = self.ready.remove(parameter) {
            return Ok(tensor);
        }
        let Some(entry) = self.entries.get(parameter) else {
            let remedy = "this is a bug of pistar";
            return Err(Error::invalid(
                parameter,
                "no file has a name for it",
                remedy,
            ));
        };
        let parts = entry.split(self.checkpoint.take(&entry.name, &entry.shape())?)?;
        for ((name, _), part) in entry.parts.iter().zip(parts) {
            self.ready.insert(name.clone(), part);
        }
        self.ready
            .remove(parameter)
            .ok_or_else(|| Error::invalid(parameter, "no file holds it", "this is a bug of pistar"))
    }

    /// Checks that nothing is left in the files.
    ///
    /// # Errors
    /// The first tensor that nobody asked for.
    pub fn finish(self) -> Result<()> {
        self.checkpoint.all_taken()
    }
}
