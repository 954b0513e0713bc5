//! What is asked.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value};

use crate::error::Result;
use crate::llm::data::file::JsonLines;

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
    /// How many rows repeat a prompt of another; the first counts.
    pub repeated: usize,
    places: HashMap<String, usize>,
}

impl Prompts {
    /// The column `prompt` of a file of JSON lines; `limit` takes the first so many.
    ///
    /// # Errors
    /// A file that cannot be read, or a row without a prompt in text.
    pub fn read(path: &Path, limit: Option<usize>) -> Result<Self> {
        let file = JsonLines::open(path)?;
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
            let fields = file.row(row)?;
            let text = match fields.get("prompt") {
                Some(Value::String(text)) => text.clone(),
                None | Some(Value::Null) => {
                    return Err(file.fault(row, "column `prompt` is missing", "give it"));
                }
                Some(_) => return Err(file.fault(row, "`prompt` is no text", "give a string")),
            };
            let next = prompts.all.len();
            if *prompts.places.entry(text.clone()).or_insert(next) != next {
                prompts.repeated += 1;
                continue;
            }
            prompts.all.push(Prompt { text, row, fields });
        }
        Ok(prompts)
    }

    /// Which prompt a text is.
    pub fn find(&self, text: &str) -> Option<usize> {
        self.places.get(text).copied()
    }
}
