//! The tokenizer of a model on the disk.

use std::path::Path;

use super::Tokenizer;
use crate::error::Result;
use crate::llm::model::model_folder::ModelFolder;

impl ModelFolder {
    /// The tokenizer of a model that is named, or that in a folder which holds nothing else.
    ///
    /// # Errors
    /// As [`find`](Self::find) and [`Tokenizer::load`].
    pub fn tokenizer_of(named: &Path) -> Result<Tokenizer> {
        if Self::is_tokenizer(named) {
            Tokenizer::load(named)
        } else {
            Self::find(named)?.tokenizer()
        }
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// As [`Tokenizer::load`].
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        Tokenizer::load(self.tokenizer_folder())
    }
}
