//! Token sequences, and how they lie end to end.

use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::llm::tensor::ops::Starts;

/// A prompt and a completion in tokens, and what each token of the completion weighs: the sequence's
/// number is `Σ w ln π`, its mean that over `Σ w`. Without weights every token weighs 1; one that
/// weighs 0 is read and not trained on.
#[derive(Debug, Clone)]
pub struct Sequence {
    tokens: Vec<u32>,
    prompt: usize,
    /// None where all are 1.
    weights: Option<Arc<[f64]>>,
}

impl Sequence {
    fn weight_bits(&self) -> impl Iterator<Item = u64> {
        self.weights
            .iter()
            .flat_map(|w| w.iter().map(|w| w.to_bits()))
    }
}

impl PartialEq for Sequence {
    fn eq(&self, other: &Self) -> bool {
        self.prompt == other.prompt
            && self.tokens == other.tokens
            && self.weights.is_some() == other.weights.is_some()
            && self.weight_bits().eq(other.weight_bits())
    }
}

impl Eq for Sequence {}

impl Hash for Sequence {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.tokens, self.prompt).hash(state);
        self.weight_bits().for_each(|bits| bits.hash(state));
    }
}

impl Sequence {
    /// `prompt` is the number of leading tokens that are given and not predicted.
    ///
    /// # Errors
    /// No prompt token (the first token of a completion is predicted from the one before it) or no
    /// completion token.
    pub fn new(tokens: Vec<u32>, prompt: usize) -> Result<Self> {
        let fail = |problem: &str, remedy: &str| Err(Error::invalid("sequence", problem, remedy));
        if prompt == 0 {
            return fail("it has no prompt token", "begin it with the BOS token");
        }
        if prompt >= tokens.len() {
            return fail("its completion is empty", "give at least one token (EOS)");
        }
        Ok(Self {
            tokens,
            prompt,
            weights: None,
        })
    }

    /// The same tokens with a weight for each of the completion's, finite and not negative.
    ///
    /// # Errors
    /// Weights of another number, or a number that is no weight.
    pub fn weighted(self, weights: Vec<f64>) -> Result<Self> {
        let count = self.completion().len();
        if weights.len() != count {
            let problem = format!("there are {} for {count} tokens", weights.len());
            let remedy = "give one weight for each token of the completion";
            return Err(Error::invalid("weights", problem, remedy));
        }
        if let Some(wrong) = weights.iter().find(|w| !(w.is_finite() && **w >= 0.0)) {
            let problem = format!("one is {wrong}");
            return Err(Error::invalid(
                "weights",
                problem,
                "give numbers, not below 0",
            ));
        }
        let weights = weights.iter().any(|&w| w != 1.0).then(|| weights.into());
        Ok(Self { weights, ..self })
    }

    /// All tokens.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The given tokens.
    pub fn prompt(&self) -> &[u32] {
        &self.tokens[..self.prompt]
    }

    /// The predicted tokens.
    pub fn completion(&self) -> &[u32] {
        &self.tokens[self.prompt..]
    }

    /// The weights of the predicted tokens, unless all are 1.
    pub fn weights(&self) -> Option<&[f64]> {
        self.weights.as_deref()
    }

    /// The weight of each predicted token.
    pub fn each_weight(&self) -> Vec<f64> {
        match self.weights() {
            Some(weights) => weights.to_vec(),
            None => vec![1.0; self.completion().len()],
        }
    }

    /// The sum of the weights: the number of predicted tokens, if all weigh 1.
    pub fn weight(&self) -> f64 {
        match self.weights() {
            Some(weights) => weights.iter().sum(),
            None => self.completion().len() as f64,
        }
    }

    /// Whether each predicted token counts: those that weigh nothing do not.
    pub fn counted(&self) -> impl Iterator<Item = bool> {
        let weights = self.weights();
        (0..self.completion().len()).map(move |i| weights.is_none_or(|w| w[i] > 0.0))
    }

    /// `Σ w ln π` of numbers of the predicted tokens.
    pub fn sum(&self, tokens: &[f64]) -> f64 {
        match self.weights() {
            Some(weights) => weights.iter().zip(tokens).map(|(w, x)| w * x).sum(),
            None => tokens.iter().sum(),
        }
    }
}

/// Sequences end to end: what a decoder is fed.
#[derive(Debug, Clone)]
pub struct Packed {
    /// Tokens of all sequences.
    pub tokens: Rc<[u32]>,
    /// Index of each sequence's first token, and the total.
    pub starts: Starts,
}

impl Packed {
    /// Lays sequences of tokens end to end.
    pub fn new<'a>(sequences: impl IntoIterator<Item = &'a [u32]>) -> Self {
        let (mut tokens, mut starts) = (Vec::new(), vec![0]);
        for sequence in sequences {
            tokens.extend_from_slice(sequence);
            starts.push(tokens.len());
        }
        Self {
            tokens: tokens.into(),
            starts: starts.into(),
        }
    }

    /// The longest sequence.
    pub fn longest(&self) -> usize {
        (self.starts.windows(2).map(|w| w[1] - w[0]))
            .max()
            .unwrap_or(0)
    }
}

/// Rows of a packed batch that predict completion tokens, and those tokens.
#[derive(Debug, Clone)]
pub struct Predictions {
    /// Input tokens: all but each sequence's last, which predicts nothing.
    pub packed: Packed,
    /// Rows whose prediction counts.
    pub rows: Rc<[u32]>,
    /// The token each predicts.
    pub targets: Rc<[u32]>,
    /// Index of each sequence's first prediction, and the total.
    pub starts: Starts,
}

impl Predictions {
    /// The predictions of all completion tokens.
    pub fn new(sequences: &[&Sequence]) -> Self {
        let fed = |s: &&Sequence| s.tokens.len() - 1;
        let packed = Packed::new(sequences.iter().map(|s| &s.tokens[..fed(s)]));
        let (mut rows, mut targets, mut starts) = (Vec::new(), Vec::new(), vec![0]);
        for (s, start) in sequences.iter().zip(packed.starts.iter()) {
            rows.extend((s.prompt - 1..fed(s)).map(|i| (start + i) as u32));
            targets.extend_from_slice(s.completion());
            starts.push(rows.len());
        }
        Self {
            packed,
            rows: rows.into(),
            targets: targets.into(),
            starts: starts.into(),
        }
    }
}
