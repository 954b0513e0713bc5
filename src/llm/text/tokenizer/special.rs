//! Special tokens, as a model's folder declares them.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, Result};
use crate::llm::files::json::{self, Object};

/// The list of added tokens in `tokenizer_config.json`.
const ADDED: &str = "added_tokens_decoder";

/// What the folder's files say of special tokens: first those that write them as text, then those
/// that number them. The first of them is what `transformers` goes by: `tokenizer_config.json` if it
/// lists all added tokens, else `special_tokens_map.json`.
pub(super) struct Special {
    files: [(PathBuf, Object); 4],
    /// `added_tokens.json`.
    pub added: (PathBuf, Object),
}

impl Special {
    pub fn read(dir: &Path) -> Result<Self> {
        let file = |name: &str| -> Result<_> {
            let path = dir.join(name);
            let object = json::read_if_there(&path)?;
            Ok((path, object))
        };
        let mut files = [
            file("tokenizer_config.json")?,
            file("special_tokens_map.json")?,
            file("config.json")?,
            file("generation_config.json")?,
        ];
        if !files[0].1.contains_key(ADDED) {
            files.swap(0, 1);
        }
        Ok(Self {
            files,
            added: file("added_tokens.json")?,
        })
    }

    /// The file that lists all added tokens, if there is one.
    pub fn list(&self) -> Option<(&Path, &Value)> {
        let (path, object) = &self.files[0];
        object.get(ADDED).map(|list| (path.as_path(), list))
    }

    /// The files that write special tokens as text and that `transformers` reads.
    pub fn texts(&self) -> &[(PathBuf, Object)] {
        if self.list().is_some() {
            &self.files[..1]
        } else {
            &self.files[..2]
        }
    }

    /// The tokens of one role. The first file that has a word on it decides which comes first
    /// (`null` is a word: there is none); only EOS has several.
    pub fn tokens(&self, role: &str, inner: &tokenizers::Tokenizer) -> Result<Vec<u32>> {
        let mut found = Vec::new();
        for (path, object) in &self.files {
            let (as_text, as_number) = (format!("{role}_token"), format!("{role}_token_id"));
            let (field, value) = match (object.get(&as_text), object.get(&as_number)) {
                (Some(value), _) => (as_text, value),
                (_, Some(value)) => (as_number, value),
                _ => continue,
            };
            let fail = |problem: String| {
                let place = format!("{}: {field}", path.display());
                let remedy = "it must name a token of tokenizer.json";
                Err(Error::invalid(place, problem, remedy))
            };
            let values = match value {
                Value::Array(values) => values.as_slice(),
                value => std::slice::from_ref(value),
            };
            for value in values {
                let text = match value {
                    Value::Object(token) => token.get("content").unwrap_or(&Value::Null),
                    value => value,
                };
                let id = match text {
                    Value::Null => continue,
                    // The first Llama says −1 for "none".
                    Value::Number(id) if id.as_i64().is_some_and(|id| id < 0) => continue,
                    Value::String(text) => inner.token_to_id(text),
                    value => (value.as_u64().and_then(|id| u32::try_from(id).ok()))
                        .filter(|&id| inner.id_to_token(id).is_some()),
                };
                match id {
                    Some(id) if !found.contains(&id) => found.push(id),
                    Some(_) => {}
                    None => return fail(format!("{text} is not in the vocabulary")),
                }
            }
            if role != "eos" {
                break;
            }
        }
        Ok(found)
    }
}
