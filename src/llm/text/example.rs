//! A row of data in tokens, and batches of them.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::batch::TextBatch;
use crate::llm::model::inference::cut;
use crate::llm::model::sequence::Sequence;
use crate::loss::InputKind;

/// A response to an example's prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Response {
    /// Prompt and completion.
    pub sequence: Sequence,
    /// Its reward; of rated responses 1 if desirable and 0 if not, in ranked lists the advantage; 0
    /// where there is none.
    pub reward: f64,
    /// What was stored when the policy wrote it, if it did.
    pub stored: Option<Stored>,
}

impl Response {
    /// A response of a file.
    pub fn new(sequence: Sequence, reward: f64) -> Self {
        Self {
            sequence,
            reward,
            stored: None,
        }
    }
}

/// Log-probabilities of a response that were stored when it was drawn, `Σ ln π` over its tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// By the policy that wrote it, ln π_old.
    pub old: f64,
    /// By the reference, or 0 where it is not stored.
    pub reference: f64,
    /// Numbers of its tokens, for losses that take them.
    pub tokens: Option<Arc<OfTokens>>,
}

/// Numbers of the tokens of a response that were stored when it was drawn. What a loss does not read may be missing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OfTokens {
    /// ln π_old
    pub old: Vec<f64>,
    /// ln π_ref
    pub reference: Vec<f64>,
    /// Advantages.
    pub advantage: Vec<f64>,
    /// V of the prefixes that they follow.
    pub old_value: Vec<f64>,
    /// What V is to come to.
    pub target: Vec<f64>,
}

/// One example: two responses of a pair, the preferred one first where there are labels, and its proposals; two or
/// more scored ones, which make as many pairs as there are; one of single and rated ones; all of a
/// group; all of a ranked list, from worst to best.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// Its row in the data, from 0.
    pub row: u64,
    /// Its responses.
    pub responses: Vec<Response>,
    /// What the data say of it besides.
    pub beside: Beside,
}

/// What data may say of an example besides its texts and rewards.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Beside {
    /// Margin by which a reward model is to score the preferred response of a pair above the other.
    pub margin: f64,
    /// Probability that the preferred response of a pair is the better one.
    pub label: f64,
    /// Weight of the example beside the others.
    pub weight: f64,
    /// Number of its last responses that are proposals beside the pair; of each [`Stored::old`] is ln π′, of the policy
    /// that wrote it, and [`Stored::reference`] ln π_φ.
    pub proposals: usize,
}

impl Default for Beside {
    /// What holds where nothing is said.
    fn default() -> Self {
        Self {
            margin: 0.0,
            label: 1.0,
            weight: 1.0,
            proposals: 0,
        }
    }
}

impl Example {
    /// Tokens of all its responses.
    pub fn tokens(&self) -> usize {
        (self.responses.iter())
            .map(|r| r.sequence.tokens().len())
            .sum()
    }
}

/// Examples of one kind as a batch, each with weight `1/B` times its own; k scored responses are k(k − 1)/2 pairs
/// that share it equally; proposals make none. `log_reference` gives the reference's number of each response of each
/// example, 0 if there is none.
pub fn collate(
    kind: InputKind,
    examples: &[Example],
    mut log_reference: impl FnMut(&Example, usize) -> f64,
) -> TextBatch {
    let mut text = TextBatch::default();
    let each = 1.0 / examples.len() as f64;
    let mut prompts: HashMap<&[u32], u32> = HashMap::new();
    for example in examples {
        let first = text.sequences.len() as u32;
        let weight = each * example.beside.weight;
        for (index, response) in example.responses.iter().enumerate() {
            text.sequences.push(response.sequence.clone());
            text.log_reference.push(log_reference(example, index));
        }
        let place = |text: &mut TextBatch, slot: usize, index: usize| {
            text.slots[slot].push(first + index as u32);
            text.reward[slot].push(example.responses[index].reward);
        };
        let count = (example.responses.len()).saturating_sub(example.beside.proposals);
        if kind.is_pairs() {
            let pairs = count * count.saturating_sub(1) / 2;
            for (i, j) in (0..count).flat_map(|i| (i + 1..count).map(move |j| (i, j))) {
                place(&mut text, 0, i);
                place(&mut text, 1, j);
                text.weight.push(weight / pairs as f64);
                text.margin.push(example.beside.margin);
                text.label.push(example.beside.label);
                text.propose(first + count as u32, &example.responses[count..]);
            }
            continue;
        }
        (0..count).for_each(|index| place(&mut text, 0, index));
        text.weight.push(weight);
        match kind {
            InputKind::Groups | InputKind::Tokens | InputKind::Lists => text.sizes.push(count),
            InputKind::Rated => {
                text.desirable.push(example.responses[0].reward);
                text.held.push(0.0);
            }
            InputKind::Singles => {
                let sequence = &example.responses[0].sequence;
                let next = text.prompts.len() as u32;
                let prompt = *prompts.entry(sequence.prompt()).or_insert(next);
                if prompt == next {
                    text.prompts.push(sequence.clone());
                }
                text.prompt.push(prompt);
                text.held.push(0.0);
            }
            InputKind::ScoredPairs | InputKind::LabelledPairs => {}
        }
    }
    text
}

/// The batch `whole` of `examples` in what is run at once: consecutive examples of at most `budget` tokens, an
/// example beyond that alone, each part made by `collate` from its own; what depends on the whole step (weights,
/// and what is held against responses) stays as it is there. Every response is run once, and in the same company
/// by the policy and the reference, so that equal weights give equal numbers, to the last bit.
pub fn in_parts(
    whole: &TextBatch,
    examples: &[Example],
    budget: usize,
    collate: impl Fn(&[Example]) -> TextBatch,
) -> Vec<TextBatch> {
    let mut done = 0;
    let part = |rows: Range<usize>| {
        let mut part = collate(&examples[rows]);
        let here = done..done + part.weight.len();
        done = here.end;
        part.weight.copy_from_slice(&whole.weight[here.clone()]);
        if !part.held.is_empty() {
            part.held.copy_from_slice(&whole.held[here]);
        }
        part
    };
    let parts = cut(examples.iter().map(Example::tokens), budget);
    parts.into_iter().map(part).collect()
}
