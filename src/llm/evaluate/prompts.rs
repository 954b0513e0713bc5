//! What is asked.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::llm::chat::{ChatTemplate, Message};
use crate::llm::data::Reading;
use crate::llm::data::table::Table;
use crate::llm::tokenizer::Tokenizer;

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
    /// The column `prompt` of a file, read as `reading` says; `limit` takes the first so many. A
    /// conversation is rendered by the chat template, the tokenizer's own unless `reading` names one,
    /// up to where the model is to answer.
    ///
    /// # Errors
    /// A file that cannot be read, a row without a prompt, a conversation without a template.
    pub fn read(
        path: &Path,
        reading: &Reading,
        tokenizer: Option<&Tokenizer>,
        limit: Option<usize>,
    ) -> Result<Self> {
        let file = Table::read(path, reading)?;
        let mut template = None;
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
            let fields = file.whole(row)?;
            let fault = |problem: String, remedy: &str| Err(file.fault(row, problem, remedy));
            let text = match (fields.get("prompt"), tokenizer) {
                (Some(Value::String(text)), _) => text.clone(),
                (None | Some(Value::Null), _) => {
                    let names: Vec<&str> = fields.keys().map(String::as_str).collect();
                    let problem = format!(
                        "column `prompt` is missing; the row has {}",
                        names.join(", ")
                    );
                    return fault(problem, "make it of another: --column prompt=NAME");
                }
                (Some(Value::Array(turns)), Some(tokenizer)) => {
                    let messages: std::result::Result<Vec<Message>, String> =
                        turns.iter().map(Message::parse).collect();
                    let messages = match messages {
                        Ok(messages) if !messages.is_empty() => messages,
                        Ok(_) => return fault("`prompt` has no turns".into(), "give one"),
                        Err(problem) => {
                            return fault(format!("`prompt`: {problem}"), "give text or messages");
                        }
                    };
                    let loaded = match template.take() {
                        Some(loaded) => loaded,
                        None => {
                            let (named, day) = (&reading.chat_template, &reading.chat_date);
                            ChatTemplate::load(tokenizer, named.as_deref(), day.as_deref())?
                        }
                    };
                    let text = loaded.render(&messages, true);
                    template = Some(loaded);
                    text.map_err(|e| e.in_file(&format!("{}: row {}", prompts.origin, row + 1)))?
                }
                (Some(_), _) => return fault("`prompt` is no text".into(), "give a string"),
            };
            let next = prompts.all.len();
            if *prompts.places.entry(text.clone()).or_insert(next) != next {
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

    /// Which prompt a text is.
    pub fn find(&self, text: &str) -> Option<usize> {
        self.places.get(text).copied()
    }
}
