//! `config.json` of Hugging Face, and the architecture it stands for.
//!
//! Strict: a field that changes the arithmetic is either read, or required to have the value at
//! which it changes nothing; a field that is known not to matter is on a list; any other field
//! that is not `null` is refused by name. Defaults of absent fields are those of `transformers`.

mod families;
mod gpt2;
mod harmless;
mod llama;
mod rope;

use std::path::Path;

use serde_json::Value;

use super::architecture::Architecture;
use crate::error::Result;
use crate::llm::files::fields::Fields;
use crate::llm::files::json::{self, Object};

pub use families::Family;

/// A model's configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `model_type`
    pub family: Family,
    /// Every number that decides its arithmetic.
    pub architecture: Architecture,
    /// Standard deviation of random weights (`initializer_range`).
    pub deviation: f64,
    /// The row of the embedding that `transformers` begins at 0 (`pad_token_id`).
    pub padding: Option<usize>,
    /// The file, field by field.
    pub fields: Object,
}

impl Config {
    /// The configuration in a file.
    ///
    /// # Errors
    /// A file that cannot be read; an unknown family; a field that is missing, wrong, or not
    /// supported.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::new(json::read(path)?).map_err(|e| e.in_file(&path.display().to_string()))
    }

    /// The configuration in a JSON object.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn new(object: Object) -> Result<Self> {
        let family = Family::new(object.get("model_type"))?;
        let fields = Fields::new(&object);
        let architecture = family.architecture(&fields)?;
        let deviation = match fields.number_or("initializer_range", 0.02)? {
            // As in transformers: 0 stands for the default.
            0.0 => 0.02,
            deviation => deviation,
        };
        let padding = match fields.value("pad_token_id") {
            Some(Value::Number(id)) => id.as_u64().map(|id| id as usize),
            _ => None,
        };
        fields.all_known(family.name(), harmless::HARMLESS)?;
        let padding = padding.filter(|&row| row < architecture.vocabulary);
        Ok(Self {
            family,
            architecture,
            deviation,
            padding,
            fields: object,
        })
    }
}
