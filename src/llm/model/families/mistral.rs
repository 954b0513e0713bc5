//! Mistral: Llama with a sliding window.

use super::Family;
use super::llama::{Absent, Types, architecture, no_biases, types, wrong_types};
use crate::error::Result;
use crate::llm::files::fields::Fields;
use crate::llm::model::architecture::{Architecture, most};

pub(super) const MISTRAL: Family = Family::like_llama(
    "mistral",
    ["MistralForCausalLM", "MistralForSequenceClassification"],
    r#"{"vocab_size": 211, "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "sliding_window": 24}"#,
    |fields| {
        let a = architecture(fields, Absent::kv_heads(8))?;
        no_biases(fields)?;
        let window = window(fields, a.layers)?;
        Ok(Architecture { window, ..a }.graph())
    },
);

/// The window, which all layers share.
fn window(fields: &Fields, layers: usize) -> Result<Option<usize>> {
    let size = fields.count_if_there("sliding_window", most::CONTEXT)?;
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
