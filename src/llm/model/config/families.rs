//! Reading of each family's `config.json`.

use std::fmt;

use serde_json::Value;

use super::{gpt2, llama};
use crate::error::{Error, Result};
use crate::llm::files::fields::Fields;
use crate::llm::model::architecture::Architecture;
use crate::llm::tensor::ops::Activation;

/// A family of decoders: `model_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Family {
    /// Llama 1, 2, 3.
    Llama,
    /// Mistral: Llama with a sliding window.
    Mistral,
    /// Qwen 2 and 2.5: Llama with biases of query, key and value.
    Qwen2,
    /// Gemma 1: embeddings scaled, norms offset by 1, GELU.
    Gemma,
    /// GPT-2.
    Gpt2,
}

impl Family {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Llama,
        Self::Mistral,
        Self::Qwen2,
        Self::Gemma,
        Self::Gpt2,
    ];

    /// Its `model_type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Gemma => "gemma",
            Self::Gpt2 => "gpt2",
        }
    }

    /// Class name of its language model in `transformers`.
    pub fn language_model(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Mistral => "MistralForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Gemma => "GemmaForCausalLM",
            Self::Gpt2 => "GPT2LMHeadModel",
        }
    }

    /// Class name of its sequence classifier in `transformers`; with one label, that is a reward model.
    pub fn classifier(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForSequenceClassification",
            Self::Mistral => "MistralForSequenceClassification",
            Self::Qwen2 => "Qwen2ForSequenceClassification",
            Self::Gemma => "GemmaForSequenceClassification",
            Self::Gpt2 => "GPT2ForSequenceClassification",
        }
    }

    pub(super) fn new(value: Option<&Value>) -> Result<Self> {
        let found =
            (Self::ALL.into_iter()).find(|f| value.and_then(Value::as_str) == Some(f.name()));
        found.ok_or_else(|| {
            let problem = match value {
                Some(value) => format!("the family {value} is not supported"),
                None => "it is missing".into(),
            };
            let names = Self::ALL.map(Self::name).join(", ");
            Error::invalid("model_type", problem, format!("supported are {names}"))
        })
    }

    pub(super) fn architecture(self, fields: &Fields) -> Result<Architecture> {
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
        match self {
            Self::Gpt2 => gpt2::architecture(fields),
            _ => llama::architecture(self, fields),
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A nonlinearity by its name.
pub(super) fn activation(fields: &Fields, name: &str, default: &str) -> Result<Activation> {
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
