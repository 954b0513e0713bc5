//! Forward pass: tokens to hidden states, log-probabilities and logits.

use std::rc::Rc;

use candle_core::{DType, Tensor};

use super::Decoder;
use super::on_tape::{Fed, OnTape};
use crate::error::{Error, Result};
use crate::llm::model::sequence::{Packed, Predictions, Sequence};
use crate::llm::tensor::ops::{self, Rope};
use crate::llm::tensor::tape::{Node, Tape};

impl Decoder {
    /// The last block's output, normalised: `[N, width]` for N packed tokens.
    ///
    /// # Errors
    /// A token beyond the vocabulary, a sequence beyond the context, or a failing device.
    pub fn hidden<'a>(&'a self, tape: &Tape<'a>, packed: &Packed) -> Result<Node> {
        self.check(packed)?;
        let fed = Fed {
            tokens: packed.tokens.clone(),
            positions: packed.starts.positions().collect(),
            starts: packed.starts.clone(),
            tables: self.tables(packed.starts.longest())?,
        };
        self.graph.walk(&OnTape {
            tape,
            model: self,
            fed: Rc::new(fed),
        })
    }

    /// Cosines and sines of at least that many positions, for each rotation.
    pub(in crate::llm) fn tables(&self, longest: usize) -> Result<Vec<Rope>> {
        let tables = self.rotations.iter().map(|rotary| rotary.table(longest));
        tables.collect()
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
        self.log_probs_at(tape, hidden, predictions, self.temperature)
    }

    /// [`log_probs_of`](Self::log_probs_of) the policy at a temperature, as it is sampled from: `ln softmax(logits / τ)`.
    ///
    /// # Errors
    /// As there, or a temperature that is not positive.
    pub fn log_probs_at(
        &self,
        tape: &Tape,
        hidden: &Node,
        predictions: &Predictions,
        temperature: f64,
    ) -> Result<Node> {
        let hidden = ops::rows(tape, hidden, &predictions.rows)?;
        let (head, bias) = (self.head(tape)?, self.graph.linear(self.graph.head).bias);
        let bias = bias.map(|bias| self.node(tape, bias));
        let (bias, targets) = (bias.as_ref(), &predictions.targets);
        ops::token_log_probs(tape, &hidden, &head, bias, targets, temperature)
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

    fn check(&self, packed: &Packed) -> Result<()> {
        let a = self.sizes();
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
        let longest = packed.starts.longest();
        if longest > a.context {
            return Err(Error::invalid(
                "tokens",
                format!("a sequence has {longest} tokens"),
                format!("the model takes at most {}", a.context),
            ));
        }
        Ok(())
    }
}
