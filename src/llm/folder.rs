//! Models from and to folders.

use std::path::Path;

use candle_core::{D, DType, Device, Tensor};

use super::config::{Config, Family};
use super::decoder::Decoder;
use super::weights::{Checkpoint, Loader};
use crate::error::{Error, Result};

/// Tensors of scalar heads, which are loaded apart.
pub(super) const SCALAR_HEADS: [&str; 3] = [
    "score.weight",
    "v_head.summary.weight",
    "v_head.summary.bias",
];

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
    let config = Config::read(dir.join("config.json"))?;
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
    checkpoint.forget(|name| SCALAR_HEADS.contains(&name) || buffer(config.family, name));
    let a = &config.architecture;
    let repeated = match (head, a.tied && checkpoint.has("lm_head.weight")) {
        (true, true) => Some(checkpoint.take("lm_head.weight", &[a.vocabulary, a.width])?),
        (true, false) => None,
        (false, _) => {
            checkpoint.forget(|name| name == "lm_head.weight");
            None
        }
    };
    let mut loader = Loader::new(checkpoint, config.family, a, head);
    let mut decoder = Decoder::build(a.clone(), head, dtype, device, &mut |name, _| {
        loader.take(name)
    })?;
    loader.finish()?;
    if let Some(repeated) = repeated
        && !same(
            &repeated,
            &decoder.parameters().iter().next().map(|p| &p.tensor),
        )?
    {
        let problem = "lm_head.weight differs from the embedding";
        let remedy = "config.json says tie_word_embeddings: make it false, or leave the head out";
        return Err(Error::invalid(origin, problem, remedy));
    }
    decoder.set_folder(config, Some(dir.into()));
    Ok(decoder)
}

/// Whether two tensors are equal in the second's precision.
fn same(a: &Tensor, b: &Option<&Tensor>) -> Result<bool> {
    let Some(b) = b else {
        return Ok(false);
    };
    let a = a.to_dtype(b.dtype())?.to_device(b.device())?;
    let differ = a.ne(*b)?.to_dtype(DType::U32)?.flatten_all()?;
    Ok(differ.max(D::Minus1)?.to_scalar::<u32>()? == 0)
}

/// Whether a tensor is a constant that older files carry along.
fn buffer(family: Family, name: &str) -> bool {
    match family {
        Family::Gpt2 => {
            let name = name.strip_prefix("transformer.").unwrap_or(name);
            let layer = (name.strip_prefix("h.")).and_then(|n| {
                n.strip_suffix(".attn.bias")
                    .or(n.strip_suffix(".attn.masked_bias"))
            });
            layer.is_some_and(|l| l.parse::<usize>().is_ok())
        }
        _ => name.ends_with(".rotary_emb.inv_freq"),
    }
}
