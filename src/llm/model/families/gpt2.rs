//! GPT-2: learned positions, layer norms, biases everywhere.

use super::{Family, Names, activation, head_dim};
use crate::error::Result;
use crate::llm::files::fields::Fields;
use crate::llm::model::architecture::{Architecture, Norm, Positions, most};

pub(super) const GPT2: Family = Family {
    names: Names {
        blocks: "transformer.h",
        modules: &[
            ("model.embed_tokens", "transformer.wte"),
            ("model.embed_positions", "transformer.wpe"),
            ("input_layernorm", "ln_1"),
            ("self_attn.q_proj", "attn.c_attn"),
            ("self_attn.k_proj", "attn.c_attn"),
            ("self_attn.v_proj", "attn.c_attn"),
            ("self_attn.o_proj", "attn.c_proj"),
            ("post_attention_layernorm", "ln_2"),
            ("mlp.up_proj", "mlp.c_fc"),
            ("mlp.down_proj", "mlp.c_proj"),
            ("model.norm", "transformer.ln_f"),
        ],
        transposed: true,
        by_head: false,
    },
    zero_padding: false,
    small_residual: true,
    buffers: &["attn.bias", "attn.masked_bias"],
    ..Family::like_llama(
        "gpt2",
        ["GPT2LMHeadModel", "GPT2ForSequenceClassification"],
        r#"{"vocab_size": 211, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64}"#,
        |fields| Ok(architecture(fields)?.graph()),
    )
};

fn architecture(fields: &Fields) -> Result<Architecture> {
    let width = fields.count("n_embd", most::WIDTH)?;
    let heads = fields.count("n_head", most::HEADS)?;
    let head_dim = head_dim(width, heads, ["n_embd", "n_head"])?;
    let context = fields.count("n_positions", most::CONTEXT)?;
    fields.only("n_ctx", context)?;
    fields.only("scale_attn_weights", true)?;
    fields.only("scale_attn_by_inverse_layer_idx", false)?;
    fields.only("reorder_and_upcast_attn", false)?;
    Ok(Architecture {
        vocabulary: fields.count("vocab_size", most::VOCABULARY)?,
        width,
        layers: fields.count("n_layer", most::LAYERS)?,
        heads,
        kv_heads: heads,
        head_dim,
        // At most `INNER`, as four times `WIDTH` is.
        intermediate: fields
            .count_if_there("n_inner", most::INNER)?
            .unwrap_or(4 * width),
        context,
        norm: Norm::Layer,
        epsilon: fields.number_or("layer_norm_epsilon", 1e-5)?,
        activation: activation(fields, "activation_function", "gelu_new")?,
        gated: false,
        positions: Positions::Learned,
        window: None,
        qkv_bias: true,
        output_bias: true,
        mlp_bias: true,
        embedding_scale: 1.0,
        tied: fields.flag_or("tie_word_embeddings", true)?,
    })
}
