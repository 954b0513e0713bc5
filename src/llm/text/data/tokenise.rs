//! Rows of text to sequences of tokens.

use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::columns::{Completion, TextRow};
use super::values::{Parsed, fault};
use crate::error::{Error, Result};
use crate::llm::model::sequence::Sequence;
use crate::llm::text::example::{Example, Response};
use crate::llm::text::tokenizer::Tokenizer;

mod ends;

pub use ends::MOST;
use ends::{End, Sizes};

/// Settings of tokenisation: what is done with rows that are not as they should be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RowRules {
    /// Most tokens of prompt and completion together. A longer completion loses its end, and with
    /// it EOS. Without it a sequence beyond the context is an error.
    pub max_length: Option<usize>,
    /// Most tokens of a prompt. A longer one loses its beginning, but BOS. Without it a prompt that
    /// leaves no room is an error.
    pub max_prompt_length: Option<usize>,
    /// Takes completions without text, whose only token is EOS.
    pub allow_empty: bool,
    /// Makes an error of a prompt whose tokens change when the completion follows.
    pub strict_boundaries: bool,
}

/// Notes on how a row was tokenised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Notes {
    /// True if its prompt was cut.
    pub prompt_cut: bool,
    /// Number of its completions that were cut.
    pub completions_cut: usize,
    /// Number of its completions that were tokenised apart from the prompt.
    pub apart: usize,
}

/// Makes sequences of text: `BOS prompt completion EOS`.
///
/// The whole is tokenised at once where that leaves the prompt's tokens as they are, as it does
/// unless a token spans the boundary. Else the completion is tokenised apart, as if the model had
/// been given the prompt and continued it.
pub struct Tokeniser {
    tokenizer: Arc<Tokenizer>,
    settings: RowRules,
    longest: usize,
    eos: u32,
    /// Tokens of [`ANCHOR`], if the tokenizer puts a space before every text.
    anchor: Option<Vec<u32>>,
    sizes: Sizes,
}

/// What stands before a completion where it is tokenised.
#[derive(Default)]
struct Start<'a> {
    text: &'a str,
    tokens: usize,
}

/// A sequence whose tokens have those weights, as far as they were not cut.
fn weighted(sequence: Sequence, mut weights: Vec<f64>, column: &str) -> Parsed<Sequence> {
    weights.truncate(sequence.completion().len());
    if weights.iter().all(|&weight| weight == 0.0) {
        return fault(
            format!("no token of `{column}` that has a weight above 0 is left within max_length"),
            "leave the row out, or set a greater max_length",
        );
    }
    sequence
        .weighted(weights)
        .or_else(|e| fault(e.to_string(), "check the weights"))
}

/// A text that merges with nothing after it: what follows has no space put before it.
const ANCHOR: &str = "\n";

impl Tokeniser {
    /// A tokeniser for a model that takes `context` tokens.
    ///
    /// # Errors
    /// A tokenizer without EOS, or lengths that leave no room.
    pub fn new(tokenizer: Arc<Tokenizer>, context: usize, settings: RowRules) -> Result<Self> {
        let longest = settings.max_length.unwrap_or(context);
        let fail = |field: &str, value: usize, remedy: String| {
            Err(Error::invalid(field, format!("it is {value}"), remedy))
        };
        if longest > context {
            let remedy = format!("the model takes at most {context} tokens");
            return fail("max_length", longest, remedy);
        }
        if longest < 2 {
            let remedy = "give 2 or more: one token of a prompt, one of its completion".into();
            return fail("max_length", longest, remedy);
        }
        if let Some(prompt) = settings.max_prompt_length
            && !(1..longest).contains(&prompt)
        {
            let remedy = format!("give 1 to {}: a completion follows", longest - 1);
            return fail("max_prompt_length", prompt, remedy);
        }
        let Some(eos) = tokenizer.eos() else {
            return Err(Error::invalid(
                "tokenizer",
                "it names no EOS token, with which completions end",
                "set `eos_token` in tokenizer_config.json",
            ));
        };
        let anchor = tokenizer.encode(ANCHOR)?;
        let after = tokenizer.encode(&format!("{ANCHOR}a"))?;
        let adds = after.strip_prefix(&anchor[..]) != Some(&tokenizer.encode("a")?);
        Ok(Self {
            tokenizer,
            settings,
            longest,
            eos,
            anchor: adds.then_some(anchor),
            sizes: Sizes::default(),
        })
    }

    /// The example of row number `row`.
    ///
    /// # Errors
    /// Text without tokens, a prompt or a whole that is too long, in strict mode a boundary that
    /// moves.
    pub fn example(&self, row: u64, text: &TextRow) -> Parsed<(Example, Notes)> {
        let shortened = self.shortened(text)?;
        let text = shortened.as_ref().unwrap_or(text);
        let mut notes = Notes::default();
        let prompt = match &text.prompt {
            Some(prompt) => self.encode(prompt)?,
            None => Vec::new(),
        };
        let mut responses = Vec::with_capacity(text.completions.len());
        for completion in &text.completions {
            let cut = notes.completions_cut;
            let (tokens, weights) = self.completion(text, &prompt, completion, &mut notes)?;
            let sequence = match text.prompt {
                // A template wrote all that the model is to see.
                Some(_) if text.rendered && !prompt.is_empty() => {
                    self.join(prompt.clone(), tokens, &mut notes)?
                }
                Some(_) => self.join(self.begin(&prompt)?, tokens, &mut notes)?,
                None => self.alone(tokens, &mut notes)?,
            };
            let sequence = match weights {
                Some(weights) => weighted(sequence, weights, &completion.column)?,
                None => sequence,
            };
            if completion.stored.is_some() && notes.completions_cut > cut {
                return fault(
                    format!("`{}` is cut to max_length", completion.column),
                    "its log-probability is that of the whole: leave it out, or set a greater max_length",
                );
            }
            responses.push(Response {
                stored: completion.stored.clone(),
                ..Response::new(sequence, completion.reward)
            });
        }
        let example = Example {
            row,
            responses,
            beside: text.beside,
        };
        Ok((example, notes))
    }

    /// A row with long texts, as much of them as tells its tokens.
    fn shortened(&self, text: &TextRow) -> Parsed<Option<TextRow>> {
        let long = |text: &str| text.len() > self.sizes.large;
        let texts = text.completions.iter().map(|c| &c.text).chain(&text.prompt);
        if !texts.into_iter().any(|text| long(text)) {
            return Ok(None);
        }
        let mut row = text.clone();
        if let Some(prompt) = row.prompt.as_mut().filter(|prompt| long(prompt)) {
            let limit = self.settings.max_prompt_length;
            let (end, needed) = match limit {
                Some(limit) => (End::Last, limit),
                None => (End::First, self.longest),
            };
            match (self.piece("prompt", prompt, end, needed)?, limit) {
                (None, _) => {}
                (Some(piece), Some(_)) => {
                    // BOS stays where a prompt is cut.
                    let bos = self
                        .tokenizer
                        .bos()
                        .and_then(|bos| self.tokenizer.piece(bos));
                    let bos = bos.filter(|bos| prompt.starts_with(bos.as_str()));
                    *prompt = bos.unwrap_or_default() + piece;
                }
                (Some(_), None) => {
                    return fault(
                        format!(
                            "the prompt, of {} bytes, has more than {} tokens, which leaves no room \
                             for a completion",
                            prompt.len(),
                            self.longest
                        ),
                        "leave the row out, or set max_prompt_length to cut the beginnings of \
                         prompts",
                    );
                }
            }
        }
        for completion in row.completions.iter_mut().filter(|c| long(&c.text)) {
            let (column, text) = (&completion.column, &completion.text);
            let Some(piece) = self.piece(column, text, End::First, self.longest)? else {
                continue;
            };
            if self.settings.max_length.is_none() {
                return fault(
                    format!(
                        "`{column}`, of {} bytes, has more than {} tokens, the most there is room for",
                        text.len(),
                        self.longest
                    ),
                    "leave the row out, or set max_length to cut the ends of completions",
                );
            }
            let length = piece.len();
            for (part, _) in completion.weights.iter_mut().flatten() {
                *part = part.start.min(length)..part.end.min(length);
            }
            completion.text.truncate(length);
        }
        Ok(Some(row))
    }

    /// [`Sizes::piece`]; none where the text is short enough to be tokenised whole.
    fn piece<'t>(
        &self,
        column: &str,
        text: &'t str,
        end: End,
        needed: usize,
    ) -> Parsed<Option<&'t str>> {
        let failed = |e: Error| fault(e.to_string(), "check tokenizer.json");
        let piece = self
            .sizes
            .piece(&self.tokenizer, text, end, needed)
            .or_else(failed)?;
        if piece.is_none() && text.len() > self.sizes.most {
            return fault(
                format!(
                    "`{column}` has {} bytes, too many to be tokenised",
                    text.len()
                ),
                format!(
                    "leave the row out, or give at most {} bytes",
                    self.sizes.most
                ),
            );
        }
        Ok(piece)
    }

    /// Tokens of a completion, EOS at the end, and what they weigh.
    fn completion(
        &self,
        text: &TextRow,
        prompt: &[u32],
        completion: &Completion,
        notes: &mut Notes,
    ) -> Parsed<(Vec<u32>, Option<Vec<f64>>)> {
        let whole = match &text.prompt {
            Some(prompt) => self.encode(&format!("{prompt}{}", completion.text))?,
            None => self.encode(&completion.text)?,
        };
        let mut at = Start::default();
        let mut tokens = match whole.strip_prefix(prompt) {
            Some(rest) => {
                at.text = text.prompt.as_deref().unwrap_or_default();
                at.tokens = prompt.len();
                rest.to_vec()
            }
            None if self.settings.strict_boundaries => {
                return fault(
                    format!(
                        "the prompt's tokens change when `{}` follows",
                        completion.column
                    ),
                    "let the space between them begin the completion, or leave out \
                     strict_boundaries",
                );
            }
            None => {
                notes.apart += 1;
                let (before, tokens) = self.apart(&completion.text)?;
                at = before;
                tokens
            }
        };
        let mut weights = match &completion.weights {
            Some(parts) => Some(self.weights(&at, &completion.text, parts)?),
            None => None,
        };
        let ended = if text.rendered {
            self.end(&mut tokens)?
        } else {
            tokens.last() == Some(&self.eos)
        };
        if tokens.len() == usize::from(ended) && !self.settings.allow_empty {
            return fault(
                format!(
                    "`{}` is empty: its only token would be EOS",
                    completion.column
                ),
                "leave the row out, or set allow_empty",
            );
        }
        if !ended {
            tokens.push(self.eos);
        }
        if let (Some(weights), Some(parts)) = (&mut weights, &completion.weights) {
            // The end belongs to what was said last.
            let last = parts
                .last()
                .filter(|(part, _)| part.end == completion.text.len());
            weights.truncate(tokens.len() - usize::from(!ended));
            weights.resize(tokens.len(), last.map_or(0.0, |(_, weight)| *weight));
        }
        Ok((tokens, weights))
    }

    /// What the tokens of a completion weigh: the most of all parts of its text that they stand for.
    fn weights(
        &self,
        start: &Start,
        text: &str,
        parts: &[(Range<usize>, f64)],
    ) -> Parsed<Vec<f64>> {
        let failed = |e: Error| fault(e.to_string(), "check tokenizer.json");
        let whole = format!("{}{text}", start.text);
        let (_, offsets) = self.tokenizer.encode_with_offsets(&whole).or_else(failed)?;
        let weight = |bytes: &Range<usize>| {
            let touching = parts.iter().filter(|(part, _)| {
                let part = start.text.len() + part.start..start.text.len() + part.end;
                bytes.start < part.end && part.start < bytes.end.max(bytes.start + 1)
            });
            touching.map(|(_, weight)| *weight).fold(0.0, f64::max)
        };
        Ok(offsets
            .get(start.tokens..)
            .unwrap_or_default()
            .iter()
            .map(weight)
            .collect())
    }

    /// Whether a rendered completion ends with an end token. A line's end that the template puts
    /// after it goes: it is no part of what the model says, which stops there.
    fn end(&self, tokens: &mut Vec<u32>) -> Parsed<bool> {
        let ends = self.tokenizer.ends();
        let Some(last) = tokens.iter().rposition(|token| ends.contains(token)) else {
            return Ok(false);
        };
        let failed = |e: Error| fault(e.to_string(), "check tokenizer.json");
        let rest = self.tokenizer.decode(&tokens[last + 1..]).or_else(failed)?;
        let ended = rest.trim().is_empty();
        if ended {
            tokens.truncate(last + 1);
        }
        Ok(ended)
    }

    /// A completion's tokens without its prompt, and what stood before them.
    fn apart(&self, text: &str) -> Parsed<(Start<'static>, Vec<u32>)> {
        if let Some(anchor) = &self.anchor {
            let tokens = self.encode(&format!("{ANCHOR}{text}"))?;
            if let Some(rest) = tokens.strip_prefix(&anchor[..]) {
                let start = Start {
                    text: ANCHOR,
                    tokens: anchor.len(),
                };
                return Ok((start, rest.to_vec()));
            }
        }
        Ok((Start::default(), self.encode(text)?))
    }

    /// A prompt's tokens with BOS before them, unless it is there or the model has none.
    fn begin(&self, prompt: &[u32]) -> Parsed<Vec<u32>> {
        let bos = self.tokenizer.bos();
        let needed = prompt.is_empty() || self.tokenizer.begins_with_bos();
        match bos {
            Some(bos) if needed && prompt.first() != Some(&bos) => {
                Ok(std::iter::once(bos).chain(prompt.iter().copied()).collect())
            }
            None if prompt.is_empty() => fault(
                "the prompt has no tokens, and the tokenizer no BOS token",
                "give a prompt",
            ),
            _ => Ok(prompt.to_vec()),
        }
    }

    /// A text without a prompt: BOS is given, and without one the first token.
    fn alone(&self, tokens: Vec<u32>, notes: &mut Notes) -> Parsed<Sequence> {
        match self.tokenizer.bos() {
            Some(bos) if tokens[0] != bos => self.join(vec![bos], tokens, notes),
            _ => self.join(vec![tokens[0]], tokens[1..].to_vec(), notes),
        }
    }

    /// Prompt and completion, cut as the settings say.
    fn join(
        &self,
        mut prompt: Vec<u32>,
        mut completion: Vec<u32>,
        notes: &mut Notes,
    ) -> Parsed<Sequence> {
        let limit = self.settings.max_prompt_length.unwrap_or(usize::MAX);
        if prompt.len() > limit {
            let kept = usize::from(Some(prompt[0]) == self.tokenizer.bos());
            prompt.drain(kept..kept + prompt.len() - limit);
            notes.prompt_cut = true;
        }
        if prompt.len() >= self.longest {
            return fault(
                format!(
                    "the prompt has {} tokens, which leaves no room for a completion within {}",
                    prompt.len(),
                    self.longest
                ),
                "leave the row out, or set max_prompt_length to cut the beginnings of prompts",
            );
        }
        let room = self.longest - prompt.len();
        if completion.len() > room {
            if self.settings.max_length.is_none() {
                return fault(
                    format!(
                        "prompt and completion have {} tokens and there is room for {}",
                        prompt.len() + completion.len(),
                        self.longest
                    ),
                    "leave the row out, or set max_length to cut the ends of completions",
                );
            }
            completion.truncate(room);
            notes.completions_cut += 1;
        }
        let given = prompt.len();
        prompt.extend(completion);
        Sequence::new(prompt, given).or_else(|e| fault(e.to_string(), "give a longer text"))
    }

    fn encode(&self, text: &str) -> Parsed<Vec<u32>> {
        let failed = |e: Error| fault(e.to_string(), "check tokenizer.json");
        self.tokenizer.encode(text).or_else(failed)
    }
}

#[cfg(test)]
mod tests;
