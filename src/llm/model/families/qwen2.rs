//! Qwen 2 and 2.5: Llama with biases of query, key and value.

use super::Family;
use super::llama::{Absent, architecture, qwen_window};
use crate::llm::model::architecture::Architecture;

pub(super) const QWEN2: Family = Family::like_llama(
    "qwen2",
    ["Qwen2ForCausalLM", "Qwen2ForSequenceClassification"],
    |fields| {
        let kv_heads = Some(32);
        let a = architecture(
            fields,
            Absent {
                kv_heads,
                ..Absent::default()
            },
        )?;
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
