//! Families of models, a file each: what their configurations mean, how their blocks are built, and what their files
//! call the weights. A new family is its file, its `mod` and its line in [`Family::ALL`].

mod bloom;
mod gemma;
mod gpt2;
mod gptj;
mod harmless;
mod llama;
mod mistral;
mod names;
mod opt;
mod plain;
mod qwen2;
mod qwen3;
mod rope;

use std::fmt;

use serde_json::Value;

use super::config::Config;
use super::graph::Graph;
use crate::error::{Error, Result};
use crate::llm::files::fields::Fields;
use crate::llm::files::json::Object;
use crate::llm::tensor::ops::Activation;

pub use names::{Entry, Names, join, split};

/// A family of models: `model_type`.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Family {
    /// Its `model_type`.
    pub name: &'static str,
    /// Class name of its language model in `transformers`.
    pub language_model: &'static str,
    /// Class name of its sequence classifier in `transformers`; with one label, that is a reward model.
    pub classifier: &'static str,
    /// A small model's configuration, of its fields but `model_type`: what `pistar doctor` examines.
    sample: &'static str,
    /// The graph that a configuration stands for.
    read: fn(&Fields) -> Result<Graph>,
    /// Names and layouts of its files.
    pub names: Names,
    /// The field of the configuration with the standard deviation of random weights.
    deviation: &'static str,
    /// True if `transformers` begins with the embedding of `pad_token_id` at 0.
    pub zero_padding: bool,
    /// True if projections into the residual stream begin smaller, by √(2 · layers).
    pub small_residual: bool,
    /// Endings of constants that older files hold in blocks.
    buffers: &'static [&'static str],
}

impl Family {
    /// All of them.
    pub const ALL: &'static [&'static Self] = &[
        &llama::LLAMA,
        &mistral::MISTRAL,
        &qwen2::QWEN2,
        &gemma::GEMMA,
        &gpt2::GPT2,
        &qwen3::QWEN3,
        &opt::OPT,
        &gptj::GPTJ,
        &bloom::BLOOM,
    ];

    /// What most families have; the rest is their own.
    const fn like_llama(
        name: &'static str,
        [language_model, classifier]: [&'static str; 2],
        sample: &'static str,
        read: fn(&Fields) -> Result<Graph>,
    ) -> Self {
        Self {
            name,
            language_model,
            classifier,
            sample,
            read,
            names: Names::LLAMA,
            deviation: "initializer_range",
            zero_padding: true,
            small_residual: false,
            buffers: &["self_attn.rotary_emb.inv_freq"],
        }
    }

    /// A small model's configuration.
    ///
    /// # Errors
    /// A sample that its own family refuses.
    pub fn sample(&self) -> Result<Config> {
        let broken = |e: serde_json::Error| {
            Error::invalid(
                self.name,
                format!("its sample: {e}"),
                "this is a bug of pistar",
            )
        };
        let mut fields: Object = serde_json::from_str(self.sample).map_err(broken)?;
        fields.insert("model_type".into(), self.name.into());
        Config::new(fields)
    }

    /// The family of a configuration.
    ///
    /// # Errors
    /// None, or one that is not known.
    pub(super) fn of(value: Option<&Value>) -> Result<&'static Self> {
        let found = (Self::ALL.iter()).find(|f| value.and_then(Value::as_str) == Some(f.name));
        found.copied().ok_or_else(|| {
            let problem = match value {
                Some(value) => format!("the family {value} is not supported"),
                None => "it is missing".into(),
            };
            let names: Vec<&str> = Self::ALL.iter().map(|f| f.name).collect();
            let remedy = format!("supported are {}", names.join(", "));
            Error::invalid("model_type", problem, remedy)
        })
    }

    /// The graph that a configuration stands for.
    ///
    /// # Errors
    /// A field that is missing, wrong, not supported, or not known.
    pub(super) fn graph(&self, fields: &Fields) -> Result<Graph> {
        // Fields of wrappers and descendants of these families.
        fields.only("is_encoder_decoder", false)?;
        fields.only("add_cross_attention", false)?;
        fields.only("cross_attention_hidden_size", Value::Null)?;
        fields.only("pruned_heads", Value::Object(Default::default()))?;
        for quantised in ["quantization_config", "compression_config", "auto_map"] {
            if let Some(value) = fields.value(quantised) {
                let right = "only plain weights under the family's own code are supported";
                return Err(fields.wrong(quantised, value, right));
            }
        }
        (self.read)(fields)
    }

    /// The standard deviation of random weights.
    ///
    /// # Errors
    /// A field that is no number.
    pub(super) fn deviation(&self, fields: &Fields) -> Result<f64> {
        Ok(match fields.number_or(self.deviation, 0.02)? {
            // As in transformers: 0 stands for the default.
            0.0 => 0.02,
            deviation => deviation,
        })
    }

    /// Checks that every field of a configuration was read or changes nothing.
    ///
    /// # Errors
    /// The first that was not.
    pub(super) fn all_known(&self, fields: &Fields) -> Result<()> {
        fields.all_known(self.name, harmless::HARMLESS)
    }

    /// True if a tensor of files is a constant that older files carry along.
    pub fn is_buffer(&self, name: &str) -> bool {
        let blocks = self.names.blocks;
        // The first part may be missing from all names of a file.
        let bare = blocks.split_once('.').map_or(blocks, |(_, rest)| rest);
        let inside = (name.strip_prefix(blocks))
            .or_else(|| name.strip_prefix(bare))
            .and_then(|rest| rest.strip_prefix('.')?.split_once('.'));
        inside.is_some_and(|(layer, rest)| {
            layer.parse::<usize>().is_ok() && self.buffers.contains(&rest)
        })
    }
}

impl PartialEq for Family {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Family {}

impl fmt::Debug for Family {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The width of each of the heads that a width is divided into; `width_name` and `heads_name` are their fields.
fn head_dim(width: usize, heads: usize, [width_name, heads_name]: [&str; 2]) -> Result<usize> {
    if width.is_multiple_of(heads) {
        return Ok(width / heads);
    }
    let problem = format!("{width} does not divide into {heads} heads");
    let remedy = format!("use a multiple of `{heads_name}`");
    Err(Error::invalid(width_name, problem, remedy))
}

/// A nonlinearity by its name.
fn activation(fields: &Fields, name: &str, default: &str) -> Result<Activation> {
    match fields.text(name)?.unwrap_or(default) {
        "relu" => Ok(Activation::Relu),
        "silu" | "swish" => Ok(Activation::Silu),
        "gelu" => Ok(Activation::Gelu),
        "gelu_new" | "gelu_pytorch_tanh" => Ok(Activation::GeluTanh),
        other => {
            let right = "supported are relu, silu, gelu, gelu_new and gelu_pytorch_tanh";
            Err(fields.wrong(name, &Value::from(other), right))
        }
    }
}
