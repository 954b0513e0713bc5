//! Copies, and layers with adapters.

use std::collections::HashMap;

use candle_core::Tensor;

use super::Decoder;
use crate::error::{Error, Result};
use crate::llm::model::lora::{Lora, moves_beside_a_base};
use crate::llm::tensor::parameters::Parameter;

impl Decoder {
    /// The same model with memory of its own: what happens to one is not seen by the other.
    ///
    /// # Errors
    /// A failing device.
    pub fn copy(&self) -> Result<Self> {
        Ok(Self {
            parameters: self.parameters.copied(false, |_| false)?,
            adapter: self.adapter.clone(),
            recompute: self.recompute,
            ..self.shared(|_| true)?
        })
    }

    /// The same model without its adapter, frozen, sharing its memory.
    pub(in crate::llm) fn without_adapter(&self) -> Result<Self> {
        let mut base = self.shared(|_| true)?;
        base.adapters.fill(None);
        Ok(base)
    }

    /// The same model as it is now, frozen: its adapter and scalar head have memory of their own, and
    /// the base is shared.
    pub(in crate::llm) fn frozen(&self) -> Result<Self> {
        Ok(Self {
            adapter: self.adapter.clone(),
            ..self.shared(|p| !moves_beside_a_base(&p.name))?
        })
    }

    /// Frozen, without saying which adapter it has; those parameters share memory.
    fn shared(&self, shared: impl Fn(&Parameter) -> bool) -> Result<Self> {
        Ok(Self {
            graph: self.graph.clone(),
            parameters: self.parameters.copied(true, shared)?,
            ids: self.ids.clone(),
            adapters: self.adapters.clone(),
            with_head: self.with_head,
            rotations: self.rotations.clone(),
            config: self.config.clone(),
            origin: self.origin.clone(),
            adapter: None,
            recompute: self.recompute,
            temperature: self.temperature,
        })
    }

    /// Its tensors by name.
    pub(in crate::llm) fn into_tensors(self) -> HashMap<String, Tensor> {
        self.parameters.into_tensors()
    }

    /// Adapts a linear layer.
    pub(in crate::llm) fn adapt(&mut self, name: &str, lora: Lora) -> Result<()> {
        let layer = self.graph.linear_named(name).ok_or_else(|| {
            let remedy = "this is a bug of pistar";
            Error::invalid(name, "it is no linear layer", remedy)
        })?;
        self.adapters[layer.index()] = Some(lora);
        Ok(())
    }
}
