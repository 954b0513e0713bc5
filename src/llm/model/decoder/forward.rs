//! Forward pass: tokens to hidden states, log-probabilities and logits.

use std::rc::Rc;

use candle_core::{DType, Tensor};

use super::{Block, Decoder, Linear, NormWeights};
use crate::error::{Error, Result};
use crate::llm::model::architecture::Norm;
use crate::llm::model::lora::{self, Lora};
use crate::llm::model::sequence::{Packed, Predictions, Sequence};
use crate::llm::tensor::ops::{self, Attention, Rope, Starts};
use crate::llm::tensor::parameters::Id;
use crate::llm::tensor::tape::{Node, Tape};

impl Decoder {
    /// The last block's output, normalised: `[N, width]` for N packed tokens.
    ///
    /// # Errors
    /// A token beyond the vocabulary, a sequence beyond the context, or a failing device.
    pub fn hidden<'a>(&'a self, tape: &Tape<'a>, packed: &Packed) -> Result<Node> {
        let a = &self.architecture;
        self.check(packed)?;
        let mut x = ops::embedding(tape, &self.node(tape, self.embedding), &packed.tokens)?;
        if a.embedding_scale != 1.0 {
            x = ops::scale(tape, &x, a.embedding_scale)?;
        }
        if let Some(table) = self.positions {
            let positions = (packed.starts.windows(2)).flat_map(|w| 0..(w[1] - w[0]) as u32);
            let positions = positions.collect::<Vec<_>>().into();
            let p = ops::embedding(tape, &self.node(tape, table), &positions)?;
            x = ops::add(tape, &x, &p)?;
        }
        let table = match &self.rope {
            Some(rotary) => Some(rotary.table(packed.longest())?),
            None => None,
        };
        for block in &self.blocks {
            let (table, starts) = (table.clone(), packed.starts.clone());
            let run = move |tape: &Tape<'a>, x: &Node| {
                self.block(tape, block, x, table.as_ref(), &starts)
            };
            x = if self.recompute {
                tape.again(&x, run)?
            } else {
                run(tape, &x)?
            };
        }
        self.normalise(tape, self.norm, &x)
    }

    /// ln π of every token of every completion, end to end, `[M]`; `predictions` says whose they
    /// are.
    ///
    /// # Errors
    /// As [`hidden`](Self::hidden).
    pub fn log_probs<'a>(&'a self, tape: &Tape<'a>, predictions: &Predictions) -> Result<Node> {
        let hidden = self.hidden(tape, &predictions.packed)?;
        self.log_probs_of(tape, &hidden, predictions)
    }

    /// [`log_probs`](Self::log_probs), given the [`hidden`](Self::hidden) of what is fed.
    ///
    /// # Errors
    /// A model without an output head, or a failing device.
    pub fn log_probs_of(
        &self,
        tape: &Tape,
        hidden: &Node,
        predictions: &Predictions,
    ) -> Result<Node> {
        let hidden = ops::rows(tape, hidden, &predictions.rows)?;
        ops::token_log_probs(tape, &hidden, &self.head(tape)?, None, &predictions.targets)
    }

    /// `Σ w ln π` over each completion's tokens, summed in f64.
    ///
    /// # Errors
    /// As [`hidden`](Self::hidden).
    pub fn sums(&self, sequences: &[&Sequence]) -> Result<Vec<f64>> {
        let predictions = Predictions::new(sequences);
        let each = self.log_probs(&Tape::idle(), &predictions)?;
        let each: Vec<f64> = each.value().to_dtype(DType::F64)?.to_vec1()?;
        Ok((predictions.starts.windows(2).zip(sequences))
            .map(|(w, sequence)| sequence.sum(&each[w[0]..w[1]]))
            .collect())
    }

    /// Logits of every next token: `[N, vocabulary]`; f32 where weights have fewer bits.
    ///
    /// # Errors
    /// As [`hidden`](Self::hidden).
    pub fn logits(&self, packed: &Packed) -> Result<Tensor> {
        let tape = Tape::idle();
        self.logits_of(&self.hidden(&tape, packed)?)
    }

    /// Logits of the next token at those rows of [`hidden`](Self::hidden): `[M, vocabulary]`.
    ///
    /// # Errors
    /// A model without an output head, a row that is not there, or a failing device.
    pub fn logits_at(&self, hidden: &Node, rows: &Rc<[u32]>) -> Result<Tensor> {
        self.logits_of(&ops::rows(&Tape::idle(), hidden, rows)?)
    }

    fn block(
        &self,
        tape: &Tape,
        block: &Block,
        x: &Node,
        table: Option<&Rope>,
        starts: &Starts,
    ) -> Result<Node> {
        let attended = self.attend(tape, block, x, table, starts)?;
        let x = ops::add(tape, x, &attended)?;
        let mixed = self.mix(tape, block, &x)?;
        ops::add(tape, &x, &mixed)
    }

    fn attend(
        &self,
        tape: &Tape,
        block: &Block,
        x: &Node,
        table: Option<&Rope>,
        starts: &Starts,
    ) -> Result<Node> {
        let a = &self.architecture;
        let x = self.normalise(tape, block.attention_norm, x)?;
        let mut q = self.linear(tape, block.query, &x)?;
        let mut k = self.linear(tape, block.key, &x)?;
        let v = self.linear(tape, block.value, &x)?;
        if let Some(table) = table {
            q = ops::rope(tape, &q, a.heads, table, starts)?;
            k = ops::rope(tape, &k, a.kv_heads, table, starts)?;
        }
        let form = Attention {
            heads: a.heads,
            kv_heads: a.kv_heads,
            head_dim: a.head_dim,
            scale: (a.head_dim as f64).sqrt().recip(),
            window: a.window,
            slopes: None,
        };
        let mixed = ops::attention(tape, [&q, &k, &v], &form, starts)?;
        self.linear(tape, block.output, &mixed)
    }

    pub(super) fn mix(&self, tape: &Tape, block: &Block, x: &Node) -> Result<Node> {
        let x = self.normalise(tape, block.mlp_norm, x)?;
        let up = self.linear(tape, block.up, &x)?;
        let f = self.architecture.activation;
        let inner = match block.gate {
            Some(gate) => ops::gated(tape, &self.linear(tape, gate, &x)?, &up, f)?,
            None => ops::activation(tape, &up, f)?,
        };
        self.linear(tape, block.down, &inner)
    }

    pub(super) fn linear(&self, tape: &Tape, linear: Linear, x: &Node) -> Result<Node> {
        let bias = linear.bias.map(|b| self.node(tape, b));
        let y = ops::linear(tape, x, &self.node(tape, linear.weight), bias.as_ref())?;
        let Some(Lora { a, b, scaling }) = linear.lora else {
            return Ok(y);
        };
        let inner = ops::linear(tape, x, &self.node(tape, a), None)?;
        let outer = ops::linear(tape, &inner, &self.node(tape, b), None)?;
        ops::add(tape, &y, &ops::scale(tape, &outer, scaling)?)
    }

    pub(super) fn normalise(&self, tape: &Tape, norm: NormWeights, x: &Node) -> Result<Node> {
        let weight = self.node(tape, norm.weight);
        let epsilon = self.architecture.epsilon;
        match (self.architecture.norm, norm.bias) {
            (Norm::Layer, Some(bias)) => {
                ops::layer_norm(tape, x, &weight, &self.node(tape, bias), epsilon)
            }
            (Norm::Rms { offset }, _) => ops::rms_norm(tape, x, &weight, epsilon, offset),
            (Norm::Layer, None) => unreachable!("a layer norm is made with its bias"),
        }
    }

    pub(super) fn node(&self, tape: &Tape, id: Id) -> Node {
        self.parameters.node(tape, id)
    }

    /// The output head's weight, adapted if it is.
    pub(super) fn head(&self, tape: &Tape) -> Result<Node> {
        let head = self.head.ok_or_else(|| {
            let problem = "the model has no output head";
            let remedy = "it was loaded as the body of a reward or value network; load a policy";
            Error::invalid("lm_head.weight", problem, remedy)
        })?;
        let weight = self.node(tape, head.weight);
        match head.lora {
            None => Ok(weight),
            Some(Lora { a, b, scaling }) => {
                let (a, b) = (self.node(tape, a), self.node(tape, b));
                lora::adapted(tape, &weight, &a, &b, scaling)
            }
        }
    }

    fn check(&self, packed: &Packed) -> Result<()> {
        let a = &self.architecture;
        if let Some(token) = (packed.tokens.iter()).find(|&&t| t as usize >= a.vocabulary) {
            return Err(Error::invalid(
                "tokens",
                format!(
                    "token {token} is not below the vocabulary's {}",
                    a.vocabulary
                ),
                "use the model's own tokenizer",
            ));
        }
        if packed.longest() > a.context {
            return Err(Error::invalid(
                "tokens",
                format!("a sequence has {} tokens", packed.longest()),
                format!("the model takes at most {}", a.context),
            ));
        }
        Ok(())
    }
}
