//! What a policy wrote, in text and with its scores.

use crate::error::Result;
use crate::llm::sample::generate::{Generated, Prompt, completion_text};
use crate::llm::sample::reward::{Candidate, Weighted};
use crate::llm::text::tokenizer::Tokenizer;
use crate::observer::Observer;

/// The texts of completions, as many of each prompt.
///
/// # Errors
/// Tokens that the tokenizer cannot join.
pub(in crate::llm) fn texts<'a>(
    tokenizer: &Tokenizer,
    prompt: impl Fn(usize) -> (usize, &'a Prompt),
    samples: usize,
    found: &[Generated],
) -> Result<Vec<String>> {
    let text = |(i, one): (usize, &Generated)| {
        let (_, prompt) = prompt(i / samples);
        completion_text(tokenizer, &prompt.tokens, &one.tokens, one.ended)
    };
    found.iter().enumerate().map(text).collect()
}

/// The score of each; `prompt` gives a prompt and its row.
///
/// # Errors
/// Those of the reward.
pub(in crate::llm) fn scores<'a>(
    reward: &mut Weighted,
    prompt: impl Fn(usize) -> (usize, &'a Prompt),
    samples: usize,
    texts: &'a [String],
    observer: &dyn Observer,
) -> Result<Vec<f64>> {
    let candidate = |(i, completion): (usize, &'a String)| {
        let (index, prompt) = prompt(i / samples);
        Candidate {
            prompt: &prompt.text,
            completion,
            index,
            fields: &prompt.fields,
        }
    };
    let rows: Vec<Candidate> = texts.iter().enumerate().map(candidate).collect();
    Ok(reward.scored(&rows, observer)?.total)
}
