//! Models from and to folders.

use std::path::Path;

use candle_core::{DType, Device};

use super::config::Config;
use super::decoder::Decoder;
use super::heads::ScalarHead;
use super::weights::{Checkpoint, Loader};
use crate::error::{Error, Result};
use crate::llm::tensor::same;

impl Decoder {
    /// The model in a folder (`config.json` and safetensors), its numbers converted to `dtype`.
    ///
    /// # Errors
    /// A file that is missing, truncated or broken, a configuration that is not supported, or
    /// weights that do not fit it: a tensor that is missing, left over, or of another shape.
    pub fn load(dir: impl AsRef<Path>, dtype: DType, device: &Device) -> Result<Self> {
        load(dir.as_ref(), true, dtype, device)
    }

    /// [`load`](Self::load) without the output head: the body of a reward or value network, from
    /// such a network or from a language model.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_body(dir: impl AsRef<Path>, dtype: DType, device: &Device) -> Result<Self> {
        load(dir.as_ref(), false, dtype, device)
    }
}

fn load(dir: &Path, head: bool, dtype: DType, device: &Device) -> Result<Decoder> {
    let path = dir.join("config.json");
    if !path.exists() && dir.join("adapter_config.json").exists() {
        let problem = "it holds an adapter, not a model";
        let remedy = "load the adapter's base, and then the adapter";
        return Err(Error::invalid(dir.display().to_string(), problem, remedy));
    }
    let config = Config::read(path)?;
    let mut checkpoint = Checkpoint::open(dir)?;
    let origin = checkpoint.origin().display().to_string();
    if head && checkpoint.has("score.weight") {
        let problem = "it is a reward model (it holds score.weight)";
        return Err(Error::invalid(
            origin,
            problem,
            "a policy needs a language model",
        ));
    }
    checkpoint.forget(|name| scalar(name) || config.family.is_buffer(name));
    let a = config.sizes();
    let repeated = match (head, a.tied && checkpoint.has("lm_head.weight")) {
        (true, true) => Some(checkpoint.take("lm_head.weight", &[a.vocabulary, a.width])?),
        (true, false) => None,
        (false, _) => {
            checkpoint.forget(|name| name == "lm_head.weight" || name == "lm_head.bias");
            None
        }
    };
    let mut loader = Loader::new(checkpoint, &config, head);
    let graph = config.graph.clone();
    let mut decoder = Decoder::build(graph, head, dtype, device, &mut |weight| {
        loader.take(&weight.name)
    })?;
    loader.finish()?;
    if let (Some(repeated), Some(first)) = (repeated, decoder.parameters().iter().next())
        && !same(&repeated, &first.tensor)?
    {
        let problem = "lm_head.weight differs from the embedding";
        let remedy = "config.json says tie_word_embeddings: make it false, or leave the head out";
        return Err(Error::invalid(origin, problem, remedy));
    }
    decoder.set_folder(config, Some(dir.into()));
    Ok(decoder)
}

/// Whether a tensor is a scalar head's, which is loaded apart.
fn scalar(name: &str) -> bool {
    (ScalarHead::ALL.iter()).any(|head| head.names().contains(&name))
}
