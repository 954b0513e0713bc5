//! Prompts of a file.

use std::path::Path;

use serde_json::Value;

use super::text::prompt_tokens;
use crate::error::{Error, Result};
use crate::llm::data::file::JsonLines;
use crate::llm::tokenizer::Tokenizer;

/// A prompt in text and tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// Its text.
    pub text: String,
    /// Its tokens, at least one.
    pub tokens: Vec<u32>,
}

impl Prompt {
    /// A text, for a model that takes `context` tokens.
    ///
    /// # Errors
    /// No token, or no room for another one.
    pub fn new(text: &str, tokenizer: &Tokenizer, context: usize) -> Result<Self> {
        let tokens = prompt_tokens(tokenizer, text)?;
        match problem(&tokens, context) {
            None => Ok(Self {
                text: text.into(),
                tokens,
            }),
            Some([problem, remedy]) => Err(Error::invalid("prompt", problem, remedy)),
        }
    }

    /// The column `prompt` of every row, for a model that takes `context` tokens.
    ///
    /// # Errors
    /// A file that cannot be read; a row whose prompt is missing, no text, or too long: `FILE:LINE`.
    pub fn read(path: &Path, tokenizer: &Tokenizer, context: usize) -> Result<Vec<Self>> {
        let rows = JsonLines::open(path)?;
        let one = |row: usize| -> Result<Self> {
            let columns = rows.row(row)?;
            let text = match columns.get("prompt") {
                Some(Value::String(text)) => text,
                None | Some(Value::Null) => {
                    let names: Vec<&str> = columns.keys().map(String::as_str).collect();
                    let problem = "column `prompt` is missing";
                    let remedy = match names.is_empty() {
                        true => "give it".into(),
                        false => format!("the row has {}", names.join(", ")),
                    };
                    return Err(rows.fault(row, problem, remedy));
                }
                Some(_) => return Err(rows.fault(row, "`prompt` is no text", "give a string")),
            };
            let tokens = prompt_tokens(tokenizer, text)
                .map_err(|e| rows.fault(row, e.to_string(), "leave the row out"))?;
            match problem(&tokens, context) {
                None => Ok(Self {
                    text: text.clone(),
                    tokens,
                }),
                Some([problem, remedy]) => Err(rows.fault(row, problem, remedy)),
            }
        };
        (0..rows.len()).map(one).collect()
    }
}

fn problem(tokens: &[u32], context: usize) -> Option<[String; 2]> {
    (tokens.len() >= context).then(|| {
        let problem = format!("the prompt has {} tokens", tokens.len());
        let remedy =
            format!("the model takes {context}, one of them at least to generate: shorten it");
        [problem, remedy]
    })
}
