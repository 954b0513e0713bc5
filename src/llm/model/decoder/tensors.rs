//! A decoder's numbers, for those who lay them out in another way.

use candle_core::{DType, Tensor};

use super::{Decoder, Linear, NormWeights};
use crate::error::Result;
use crate::llm::model::lora::{self, Lora};
#[cfg(test)]
use crate::llm::model::sequence::Packed;
use crate::llm::tensor::ops::{self, Rope};
use crate::llm::tensor::tape::{Node, Tape};

/// A linear layer's weight `[O, I]`, an adapter's product added to it, and bias `[O]`; or a norm's.
pub(in crate::llm) struct Dense {
    pub weight: Tensor,
    pub bias: Option<Tensor>,
}

/// The tensors of a block.
pub(in crate::llm) struct Layer {
    pub attention_norm: Dense,
    /// Query, key and value.
    pub qkv: [Dense; 3],
    pub output: Dense,
    pub mlp_norm: Dense,
    pub gate: Option<Dense>,
    pub up: Dense,
    pub down: Dense,
}

impl Decoder {
    /// The embedding `[V, width]`.
    pub(in crate::llm) fn embedding_tensor(&self) -> Tensor {
        self.parameters.get(self.embedding).tensor.clone()
    }

    /// Learned positions `[context, width]`, if it has them.
    pub(in crate::llm) fn position_tensor(&self) -> Option<Tensor> {
        Some(self.parameters.get(self.positions?).tensor.clone())
    }

    /// Cosines and sines of at least that many positions, if it has rotary ones.
    ///
    /// # Errors
    /// A failing device.
    pub(in crate::llm) fn rotary_table(&self, longest: usize) -> Result<Option<Rope>> {
        let table = self.rope.as_ref().map(|rope| rope.table(longest));
        table.transpose()
    }

    /// The tensors of a block.
    ///
    /// # Errors
    /// No memory for weights with an adapter.
    pub(in crate::llm) fn layer(&self, index: usize) -> Result<Layer> {
        let block = &self.blocks[index];
        Ok(Layer {
            attention_norm: self.norm_tensors(block.attention_norm),
            qkv: [
                self.dense(block.query)?,
                self.dense(block.key)?,
                self.dense(block.value)?,
            ],
            output: self.dense(block.output)?,
            mlp_norm: self.norm_tensors(block.mlp_norm),
            gate: block.gate.map(|gate| self.dense(gate)).transpose()?,
            up: self.dense(block.up)?,
            down: self.dense(block.down)?,
        })
    }

    /// The last norm's tensors.
    pub(in crate::llm) fn last_norm(&self) -> Dense {
        self.norm_tensors(self.norm)
    }

    /// The output head's weight `[V, width]`, adapted if it is.
    ///
    /// # Errors
    /// A model without one.
    pub(in crate::llm) fn head_tensor(&self) -> Result<Tensor> {
        Ok(self.head(&Tape::idle())?.value().clone())
    }

    /// Logits of the token after each packed sequence: `[S, vocabulary]`; f32 where weights have
    /// fewer bits.
    ///
    /// # Errors
    /// As [`hidden`](Self::hidden), or a model without output head.
    #[cfg(test)]
    pub(in crate::llm) fn last_logits(&self, packed: &Packed) -> Result<Tensor> {
        let tape = Tape::idle();
        let hidden = self.hidden(&tape, packed)?;
        let last = packed.starts[1..].iter().map(|&end| end as u32 - 1);
        self.logits_of(&ops::rows(&tape, &hidden, &last.collect())?)
    }

    /// Logits of hidden states: bfloat16's 8 bits would leave steps of 1/8 around 20, so that they
    /// are in f32 then.
    pub(super) fn logits_of(&self, hidden: &Node) -> Result<Tensor> {
        let tape = Tape::idle();
        let head = self.head(&tape)?;
        let wide = |x: &Node| x.value().to_dtype(DType::F32);
        match head.value().dtype() {
            DType::F32 | DType::F64 => Ok(ops::linear(&tape, hidden, &head, None)?.value().clone()),
            _ => Ok(wide(hidden)?.matmul(&wide(&head)?.t()?)?),
        }
    }

    fn dense(&self, linear: Linear) -> Result<Dense> {
        let get = |id| self.parameters.get(id).tensor.clone();
        let weight = match linear.lora {
            None => get(linear.weight),
            Some(Lora { a, b, scaling }) => {
                let [w, a, b] = [linear.weight, a, b].map(|id| Node::constant(get(id)));
                lora::adapted(&Tape::idle(), &w, &a, &b, scaling)?
                    .value()
                    .clone()
            }
        };
        let bias = linear.bias.map(get);
        Ok(Dense { weight, bias })
    }

    fn norm_tensors(&self, norm: NormWeights) -> Dense {
        let get = |id| self.parameters.get(id).tensor.clone();
        Dense {
            weight: get(norm.weight),
            bias: norm.bias.map(get),
        }
    }
}
