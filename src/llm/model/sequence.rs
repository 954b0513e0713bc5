//! Token sequences, and how they lie end to end.

use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::llm::tensor::ops::{Span, Starts};

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

/// Tokens that are fed of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fed {
    /// All of them.
    pub tokens: usize,
    /// Those of its prompt.
    pub prompt: usize,
    /// True if its prompt is that of the sequence before it, and both are fed the whole of it.
    pub shares: bool,
}

/// Lays sequences end to end, a prompt that neighbours share once before what follows it in each: the pieces, and the
/// rows of each sequence.
pub fn lay(fed: &[Fed]) -> (Starts, Vec<Span>) {
    let (mut pieces, mut spans, mut end) = (Vec::new(), Vec::new(), 0);
    let mut piece = |tokens: usize, goes_on| {
        pieces.push((tokens, goes_on));
        let start = end;
        end += tokens;
        start..end
    };
    for run in fed.chunk_by(|_, next| next.shares) {
        let prefix = match run {
            [_, _, ..] => Some(piece(run[0].prompt, false)),
            _ => None,
        };
        for fed in run {
            spans.push(match &prefix {
                Some(prefix) => Span {
                    own: piece(fed.tokens - fed.prompt, true),
                    prefix: prefix.clone(),
                },
                None => {
                    let own = piece(fed.tokens, false);
                    Span {
                        prefix: own.start..own.start,
                        own,
                    }
                }
            });
        }
    }
    (Starts::branching(pieces), spans)
}

/// Sequences end to end: what a decoder is fed.
#[derive(Debug, Clone)]
pub struct Packed {
    /// Tokens of all pieces.
    pub tokens: Rc<[u32]>,
    /// Index of each piece's first token, and the total. A sequence is a piece, or goes on from a prompt that is one.
    pub starts: Starts,
    /// The rows of each sequence.
    pub sequences: Rc<[Span]>,
}

impl Packed {
    /// Lays sequences of tokens end to end.
    pub fn new<'a>(sequences: impl IntoIterator<Item = &'a [u32]>) -> Self {
        Self::sharing(sequences.into_iter().map(|tokens| (tokens, 0)))
    }

    /// Lays sequences of tokens, and so many of them that are prompts, end to end, a prompt that neighbours share once:
    /// what is computed of it is the same for all, and their gradients add up there.
    pub fn sharing<'a>(sequences: impl IntoIterator<Item = (&'a [u32], usize)>) -> Self {
        let all: Vec<(&[u32], usize)> = sequences.into_iter().collect();
        let prompt = |&(tokens, prompt): &(&'a [u32], usize)| tokens.get(..prompt);
        let fed = all.iter().enumerate().map(|(i, one)| {
            let before = i.checked_sub(1).map(|i| prompt(&all[i]));
            let shares = one.1 > 0 && prompt(one).is_some() && before == Some(prompt(one));
            Fed {
                tokens: one.0.len(),
                prompt: one.1,
                shares,
            }
        });
        let (starts, sequences) = lay(&fed.collect::<Vec<_>>());
        let mut tokens = Vec::with_capacity(starts.tokens());
        for (span, (of, _)) in sequences.iter().zip(&all) {
            let (prefix, own) = of.split_at(span.prefix.len());
            if tokens.len() == span.prefix.start {
                tokens.extend_from_slice(prefix);
            }
            tokens.extend_from_slice(own);
        }
        Self {
            tokens: tokens.into(),
            starts,
            sequences: sequences.into(),
        }
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
        let packed = Packed::sharing(sequences.iter().map(|s| (&s.tokens[..fed(s)], s.prompt)));
        let (mut rows, mut targets, mut starts) = (Vec::new(), Vec::new(), vec![0]);
        for (s, span) in sequences.iter().zip(packed.sequences.iter()) {
            rows.extend((s.prompt - 1..fed(s)).map(|token| span.row(token) as u32));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_share_their_prompt() {
        let sequence = |tokens: &[u32], prompt| Sequence::new(tokens.to_vec(), prompt).unwrap();
        let all = [
            sequence(&[1, 2, 3, 4], 2),
            sequence(&[1, 2, 9], 2),
            // The same tokens, but not the same prompt.
            sequence(&[1, 2, 3, 4], 3),
            sequence(&[5, 6, 7], 1),
            sequence(&[5, 8], 1),
            sequence(&[5, 8, 9], 1),
        ];
        let Predictions {
            packed,
            rows,
            targets,
            starts,
        } = Predictions::new(&all.iter().collect::<Vec<_>>());
        assert_eq!(*packed.tokens, [1, 2, 3, 1, 2, 3, 5, 6, 8]);
        assert_eq!(*packed.starts, [0, 2, 3, 3, 6, 7, 8, 8, 9]);
        assert_eq!(*targets, [3, 4, 9, 4, 6, 7, 8, 8, 9]);
        // From a prompt's last row the first token of each completion is predicted.
        assert_eq!(*rows, [1, 2, 1, 5, 6, 7, 6, 6, 8]);
        assert_eq!(*starts, [0, 2, 3, 4, 6, 7, 9]);
        for (span, sequence) in packed.sequences.iter().zip(&all) {
            let fed = span.rows().map(|row| packed.tokens[row]);
            assert!(
                fed.eq(sequence.tokens()[..sequence.tokens().len() - 1]
                    .iter()
                    .copied())
            );
        }
    }

    #[test]
    fn what_is_not_fed_whole_is_not_shared() {
        let packed = Packed::sharing([(&[1, 2][..], 3), (&[1, 2], 3), (&[1, 2, 3], 3)]);
        assert_eq!(*packed.tokens, [1, 2, 1, 2, 1, 2, 3]);
        assert!(!packed.starts.branches());
        let none = Packed::sharing([(&[][..], 0), (&[], 0), (&[4], 0)]);
        assert_eq!(*none.starts, [0, 0, 0, 1]);
    }
}
