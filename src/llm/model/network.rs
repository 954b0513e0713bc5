//! Interface between a training step and a network.

use super::decoder::Decoder;
use super::sequence::{Predictions, Sequence};
use crate::error::Result;
pub use crate::llm::tensor::ops::Starts;
pub use crate::llm::tensor::tape::{Node, Tape};

/// Reduction of the numbers of a sequence's pieces (its tokens) to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Reduction {
    /// The sum over completion tokens: `ln π(y|x)`, or `Σ w ln π` where they have weights.
    Sum,
    /// The mean over completion tokens: `ln π(y|x) / |y|`, or `Σ w ln π / Σ w`.
    Mean,
}

impl Reduction {
    /// Factor of a sum of pieces of that weight; the mean of what weighs nothing is 0.
    pub fn scale(self, weight: f64) -> f64 {
        match self {
            Self::Sum => 1.0,
            Self::Mean if weight == 0.0 => 0.0,
            Self::Mean => 1.0 / weight,
        }
    }
}

/// Rows that a value head is read at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueRows {
    /// The prompt's last token: `V(x)`.
    Prompt,
    /// Every row that predicts a token of the completion, `V(x, y_<t)`; the sequence's value is their mean over the
    /// tokens, weighted as those are.
    Completion,
}

/// Values of packed sequences by a head that the policy shares.
pub struct Values {
    /// One of each sequence, `[S]`, or one of each piece, `[M]`.
    pub node: Node,
    /// Rows that they were read at.
    pub rows: ValueRows,
}

/// A network's output for packed sequences.
pub struct Output {
    /// Pieces of the sequences' numbers, end to end, `[M]`: token log-probabilities, or one score each.
    pub pieces: Node,
    /// Index of each sequence's first piece, and the total.
    pub starts: Starts,
    /// Values, if the network shares a head.
    pub values: Option<Values>,
}

/// Something that turns sequences into numbers.
pub trait Network {
    /// Number of leaves of its tapes.
    fn leaves(&self) -> usize;

    /// True if a sequence's pieces are the tokens of its completion, which have weights.
    fn has_token_pieces(&self) -> bool {
        true
    }

    /// The numbers of packed sequences.
    ///
    /// # Errors
    /// Those of the model.
    fn forward<'a>(&'a self, tape: &Tape<'a>, sequences: &[&Sequence]) -> Result<Output>;
}

/// A language model: the pieces are log-probabilities of completion tokens.
impl Network for Decoder {
    fn leaves(&self) -> usize {
        self.parameters().len()
    }

    fn forward<'a>(&'a self, tape: &Tape<'a>, sequences: &[&Sequence]) -> Result<Output> {
        let predictions = Predictions::new(sequences);
        let pieces = self.log_probs(tape, &predictions)?;
        let starts = predictions.starts;
        let values = None;
        Ok(Output {
            pieces,
            starts,
            values,
        })
    }
}
