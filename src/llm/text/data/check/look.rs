//! One row as the model gets it.

use serde::Serialize;

use crate::error::Result;
use crate::llm::model::sequence::Sequence;
use crate::llm::text::data::columns::TextRow;
use crate::llm::text::example::Example;
use crate::llm::text::tokenizer::Tokenizer;

/// Tokens on either side of the boundary that are shown.
const NEAR: usize = 4;

/// A row, its tokens back in text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Look {
    /// `FILE:LINE`.
    pub place: String,
    /// Its responses, in the objective's order.
    pub responses: Vec<Seen>,
}

/// A response with its prompt.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Seen {
    /// Column that it came from: `chosen`, `completions[1]`.
    pub column: String,
    /// Its number, if it has one: reward, label, or advantage in a list.
    pub reward: Option<f64>,
    /// Text that the model is given: not in the loss.
    pub prompt: String,
    /// Text that is predicted: in the loss, where it has no weight of 0.
    pub completion: String,
    /// The same in parts of one weight.
    pub parts: Vec<Part>,
    /// Tokens of the prompt, and those in the loss.
    pub tokens: [usize; 2],
    /// The last tokens of the prompt, as the vocabulary writes them.
    pub before: Vec<String>,
    /// The first that are in the loss.
    pub after: Vec<String>,
    /// The last one that is.
    pub last: Option<String>,
}

/// A part of a completion.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Part {
    /// Its text.
    pub text: String,
    /// Weight of its tokens in the loss.
    pub weight: f64,
}

/// A completion in parts of one weight.
fn parts(sequence: &Sequence, completion: &str, tokenizer: &Tokenizer) -> Result<Vec<Part>> {
    let Some(weights) = sequence.weights() else {
        let text = completion.into();
        return Ok(vec![Part { text, weight: 1.0 }]);
    };
    let mut parts = Vec::new();
    let (mut begin, before) = (0, sequence.prompt().len());
    let decode = |end: usize| tokenizer.decode(&sequence.tokens()[..before + end]);
    for same in weights.chunk_by(|a, b| a == b) {
        let (from, to) = (decode(begin)?, decode(begin + same.len())?);
        begin += same.len();
        // A part of a character is shown with what ends it.
        let text = to.strip_prefix(&from).unwrap_or_default().into();
        let weight = same[0];
        parts.push(Part { text, weight });
    }
    Ok(parts)
}

impl Look {
    pub(super) fn of(
        place: String,
        numbered: bool,
        text: &TextRow,
        example: &Example,
        tokenizer: &Tokenizer,
    ) -> Result<Self> {
        let mut responses = Vec::new();
        for (said, response) in text.completions.iter().zip(&example.responses) {
            let sequence = &response.sequence;
            let (given, predicted) = (sequence.prompt(), sequence.completion());
            let prompt = tokenizer.decode(given)?;
            // Alone, some tokenizers take the space before it away.
            let whole = tokenizer.decode(sequence.tokens())?;
            let completion = match whole.strip_prefix(&prompt) {
                Some(completion) => completion.into(),
                None => tokenizer.decode(predicted)?,
            };
            let parts = parts(sequence, &completion, tokenizer)?;
            let lost = sequence
                .weights()
                .into_iter()
                .flatten()
                .filter(|&&w| w == 0.0);
            let weighed = predicted.len() - lost.count();
            let pieces = |tokens: &[u32]| -> Vec<String> {
                let piece = |&token: &u32| tokenizer.piece(token).unwrap_or_default();
                tokens.iter().map(piece).collect()
            };
            responses.push(Seen {
                column: said.column.clone(),
                reward: numbered.then_some(response.reward),
                prompt,
                completion,
                parts,
                tokens: [given.len(), weighed],
                before: pieces(&given[given.len().saturating_sub(NEAR)..]),
                after: pieces(&predicted[..predicted.len().min(NEAR)]),
                last: pieces(predicted).pop(),
            });
        }
        Ok(Self { place, responses })
    }
}
