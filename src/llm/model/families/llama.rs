//! Llama 1, 2, 3; and what its descendants read of their configurations.

use serde_json::Value;

use super::{Family, activation, rope};
use crate::error::{Error, Result};
use crate::llm::files::fields::Fields;
use crate::llm::model::architecture::{Architecture, Norm, most};

pub(super) const LLAMA: Family = Family::like_llama(
    "llama",
    ["LlamaForCausalLM", "LlamaForSequenceClassification"],
    r#"{"vocab_size": 211, "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "rms_norm_eps": 1e-5}"#,
    |fields| {
        let a = architecture(fields, Absent::default())?;
        let bias = fields.flag_or("attention_bias", false)?;
        let a = Architecture {
            qkv_bias: bias,
            output_bias: bias,
            mlp_bias: fields.flag_or("mlp_bias", false)?,
            window: no_window(fields, a.layers)?,
            ..a
        };
        Ok(a.graph())
    },
);

/// What `transformers` fills in for absent fields.
#[derive(Default)]
pub(super) struct Absent {
    /// `head_dim`; none for the width divided by the heads.
    pub head_dim: Option<usize>,
    /// `num_key_value_heads`; none for as many as heads.
    pub kv_heads: Option<usize>,
    /// `tie_word_embeddings`
    pub tied: bool,
}

impl Absent {
    /// With so many key heads.
    pub fn kv_heads(count: usize) -> Self {
        Self {
            kv_heads: Some(count),
            ..Self::default()
        }
    }
}

/// What Llama and its descendants have in common: no biases, no window, a gated MLP, rotary positions.
pub(super) fn architecture(fields: &Fields, absent: Absent) -> Result<Architecture> {
    let width = fields.count("hidden_size", most::WIDTH)?;
    let heads = fields.count("num_attention_heads", most::HEADS)?;
    let layers = fields.count("num_hidden_layers", most::LAYERS)?;
    let context = fields.count("max_position_embeddings", most::CONTEXT)?;
    let head_dim = fields.count_if_there("head_dim", most::INNER)?;
    // Absent and `null` differ: transformers fills in the class's own number for the former.
    let head_dim = match head_dim.or(absent.head_dim.filter(|_| !fields.has("head_dim"))) {
        Some(given) => given,
        None if width.is_multiple_of(heads) => width / heads,
        None => {
            let problem = format!("{width} does not divide into {heads} heads");
            return Err(Error::invalid("hidden_size", problem, "give `head_dim`"));
        }
    };
    let kv_heads = fields.count_if_there("num_key_value_heads", most::HEADS)?;
    let missing = || {
        absent
            .kv_heads
            .filter(|_| !fields.has("num_key_value_heads"))
    };
    let kv_heads = kv_heads.or_else(missing).unwrap_or(heads);
    if !heads.is_multiple_of(kv_heads) {
        let right = format!("it must divide num_attention_heads, which is {heads}");
        return Err(fields.wrong("num_key_value_heads", &Value::from(kv_heads), right));
    }
    if heads * head_dim > most::INNER {
        let problem = format!("{heads} heads of {head_dim} are {} wide", heads * head_dim);
        let remedy = format!("at most {} are supported", most::INNER);
        return Err(Error::invalid("head_dim", problem, remedy));
    }
    fields.only("pretraining_tp", 1)?;
    fields.only("rope_interleaved", false)?;
    fields.only("use_mrope", false)?;
    fields.only("use_bidirectional_attention", false)?;
    Ok(Architecture {
        vocabulary: fields.count("vocab_size", most::VOCABULARY)?,
        width,
        layers,
        heads,
        kv_heads,
        head_dim,
        intermediate: fields.count("intermediate_size", most::INNER)?,
        context,
        norm: Norm::Rms { offset: 0.0 },
        epsilon: fields.number_or("rms_norm_eps", 1e-6)?,
        activation: activation(fields, "hidden_act", "silu")?,
        gated: true,
        positions: rope::positions(fields, head_dim, context)?,
        window: None,
        qkv_bias: false,
        output_bias: false,
        mlp_bias: false,
        embedding_scale: 1.0,
        tied: fields.flag_or("tie_word_embeddings", absent.tied)?,
    })
}

/// Biases that a family does not have.
pub(super) fn no_biases(fields: &Fields) -> Result<()> {
    fields.only("attention_bias", false)?;
    fields.only("mlp_bias", false)
}

/// The window of a family that has none.
pub(super) fn no_window(fields: &Fields, layers: usize) -> Result<Option<usize>> {
    fields.only("sliding_window", Value::Null)?;
    match types(fields, layers)? {
        Some(Types::Sliding) => Err(wrong_types(fields, "only full_attention is supported")),
        _ => Ok(None),
    }
}

/// The window of Qwen 2 and 3, which all layers share or none has.
pub(super) fn qwen_window(fields: &Fields, layers: usize) -> Result<Option<usize>> {
    let slides = fields.flag_or("use_sliding_window", false)?;
    let size = fields.count_if_there("sliding_window", most::CONTEXT)?;
    let window = size.filter(|_| slides);
    // The first layers, which do not slide.
    let full = match fields.value("max_window_layers") {
        None => 28,
        Some(value) => value
            .as_u64()
            .ok_or_else(|| fields.wrong("max_window_layers", value, "give a whole number"))?
            as usize,
    };
    match (types(fields, layers)?, window) {
        (Some(Types::Sliding), None) => {
            let right = "it needs use_sliding_window and sliding_window";
            Err(wrong_types(fields, right))
        }
        (Some(Types::Full), _) | (None, None) => Ok(None),
        (Some(Types::Sliding), window) => Ok(window),
        (None, Some(_)) if full >= layers => Ok(None),
        (None, window) if full == 0 => Ok(window),
        (None, Some(_)) => {
            let right = "layers that differ are not supported: with use_sliding_window give 0 (all slide) or at least \
                         num_hidden_layers (none does)";
            Err(fields.wrong("max_window_layers", &Value::from(full), right))
        }
    }
}

/// What `layer_types` says of every layer.
pub(super) enum Types {
    Full,
    Sliding,
}

pub(super) fn types(fields: &Fields, layers: usize) -> Result<Option<Types>> {
    let Some(types) = fields.value("layer_types") else {
        return Ok(None);
    };
    let all = |kind: &str| {
        (types.as_array()).is_some_and(|t| t.len() == layers && t.iter().all(|t| t == kind))
    };
    match () {
        () if all("full_attention") => Ok(Some(Types::Full)),
        () if all("sliding_attention") => Ok(Some(Types::Sliding)),
        () => {
            let right = format!(
                "layers that differ are not supported: {layers} times full_attention, or \
                 {layers} times sliding_attention"
            );
            Err(wrong_types(fields, right))
        }
    }
}

pub(super) fn wrong_types(fields: &Fields, right: impl Into<String>) -> Error {
    let value = fields.value("layer_types").unwrap_or(&Value::Null);
    fields.wrong("layer_types", value, right)
}
