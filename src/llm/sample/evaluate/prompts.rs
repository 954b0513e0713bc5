//! Prompts of an evaluation.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::llm::text::data::Reading;
use crate::llm::text::data::prompt::PromptColumn;
use crate::llm::text::data::table::Table;
use crate::llm::text::tokenizer::Tokenizer;
use crate::observer::Observer;

/// A prompt and the columns of its row.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    /// Its text.
    pub text: String,
    /// Row of the file, from 0.
    pub row: usize,
    /// The row, in which rewards may find what is right.
    pub fields: Map<String, Value>,
}

/// Prompts, each once.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompts {
    /// The prompts, in the file's order.
    pub all: Vec<Prompt>,
    /// The file, as messages call it.
    pub origin: String,
    /// Number of rows that repeat an earlier prompt; the first counts.
    pub repeated: usize,
    places: HashMap<String, usize>,
}

impl Prompts {
    /// The column `prompt` of a file, read as `reading` says; `limit` takes the
    /// first so many. `answers` are columns that a prompt that comes again must have as it had them.
    ///
    /// # Errors
    /// A file that cannot be read, a row without a prompt, a conversation without a template, a prompt
    /// with two answers.
    pub fn read(
        path: &Path,
        reading: &Reading,
        tokenizer: Option<&Tokenizer>,
        limit: Option<usize>,
        answers: &[&str],
        observer: &dyn Observer,
    ) -> Result<Self> {
        let file = Table::read(path, reading, observer)?;
        let mut column = PromptColumn::new(&file, reading, tokenizer);
        let mut prompts = Self {
            all: Vec::new(),
            origin: file.origin().into(),
            repeated: 0,
            places: HashMap::new(),
        };
        for row in 0..file.len() {
            if limit.is_some_and(|limit| prompts.all.len() >= limit) {
                break;
            }
            let (text, fields) = column.at(row)?;
            let next = prompts.all.len();
            let place = *prompts.places.entry(text.clone()).or_insert(next);
            if place != next {
                let first: &Prompt = &prompts.all[place];
                let other = |name: &&&str| first.fields.get(**name) != fields.get(**name);
                if let Some(name) = answers.iter().find(other) {
                    let problem = format!(
                        "its prompt is that of {}, and `{name}` another",
                        file.place(first.row)?
                    );
                    return Err(file.fault(row, problem, "give every prompt one answer"));
                }
                prompts.repeated += 1;
                continue;
            }
            prompts.all.push(Prompt { text, row, fields });
        }
        if prompts.all.is_empty() {
            let problem = "no row has a prompt";
            return Err(Error::invalid(prompts.origin, problem, "give one or more"));
        }
        Ok(prompts)
    }

    /// Index of the prompt with that text.
    pub fn find(&self, text: &str) -> Option<usize> {
        self.places.get(text).copied()
    }
}
