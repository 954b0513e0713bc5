//! Models to be evaluated: a model's folder, an adapter's, or that of a run.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device};

use crate::error::{Error, Result};
use crate::llm::decoder::Decoder;
use crate::llm::lora::AdapterConfig;
use crate::llm::tokenizer::Tokenizer;
use crate::llm::train::MODEL;

/// A language model with its tokenizer.
pub struct Loaded {
    /// The model, with its adapter if it has one.
    pub model: Decoder,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Where it is: of a run, its `model/`.
    pub folder: PathBuf,
}

/// The language model in a folder: `config.json` and weights, an adapter on the base that it names, or
/// a run's folder, whose `model/` is taken.
///
/// # Errors
/// A folder that holds none of these, or one that is broken.
pub fn load(dir: &Path, dtype: DType, device: &Device) -> Result<Loaded> {
    let has = |dir: &Path, name: &str| dir.join(name).is_file();
    let is_one = |dir: &Path| has(dir, "config.json") || has(dir, "adapter_config.json");
    let inner = dir.join(MODEL);
    let folder = match (is_one(dir), is_one(&inner)) {
        (true, _) => dir.to_owned(),
        (false, true) => inner,
        (false, false) => {
            let problem = match dir.is_dir() {
                true => "it holds neither a model nor a finished run",
                false => "there is no such folder",
            };
            let remedy = "name a folder with config.json or adapter_config.json, or that of a run \
                          that came to its end";
            return Err(Error::invalid(dir.display().to_string(), problem, remedy));
        }
    };
    let (model, base) = match has(&folder, "adapter_config.json") {
        false => (Decoder::load(&folder, dtype, device)?, None),
        true => {
            let config = AdapterConfig::read(&folder.join("adapter_config.json"))?;
            let base = config.base.map(PathBuf::from).filter(|base| base.is_dir());
            let Some(base) = base else {
                let problem = "the base of its adapter is no folder here";
                let remedy = "write where it is into adapter_config.json, as \
                              base_model_name_or_path";
                return Err(Error::invalid(
                    folder.display().to_string(),
                    problem,
                    remedy,
                ));
            };
            let mut model = Decoder::load(&base, dtype, device)?;
            model.load_adapter(&folder)?;
            (model, Some(base))
        }
    };
    let tokenizer = match (has(&folder, "tokenizer.json"), base) {
        (false, Some(base)) => Tokenizer::load(base)?,
        _ => Tokenizer::load(&folder)?,
    };
    tokenizer.fits(model.architecture().vocabulary)?;
    Ok(Loaded {
        model,
        tokenizer,
        folder,
    })
}
