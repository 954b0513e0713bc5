//! Prompts and completions as text.

use crate::error::{Error, Result};
use crate::llm::text::data::tokenise::MOST;
use crate::llm::text::tokenizer::Tokenizer;

/// The tokens of a prompt, begun with BOS where the model expects it or where there is no other.
///
/// # Errors
/// A text that the tokenizer cannot take, or no token at all.
pub fn prompt_tokens(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
    if text.len() > MOST {
        let problem = format!("it has {} bytes, too many to be tokenised", text.len());
        return Err(Error::invalid(
            "prompt",
            problem,
            format!("give at most {MOST} bytes"),
        ));
    }
    let tokens = tokenizer.encode_prompt(text)?;
    match (tokens.is_empty(), tokenizer.bos()) {
        (false, _) => Ok(tokens),
        (true, Some(bos)) => Ok(vec![bos]),
        (true, None) => Err(Error::invalid(
            "prompt",
            "it has no tokens, and the tokenizer no BOS token",
            "give a text",
        )),
    }
}

/// The text of a completion, as it goes on after its prompt, without the end token: special tokens
/// within it are written out.
///
/// # Errors
/// Tokens that the tokenizer cannot join.
pub fn completion_text(
    tokenizer: &Tokenizer,
    prompt: &[u32],
    completion: &[u32],
    ended: bool,
) -> Result<String> {
    let completion = &completion[..completion.len() - usize::from(ended && !completion.is_empty())];
    let before = tokenizer.decode(prompt)?;
    let whole = tokenizer.decode(&[prompt, completion].concat())?;
    match whole.strip_prefix(&before) {
        Some(text) => Ok(text.into()),
        // A character whose first bytes end the prompt.
        None => tokenizer.decode(completion),
    }
}
