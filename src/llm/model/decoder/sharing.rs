//! Copies, and layers with adapters.

use std::collections::HashMap;

use candle_core::Tensor;

use super::{Decoder, Linear};
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
        for linear in base.linears() {
            linear.lora = None;
        }
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
            architecture: self.architecture.clone(),
            parameters: self.parameters.copied(true, shared)?,
            blocks: self.blocks.clone(),
            rope: self.rope.clone(),
            config: self.config.clone(),
            origin: self.origin.clone(),
            adapter: None,
            recompute: self.recompute,
            ..*self
        })
    }

    /// Its tensors by name.
    pub(in crate::llm) fn into_tensors(self) -> HashMap<String, Tensor> {
        self.parameters.into_tensors()
    }

    /// Adapts a linear layer: `lm_head`, or that of a weight.
    pub(in crate::llm) fn adapt(&mut self, name: &str, lora: Lora) -> Result<()> {
        if name == "lm_head" {
            if let Some(head) = &mut self.head {
                head.lora = Some(lora);
            }
            return Ok(());
        }
        let weight = self.parameters.find(&format!("{name}.weight"));
        match self.linears().find(|l| Some(l.weight) == weight) {
            Some(linear) => linear.lora = Some(lora),
            None => {
                let remedy = "this is a bug of pistar";
                return Err(Error::invalid(name, "it is no linear layer", remedy));
            }
        }
        Ok(())
    }

    /// All linear layers, the output head last.
    fn linears(&mut self) -> impl Iterator<Item = &mut Linear> {
        let blocks = self.blocks.iter_mut().flat_map(|b| {
            let attention = [&mut b.query, &mut b.key, &mut b.value, &mut b.output];
            let mlp = [&mut b.up, &mut b.down].into_iter().chain(&mut b.gate);
            attention.into_iter().chain(mlp)
        });
        blocks.chain(&mut self.head)
    }
}
