//! A row's conversation by the template, and where the text of each turn lies.

use std::ops::Range;

use super::{as_fault, unlike};
use crate::llm::text::chat::{ChatTemplate, Given, Message};
use crate::llm::text::data::values::{Parsed, fault};
use crate::llm::text::tokenizer::Tokenizer;

/// A template with what it is given besides the messages.
pub(super) struct Rendering<'a> {
    pub template: &'a ChatTemplate,
    pub given: Given,
    /// Tokenizer that says which tokens end a turn.
    pub ends: &'a Tokenizer,
}

/// A conversation and what its turns after the prompt weigh.
pub(super) struct Split<'a> {
    pub column: &'a str,
    /// Number of turns that are the prompt.
    pub prompt: usize,
    pub all: &'a [Message],
    /// One of each turn after the prompt.
    pub weights: &'a [f64],
    /// The text of all.
    pub whole: &'a str,
    /// Bytes of the prompt, with its request for an answer.
    pub asked: usize,
}

impl Rendering<'_> {
    /// A conversation as text; with `prompted`, up to where the model is to answer.
    pub fn of(&self, messages: &[Message], prompted: bool) -> Parsed<String> {
        (self.template)
            .render_given(messages, &self.given, prompted)
            .map_err(as_fault)
    }

    /// Byte ranges, in the text after the prompt, of the turns after it that weigh anything. A turn begins where the
    /// model is asked for it, or where the turn before it ends, if that was the assistant's too; it ends with its end
    /// token.
    pub fn parts(&self, split: &Split) -> Parsed<Vec<(Range<usize>, f64)>> {
        let Split {
            prompt,
            all,
            weights,
            whole,
            asked,
            ..
        } = *split;
        let mut parts: Vec<(Range<usize>, f64)> = Vec::new();
        let mut end = asked;
        for (turn, &weight) in (prompt..).zip(weights) {
            if !all[turn].is_answer() {
                continue;
            }
            let start = match turn {
                first if first == prompt => asked,
                turn if all[turn - 1].is_answer() => end,
                turn => {
                    let before = self.of(&all[..turn], true)?;
                    if !whole.starts_with(&before) {
                        return fault(
                            unlike(&before, whole, split.column),
                            "give another chat template, or conversations without weights",
                        );
                    }
                    before.len()
                }
            };
            end = self.end(split, turn, start)?;
            if weight > 0.0 {
                parts.push((start - asked..end - asked, weight));
            }
        }
        Ok(parts)
    }

    /// Where the turn ends that begins at `start`.
    fn end(&self, split: &Split, turn: usize, start: usize) -> Parsed<usize> {
        let (all, whole) = (split.all, split.whole);
        if turn + 1 == all.len() {
            return Ok(whole.len());
        }
        let alone = self.of(&all[..=turn], false)?;
        let tokens = self
            .ends
            .ends()
            .iter()
            .filter_map(|&token| self.ends.piece(token));
        let tokens: Vec<String> = tokens.collect();
        if whole.starts_with(&alone) && alone.len() >= start {
            if all[turn + 1].is_answer() {
                return Ok(alone.len());
            }
            // A line's end after the end token is no part of what the model says.
            let said = alone.trim_end();
            let ended =
                said.len() >= start && tokens.iter().any(|token| said.ends_with(token.as_str()));
            return Ok(if ended { said.len() } else { alone.len() });
        }
        // Some templates write a turn in another way where it is the last. Its end token tells, unless
        // what was said holds one.
        let content = all[turn].fields().get("content").map(ToString::to_string);
        let held = |token: &&String| content.as_ref().is_none_or(|c| !c.contains(token.as_str()));
        let ends = (tokens.iter().filter(held))
            .filter_map(|token| Some(start + whole[start..].find(token.as_str())? + token.len()));
        match ends.min() {
            Some(end) => Ok(end),
            None => fault(
                unlike(&alone, whole, split.column),
                "give another chat template, or conversations without weights",
            ),
        }
    }
}
