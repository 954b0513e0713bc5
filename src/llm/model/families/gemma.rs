//! Gemma 1: Llama with embeddings scaled, norms offset by 1, and GELU.

use super::llama::{Absent, architecture, no_window};
use super::{Family, activation};
use crate::error::Result;
use crate::llm::files::fields::Fields;
use crate::llm::model::architecture::{Architecture, Norm};
use crate::llm::tensor::ops::Activation;

pub(super) const GEMMA: Family = Family::like_llama(
    "gemma",
    ["GemmaForCausalLM", "GemmaForSequenceClassification"],
    r#"{"vocab_size": 211, "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "head_dim": 24}"#,
    |fields| {
        let absent = Absent {
            head_dim: Some(256),
            kv_heads: Some(16),
            tied: true,
        };
        let f = nonlinearity(fields)?;
        let a = architecture(fields, absent)?;
        let bias = fields.flag_or("attention_bias", false)?;
        fields.only("mlp_bias", false)?;
        let a = Architecture {
            norm: Norm::Rms { offset: 1.0 },
            activation: f,
            window: no_window(fields, a.layers)?,
            qkv_bias: bias,
            output_bias: bias,
            // transformers keeps it in f32 and rounds to the weights' precision.
            embedding_scale: f64::from((a.width as f64).sqrt() as f32),
            ..a
        };
        Ok(a.graph())
    },
);

/// Gemma's first configurations say "gelu" and mean the approximation by tanh.
fn nonlinearity(fields: &Fields) -> Result<Activation> {
    fields.only("hidden_activation", "gelu_pytorch_tanh")?;
    match fields.text("hidden_act")? {
        Some("gelu") => Ok(Activation::GeluTanh),
        _ => activation(fields, "hidden_act", "gelu_pytorch_tanh"),
    }
}
