//! `config.json` of Hugging Face, and the architecture it stands for.
//!
//! Strict: a field that changes the arithmetic is either read, or required to have the value at
//! which it changes nothing; a field that is known not to matter is on a list; any other field
//! that is not `null` is refused by name. Defaults of absent fields are those of `transformers`.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::architecture::Architecture;
use super::graph::{Graph, Sizes};
use crate::error::Result;
use crate::llm::files::fields::Fields;
use crate::llm::files::json::{self, Object};

pub use super::families::Family;

/// A model's configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// `model_type`
    pub family: &'static Family,
    /// Its operations and weights.
    pub graph: Arc<Graph>,
    /// Standard deviation of random weights (`initializer_range`).
    pub deviation: f64,
    /// The row of the embedding that `transformers` begins at 0 (`pad_token_id`).
    pub padding: Option<usize>,
    /// The file, field by field.
    pub fields: Object,
}

/// The file says all.
impl PartialEq for Config {
    fn eq(&self, other: &Self) -> bool {
        self.fields == other.fields
    }
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
        let family = Family::of(object.get("model_type"))?;
        let fields = Fields::new(&object);
        let graph = family.graph(&fields)?;
        let deviation = family.deviation(&fields)?;
        let padding = match fields.value("pad_token_id") {
            Some(Value::Number(id)) => id.as_u64().map(|id| id as usize),
            _ => None,
        };
        family.all_known(&fields)?;
        let padding = padding.filter(|&row| row < graph.sizes.vocabulary);
        Ok(Self {
            family,
            graph: Arc::new(graph),
            deviation,
            padding,
            fields: object,
        })
    }

    /// Sizes of the network.
    pub fn sizes(&self) -> Sizes {
        self.graph.sizes
    }

    /// Every number that decides the arithmetic, if its blocks are those of a plain decoder.
    pub fn architecture(&self) -> Option<&Architecture> {
        self.graph.plain.as_ref()
    }
}
