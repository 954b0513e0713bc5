//! Responses that somebody else wrote to the prompts: a second source beside the policy.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::llm::sample::generate::{Prompt, completion_text};
use crate::llm::text::data::{Form, Source};
use crate::llm::text::tokenizer::Tokenizer;
use crate::llm::train::settings::Settings;
use crate::observer::Observer;

/// A response in text and tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Demonstration {
    /// Its text, without EOS.
    pub text: String,
    /// Its tokens, EOS included.
    pub tokens: Vec<u32>,
    /// True if it ends with a token that ends completions; else it was cut.
    pub ended: bool,
}

/// The response beside each prompt of the file, as SFT would read it; of a list the best one.
///
/// # Errors
/// A row without one, or whose prompt comes to other tokens in front of it: `FILE:LINE`.
pub fn read(
    settings: &Settings,
    prompts: &[Prompt],
    tokenizer: &Tokenizer,
    context: usize,
    observer: &dyn Observer,
) -> Result<Vec<Demonstration>> {
    let Some(file) = &settings.prompts else {
        return Ok(Vec::new());
    };
    let (reading, rules) = (settings.reading(), settings.rows());
    let (form, shared) = (Form::Demonstration, Arc::new(tokenizer.clone()));
    let mut source = Source::read(file, &reading, form, shared, context, rules, observer)?;
    source.survey(observer)?;
    let one = |(row, prompt): (usize, &Prompt)| -> Result<Demonstration> {
        let example = source.example(row)?;
        // From worst to best.
        let best = example.responses.last().map(|best| &best.sequence);
        let fault = |problem: &str, remedy: &str| source.file().fault(row, problem, remedy);
        let best = best.ok_or_else(|| fault("it has no completion", "give one"))?;
        if best.prompt() != prompt.tokens {
            return Err(fault(
                "its prompt has other tokens before the completion than alone",
                "begin the completion with a space or a new line; leave out max_prompt_length",
            ));
        }
        if best.weights().is_some() {
            let remedy = "leave them out, or train sft on data";
            return Err(fault("its tokens have weights", remedy));
        }
        let tokens = best.completion().to_vec();
        let ended = tokens.last().is_some_and(|t| tokenizer.ends().contains(t));
        Ok(Demonstration {
            text: completion_text(tokenizer, &prompt.tokens, &tokens, ended)?,
            tokens,
            ended,
        })
    };
    if source.len() != prompts.len() {
        let problem = format!("{} rows and {} prompts", source.len(), prompts.len());
        return Err(Error::invalid(
            "demonstrations",
            problem,
            "this is a bug of pistar",
        ));
    }
    prompts.iter().enumerate().map(one).collect()
}
