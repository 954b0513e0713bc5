//! The decoder-only transformer.

mod build;
mod initial;

use std::path::PathBuf;

use candle_core::{DType, Tensor};

use super::architecture::{Architecture, Norm};
use super::config::Config;
use super::ops::{self, Attention, Rope, Starts};
use super::parameters::{Id, Parameters};
use super::sequence::{Packed, Predictions, Sequence};
use super::tape::{Node, Tape};
use crate::error::{Error, Result};

pub use build::Source;

/// `x Wᵀ + b`.
#[derive(Debug, Clone, Copy)]
struct Linear {
    weight: Id,
    bias: Option<Id>,
}

#[derive(Debug, Clone, Copy)]
struct NormWeights {
    weight: Id,
    bias: Option<Id>,
}

#[derive(Debug, Clone)]
struct Block {
    attention_norm: NormWeights,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    mlp_norm: NormWeights,
    gate: Option<Linear>,
    up: Linear,
    down: Linear,
}

/// A decoder with its weights.
#[derive(Debug, Clone)]
pub struct Decoder {
    architecture: Architecture,
    parameters: Parameters,
    embedding: Id,
    positions: Option<Id>,
    blocks: Vec<Block>,
    norm: NormWeights,
    /// None in a reward or value network of its own.
    head: Option<Id>,
    rope: Option<Rope>,
    /// None if it was made from an architecture.
    config: Option<Config>,
    /// The folder it was loaded from.
    origin: Option<PathBuf>,
}

impl Decoder {
    /// What it is made of.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// Its weights.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Its weights, to change what is trained.
    pub fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    /// The configuration it was made from, if it was.
    pub fn config(&self) -> Option<&Config> {
        self.config.as_ref()
    }

    /// Where it comes from.
    pub(super) fn set_folder(&mut self, config: Config, origin: Option<PathBuf>) {
        self.config = Some(config);
        self.origin = origin;
    }

    /// The last block's output, normalised: `[N, width]` for N packed tokens.
    ///
    /// # Errors
    /// A token beyond the vocabulary, a sequence beyond the context, or a failing device.
    pub fn hidden(&self, tape: &Tape, packed: &Packed) -> Result<Node> {
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
        for block in &self.blocks {
            let attended = self.attend(tape, block, &x, &packed.starts)?;
            x = ops::add(tape, &x, &attended)?;
            let mixed = self.mix(tape, block, &x)?;
            x = ops::add(tape, &x, &mixed)?;
        }
        self.normalise(tape, self.norm, &x)
    }

    /// ln π of every token of every completion, end to end, `[M]`; `predictions` says whose they
    /// are.
    ///
    /// # Errors
    /// As [`hidden`](Self::hidden).
    pub fn log_probs(&self, tape: &Tape, predictions: &Predictions) -> Result<Node> {
        let hidden = self.hidden(tape, &predictions.packed)?;
        let hidden = ops::rows(tape, &hidden, &predictions.rows)?;
        ops::token_log_probs(
            tape,
            &hidden,
            &self.node(tape, self.head()?),
            &predictions.targets,
        )
    }

    /// `Σ ln π` over each completion's tokens, summed in f64.
    ///
    /// # Errors
    /// As [`hidden`](Self::hidden).
    pub fn sums(&self, sequences: &[&Sequence]) -> Result<Vec<f64>> {
        let predictions = Predictions::new(sequences);
        let each = self.log_probs(&Tape::idle(), &predictions)?;
        let each: Vec<f64> = each.value().to_dtype(DType::F64)?.to_vec1()?;
        Ok((predictions.starts.windows(2))
            .map(|w| each[w[0]..w[1]].iter().sum())
            .collect())
    }

    /// Logits of every next token: `[N, vocabulary]`.
    ///
    /// # Errors
    /// As [`hidden`](Self::hidden).
    pub fn logits(&self, packed: &Packed) -> Result<Tensor> {
        let tape = Tape::idle();
        let hidden = self.hidden(&tape, packed)?;
        let logits = ops::linear(&tape, &hidden, &self.node(&tape, self.head()?), None)?;
        Ok(logits.value().clone())
    }

    fn attend(&self, tape: &Tape, block: &Block, x: &Node, starts: &Starts) -> Result<Node> {
        let a = &self.architecture;
        let x = self.normalise(tape, block.attention_norm, x)?;
        let mut q = self.linear(tape, block.query, &x)?;
        let mut k = self.linear(tape, block.key, &x)?;
        let v = self.linear(tape, block.value, &x)?;
        if let Some(table) = &self.rope {
            q = ops::rope(tape, &q, a.heads, table, starts)?;
            k = ops::rope(tape, &k, a.kv_heads, table, starts)?;
        }
        let form = Attention {
            heads: a.heads,
            kv_heads: a.kv_heads,
            head_dim: a.head_dim,
            scale: (a.head_dim as f64).sqrt().recip(),
            window: a.window,
        };
        let mixed = ops::attention(tape, [&q, &k, &v], &form, starts)?;
        self.linear(tape, block.output, &mixed)
    }

    fn mix(&self, tape: &Tape, block: &Block, x: &Node) -> Result<Node> {
        let x = self.normalise(tape, block.mlp_norm, x)?;
        let up = self.linear(tape, block.up, &x)?;
        let f = self.architecture.activation;
        let inner = match block.gate {
            Some(gate) => ops::gated(tape, &self.linear(tape, gate, &x)?, &up, f)?,
            None => ops::activation(tape, &up, f)?,
        };
        self.linear(tape, block.down, &inner)
    }

    fn linear(&self, tape: &Tape, linear: Linear, x: &Node) -> Result<Node> {
        let bias = linear.bias.map(|b| self.node(tape, b));
        ops::linear(tape, x, &self.node(tape, linear.weight), bias.as_ref())
    }

    fn normalise(&self, tape: &Tape, norm: NormWeights, x: &Node) -> Result<Node> {
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

    fn node(&self, tape: &Tape, id: Id) -> Node {
        self.parameters.node(tape, id)
    }

    fn head(&self) -> Result<Id> {
        self.head.ok_or_else(|| {
            let problem = "the model has no output head";
            let remedy = "it was loaded as the body of a reward or value network; load a policy";
            Error::invalid("lm_head.weight", problem, remedy)
        })
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
