//! Qwen 2 and 2.5: Llama with biases of query, key and value.

use super::Family;
use super::llama::{Absent, architecture, qwen_window};
use crate::llm::model::architecture::Architecture;

pub(super) const QWEN2: Family = Family::like_llama(
    "qwen2",
    ["Qwen2ForCausalLM", "Qwen2ForSequenceClassification"],
    r#"{"vocab_size": 211, "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "rms_norm_eps": 1e-5}"#,
    |fields| {
        let a = architecture(fields, Absent::kv_heads(32))?;
        fields.only("attention_bias", true)?;
        fields.only("mlp_bias", false)?;
        let a = Architecture {
            qkv_bias: true,
            window: qwen_window(fields, a.layers)?,
            ..a
        };
        Ok(a.graph())
    },
);
