//! Qwen 3: Llama with a norm of each head of queries and keys.

use super::Family;
use super::llama::{Absent, architecture, qwen_window};
use super::plain::{block, decoder};
use crate::llm::model::architecture::Architecture;
use crate::llm::model::graph::Graph;

pub(super) const QWEN3: Family = Family::like_llama(
    "qwen3",
    ["Qwen3ForCausalLM", "Qwen3ForSequenceClassification"],
    r#"{"vocab_size": 211, "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "head_dim": 24,
        "tie_word_embeddings": true}"#,
    |fields| {
        let absent = Absent {
            head_dim: Some(128),
            ..Absent::kv_heads(32)
        };
        let a = architecture(fields, absent)?;
        let bias = fields.flag_or("attention_bias", false)?;
        fields.only("mlp_bias", false)?;
        Ok(graph(&Architecture {
            qkv_bias: bias,
            output_bias: bias,
            window: qwen_window(fields, a.layers)?,
            ..a
        }))
    },
);

fn graph(a: &Architecture) -> Graph {
    decoder(a, |b, x, rotation| {
        block(b, a, x, rotation, |b, [q, k, v]| {
            let [of_q, of_k] = ["self_attn.q_norm", "self_attn.k_norm"]
                .map(|name| b.rms_norm(name, a.head_dim, a.epsilon, 0.0));
            [b.normalise(of_q, q), b.normalise(of_k, k), v]
        })
    })
}
