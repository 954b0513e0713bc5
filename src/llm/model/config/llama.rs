//! Llama and those who descend from it.

use serde_json::Value;

use super::families::{Family, activation};
use super::rope;
use crate::error::{Error, Result};
use crate::llm::files::fields::Fields;
use crate::llm::model::architecture::{Architecture, Norm, most};
use crate::llm::tensor::ops::Activation;

/// What Llama, Mistral, Qwen 2 and Gemma read.
pub(super) fn architecture(family: Family, fields: &Fields) -> Result<Architecture> {
    let width = fields.count("hidden_size", most::WIDTH)?;
    let heads = fields.count("num_attention_heads", most::HEADS)?;
    let layers = fields.count("num_hidden_layers", most::LAYERS)?;
    let context = fields.count("max_position_embeddings", most::CONTEXT)?;
    let head_dim = match (fields.count_if_there("head_dim", most::INNER)?, family) {
        (Some(given), _) => given,
        (None, Family::Gemma) if !fields.has("head_dim") => 256,
        (None, _) if width.is_multiple_of(heads) => width / heads,
        (None, _) => {
            let problem = format!("{width} does not divide into {heads} heads");
            return Err(Error::invalid("hidden_size", problem, "give `head_dim`"));
        }
    };
    // Absent and `null` differ: transformers fills in the class's own number for the former.
    let kv_heads = match (
        fields.count_if_there("num_key_value_heads", most::HEADS)?,
        family,
    ) {
        (Some(given), _) => given,
        (None, Family::Llama) => heads,
        (None, _) if fields.has("num_key_value_heads") => heads,
        (None, Family::Mistral) => 8,
        (None, Family::Gemma) => 16,
        (None, _) => 32,
    };
    if !heads.is_multiple_of(kv_heads) {
        let right = format!("it must divide num_attention_heads, which is {heads}");
        return Err(fields.wrong("num_key_value_heads", &Value::from(kv_heads), right));
    }
    if heads * head_dim > most::INNER {
        let problem = format!("{heads} heads of {head_dim} are {} wide", heads * head_dim);
        let remedy = format!("at most {} are supported", most::INNER);
        return Err(Error::invalid("head_dim", problem, remedy));
    }
    let attention_bias = match family {
        Family::Llama | Family::Gemma => fields.flag_or("attention_bias", false)?,
        Family::Qwen2 => {
            fields.only("attention_bias", true)?;
            false
        }
        _ => {
            fields.only("attention_bias", false)?;
            false
        }
    };
    let mlp_bias = match family {
        Family::Llama => fields.flag_or("mlp_bias", false)?,
        _ => {
            fields.only("mlp_bias", false)?;
            false
        }
    };
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
        norm: Norm::Rms {
            offset: if family == Family::Gemma { 1.0 } else { 0.0 },
        },
        epsilon: fields.number_or("rms_norm_eps", 1e-6)?,
        activation: nonlinearity(family, fields)?,
        gated: true,
        positions: rope::positions(fields, family, head_dim, context)?,
        window: window(family, fields, layers)?,
        qkv_bias: attention_bias || family == Family::Qwen2,
        output_bias: attention_bias,
        mlp_bias,
        embedding_scale: match family {
            // transformers keeps it in f32 and rounds to the weights' precision.
            Family::Gemma => f64::from((width as f64).sqrt() as f32),
            _ => 1.0,
        },
        tied: fields.flag_or("tie_word_embeddings", family == Family::Gemma)?,
    })
}

fn nonlinearity(family: Family, fields: &Fields) -> Result<Activation> {
    if family == Family::Gemma {
        // Gemma's first configurations say "gelu" and mean the approximation by tanh.
        fields.only("hidden_activation", "gelu_pytorch_tanh")?;
        return match fields.text("hidden_act")? {
            Some("gelu") => Ok(Activation::GeluTanh),
            _ => activation(fields, "hidden_act", "gelu_pytorch_tanh"),
        };
    }
    activation(fields, "hidden_act", "silu")
}

/// The sliding window, which all layers share or none has.
fn window(family: Family, fields: &Fields, layers: usize) -> Result<Option<usize>> {
    let size = fields.count_if_there("sliding_window", most::CONTEXT)?;
    let same = "layers that differ are not supported";
    match family {
        Family::Mistral => {
            let window = if fields.has("sliding_window") {
                size
            } else {
                Some(4096)
            };
            match (types(fields, layers)?, window.is_some()) {
                (Some(Types::Full), true) | (Some(Types::Sliding), false) => {
                    let right = format!("a model with sliding_window {size:?} has the other type");
                    Err(wrong_types(fields, right))
                }
                _ => Ok(window),
            }
        }
        Family::Qwen2 => {
            let window =
                size.filter(|_| matches!(fields.flag_or("use_sliding_window", false), Ok(true)));
            fields.flag_or("use_sliding_window", false)?;
            // The first layers, which do not slide.
            let full = match fields.value("max_window_layers") {
                None => 28,
                Some(value) => value.as_u64().ok_or_else(|| {
                    fields.wrong("max_window_layers", value, "give a whole number")
                })? as usize,
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
                    let right = format!(
                        "{same}: with use_sliding_window give 0 (all slide) or at least \
                         num_hidden_layers (none does)"
                    );
                    Err(fields.wrong("max_window_layers", &Value::from(full), right))
                }
            }
        }
        _ => {
            fields.only("sliding_window", Value::Null)?;
            match types(fields, layers)? {
                Some(Types::Sliding) => {
                    Err(wrong_types(fields, "only full_attention is supported"))
                }
                _ => Ok(None),
            }
        }
    }
}

/// What `layer_types` says of every layer.
enum Types {
    Full,
    Sliding,
}

fn types(fields: &Fields, layers: usize) -> Result<Option<Types>> {
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

fn wrong_types(fields: &Fields, right: impl Into<String>) -> Error {
    let value = fields.value("layer_types").unwrap_or(&Value::Null);
    fields.wrong("layer_types", value, right)
}
