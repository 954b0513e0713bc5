//! Prompts of a file.

use std::path::Path;

use serde_json::{Map, Value};

use super::text::prompt_tokens;
use crate::error::{Error, Result};
use crate::llm::text::data::Reading;
use crate::llm::text::data::prompt::PromptColumn;
use crate::llm::text::data::table::Table;
use crate::llm::text::tokenizer::Tokenizer;
use crate::observer::Observer;

/// A prompt in text and tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    /// Its text.
    pub text: String,
    /// Its tokens, at least one.
    pub tokens: Vec<u32>,
    /// The row that it comes from, if it does.
    pub fields: Map<String, Value>,
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
                fields: Map::new(),
            }),
            Some([problem, remedy]) => Err(Error::invalid("prompt", problem, remedy)),
        }
    }

    /// The column `prompt` of every row of a file that is read as `reading` says, for
    /// a model that takes `context` tokens; and the SHA-256 of the file.
    ///
    /// # Errors
    /// A file that cannot be read; a row whose prompt is missing, no text or conversation, or too
    /// long: `FILE:LINE`.
    pub fn read(
        path: &Path,
        reading: &Reading,
        tokenizer: &Tokenizer,
        context: usize,
        observer: &dyn Observer,
    ) -> Result<(Vec<Self>, String)> {
        let file = Table::read(path, reading, observer)?;
        let mut column = PromptColumn::new(&file, reading, Some(tokenizer));
        let one = |row: usize| -> Result<Self> {
            let (text, fields) = column.at(row)?;
            let tokens = prompt_tokens(tokenizer, &text)
                .map_err(|e| file.fault(row, e.to_string(), "leave the row out"))?;
            match problem(&tokens, context) {
                None => Ok(Self {
                    text,
                    tokens,
                    fields,
                }),
                Some([problem, remedy]) => Err(file.fault(row, problem, remedy)),
            }
        };
        let all = (0..file.len()).map(one).collect::<Result<_>>()?;
        Ok((all, file.hash().into()))
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
