//! Token sequences, and how they lie end to end.

use std::rc::Rc;

use super::ops::Starts;
use crate::error::{Error, Result};

/// A prompt and a completion in tokens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sequence {
    tokens: Vec<u32>,
    prompt: usize,
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
        Ok(Self { tokens, prompt })
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
}

/// Sequences end to end: what a decoder is fed.
#[derive(Debug, Clone)]
pub struct Packed {
    /// Tokens of all sequences.
    pub tokens: Rc<[u32]>,
    /// Where each begins, and the total.
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

/// Which rows of a packed batch predict which tokens.
#[derive(Debug, Clone)]
pub struct Predictions {
    /// What is fed: every token but each sequence's last, which predicts nothing.
    pub packed: Packed,
    /// Rows whose prediction counts.
    pub rows: Rc<[u32]>,
    /// The token each predicts.
    pub targets: Rc<[u32]>,
    /// Where each sequence's predictions begin, and the total.
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
