//! Models to be evaluated.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device};

use crate::error::Result;
use crate::llm::model::decoder::Decoder;
use crate::llm::model::model_folder::ModelFolder;
use crate::llm::text::tokenizer::Tokenizer;

/// A language model with its tokenizer.
pub struct Loaded {
    /// The model, with its adapter if it has one.
    pub model: Decoder,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Folder of the model; of a run, its `model/`.
    pub folder: PathBuf,
}

/// The language model that a person [names](ModelFolder::find), with its tokenizer.
///
/// # Errors
/// A folder that holds none, or one that is broken.
pub fn load(dir: &Path, dtype: DType, device: &Device) -> Result<Loaded> {
    Loaded::new(ModelFolder::find(dir)?, dtype, device)
}

impl Loaded {
    /// The language model that was found, with its tokenizer.
    ///
    /// # Errors
    /// Files that are broken, or do not belong together.
    pub fn new(found: ModelFolder, dtype: DType, device: &Device) -> Result<Self> {
        let tokenizer = found.tokenizer()?;
        let model = found.decoder(dtype, device)?;
        tokenizer.fits(model.sizes().vocabulary)?;
        let folder = found.folder;
        Ok(Self {
            model,
            tokenizer,
            folder,
        })
    }
}
