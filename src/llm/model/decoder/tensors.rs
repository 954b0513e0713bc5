//! A decoder's numbers, for those who lay them out in another way.

use candle_core::{DType, Tensor};

use super::Decoder;
use crate::error::{Error, Result};
use crate::llm::model::graph::{BLOCKS, EMBEDDING, Linear, Weight};
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
    ///
    /// # Errors
    /// A model of other names.
    pub(in crate::llm) fn embedding_tensor(&self) -> Result<Tensor> {
        self.tensor(EMBEDDING)
    }

    /// Learned positions `[context, width]`, if it has them.
    pub(in crate::llm) fn position_tensor(&self) -> Option<Tensor> {
        self.tensor("model.embed_positions.weight").ok()
    }

    /// Cosines and sines of at least that many positions, if it has rotary ones.
    ///
    /// # Errors
    /// A failing device.
    pub(in crate::llm) fn rotary_table(&self, longest: usize) -> Result<Option<Rope>> {
        Ok(self.tables(longest)?.into_iter().next())
    }

    /// The tensors of a plain decoder's block.
    ///
    /// # Errors
    /// Another block's; no memory for weights with an adapter.
    pub(in crate::llm) fn layer(&self, index: usize) -> Result<Layer> {
        let at = |part: &str| format!("{BLOCKS}.{index}.{part}");
        let layer = |part: &str| self.dense_named(&at(part));
        let gate = "mlp.gate_proj";
        Ok(Layer {
            attention_norm: self.norm_tensors(&at("input_layernorm"))?,
            qkv: [
                layer("self_attn.q_proj")?,
                layer("self_attn.k_proj")?,
                layer("self_attn.v_proj")?,
            ],
            output: layer("self_attn.o_proj")?,
            mlp_norm: self.norm_tensors(&at("post_attention_layernorm"))?,
            gate: if self.graph.linear_named(&at(gate)).is_some() {
                Some(layer(gate)?)
            } else {
                None
            },
            up: layer("mlp.up_proj")?,
            down: layer("mlp.down_proj")?,
        })
    }

    /// The last norm's tensors.
    ///
    /// # Errors
    /// A model without one.
    pub(in crate::llm) fn last_norm(&self) -> Result<Dense> {
        self.norm_tensors("model.norm")
    }

    /// The output head's weight `[V, width]`, adapted if it is.
    ///
    /// # Errors
    /// A model without one.
    pub(in crate::llm) fn head_tensor(&self) -> Result<Tensor> {
        Ok(self.head(&Tape::idle())?.value().clone())
    }

    /// The output head's bias `[V]`, if it has one.
    pub(in crate::llm) fn head_bias(&self) -> Option<Tensor> {
        let bias = self.graph.linear(self.graph.head).bias?;
        Some(self.parameters.get(self.id(bias)).tensor.clone())
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
        let last = packed.sequences.iter();
        let last = last.map(|span| span.row(span.length() - 1) as u32);
        self.logits_of(&ops::rows(&tape, &hidden, &last.collect())?)
    }

    /// Logits of hidden states: bfloat16's 8 bits would leave steps of 1/8 around 20, so that they
    /// are in f32 then.
    pub(super) fn logits_of(&self, hidden: &Node) -> Result<Tensor> {
        let tape = Tape::idle();
        let head = self.head(&tape)?;
        let wide = |x: &Tensor| x.to_dtype(DType::F32);
        let bias = self.head_bias();
        if matches!(head.value().dtype(), DType::F32 | DType::F64) {
            let bias = bias.map(Node::constant);
            let logits = ops::linear(&tape, hidden, &head, bias.as_ref())?;
            return Ok(logits.value().clone());
        }
        let logits = wide(hidden.value())?.matmul(&wide(head.value())?.t()?)?;
        Ok(match bias {
            Some(bias) => logits.broadcast_add(&wide(&bias)?)?,
            None => logits,
        })
    }

    /// A parameter's numbers by its name.
    fn tensor(&self, name: &str) -> Result<Tensor> {
        let missing = || Error::invalid(name, "there is no such weight", "this is a bug of pistar");
        let id = self.parameters.find(name).ok_or_else(missing)?;
        Ok(self.parameters.get(id).tensor.clone())
    }

    /// A weight's numbers.
    pub(in crate::llm) fn weight_tensor(&self, weight: Weight) -> Tensor {
        self.parameters.get(self.id(weight)).tensor.clone()
    }

    fn dense_named(&self, name: &str) -> Result<Dense> {
        let missing = || Error::invalid(name, "there is no such layer", "this is a bug of pistar");
        self.dense(self.graph.linear_named(name).ok_or_else(missing)?)
    }

    /// A linear layer's weights, with its adapter.
    ///
    /// # Errors
    /// No memory for weights with an adapter.
    pub(in crate::llm) fn dense(&self, layer: Linear) -> Result<Dense> {
        let weights = self.graph.linear(layer);
        let get = |id| self.parameters.get(id).tensor.clone();
        let own = get(self.id(weights.weight));
        let weight = match self.adapters[layer.index()] {
            None => own,
            Some(Lora { a, b, scaling }) => {
                let [w, a, b] = [own, get(a), get(b)].map(Node::constant);
                lora::adapted(&Tape::idle(), &w, &a, &b, scaling)?
                    .value()
                    .clone()
            }
        };
        let bias = weights.bias.map(|bias| get(self.id(bias)));
        Ok(Dense { weight, bias })
    }

    fn norm_tensors(&self, name: &str) -> Result<Dense> {
        Ok(Dense {
            weight: self.tensor(&format!("{name}.weight"))?,
            bias: self.tensor(&format!("{name}.bias")).ok(),
        })
    }
}
