//! GPT-J: attention and MLP side by side, of one norm; rotary positions of neighbouring pairs in the first numbers of
//! each head; an output head with a bias.

use serde_json::Value as Json;

use super::plain::{Mlp, Projections, form, norm};
use super::rope::frequencies;
use super::{Family, Names, activation, head_dim};
use crate::error::Result;
use crate::llm::files::fields::Fields;
use crate::llm::model::architecture::{Architecture, Norm, Positions, most};
use crate::llm::model::graph::{Builder, Graph, Rotation};

pub(super) const GPTJ: Family = Family {
    names: Names {
        blocks: "transformer.h",
        modules: &[
            ("model.embed_tokens", "transformer.wte"),
            ("input_layernorm", "ln_1"),
            ("self_attn.q_proj", "attn.q_proj"),
            ("self_attn.k_proj", "attn.k_proj"),
            ("self_attn.v_proj", "attn.v_proj"),
            ("self_attn.o_proj", "attn.out_proj"),
            ("mlp.up_proj", "mlp.fc_in"),
            ("mlp.down_proj", "mlp.fc_out"),
            ("model.norm", "transformer.ln_f"),
        ],
        ..Names::LLAMA
    },
    zero_padding: false,
    buffers: &["attn.bias", "attn.masked_bias"],
    ..Family::like_llama(
        "gptj",
        ["GPTJForCausalLM", "GPTJForSequenceClassification"],
        r#"{"vocab_size": 211, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64, "rotary_dim": 8}"#,
        read,
    )
};

fn read(fields: &Fields) -> Result<Graph> {
    let width = fields.count("n_embd", most::WIDTH)?;
    let heads = fields.count("n_head", most::HEADS)?;
    let head_dim = head_dim(width, heads, ["n_embd", "n_head"])?;
    let rotated = fields.count_if_there("rotary_dim", most::INNER)?;
    let rotated = match (rotated, fields.has("rotary_dim")) {
        (Some(rotated), _) => rotated,
        (None, false) => 64,
        (None, true) => return Err(fields.wrong("rotary_dim", &Json::Null, "give a number")),
    };
    if rotated > head_dim || !rotated.is_multiple_of(2) {
        let right = format!("give an even number up to a head's width, {head_dim}");
        return Err(fields.wrong("rotary_dim", &Json::from(rotated), right));
    }
    fields.only("rotary", true)?;
    fields.only("scale_attn_weights", true)?;
    let frequencies = frequencies(10_000.0, rotated, |f| f)?;
    let a = Architecture {
        vocabulary: fields.count("vocab_size", most::VOCABULARY)?,
        width,
        layers: fields.count("n_layer", most::LAYERS)?,
        heads,
        kv_heads: heads,
        head_dim,
        intermediate: fields
            .count_if_there("n_inner", most::INNER)?
            .unwrap_or(4 * width),
        context: fields.count("n_positions", most::CONTEXT)?,
        norm: Norm::Layer,
        epsilon: fields.number_or("layer_norm_epsilon", 1e-5)?,
        activation: activation(fields, "activation_function", "gelu_new")?,
        gated: false,
        positions: Positions::Rotary {
            frequencies: frequencies.clone(),
            factor: 1.0,
        },
        window: None,
        qkv_bias: false,
        output_bias: false,
        mlp_bias: true,
        embedding_scale: 1.0,
        tied: fields.flag_or("tie_word_embeddings", false)?,
    };
    Ok(graph(&a, frequencies))
}

fn graph(a: &Architecture, frequencies: Vec<f64>) -> Graph {
    let mut b = Builder::default();
    let x = b.tokens("model.embed_tokens", [a.vocabulary, a.width]);
    let rotation = b.rotation(Rotation {
        frequencies,
        factor: 1.0,
        interleaved: true,
    });
    let x = b.blocks(a.layers, x, |b, x| {
        let before = norm(b, a, "input_layernorm");
        let attention = Projections::new(b, a);
        let mlp = Mlp::new(b, a);
        let h = b.normalise(before, x);
        let qkv = attention.qkv(b, h);
        let attended = attention.attend(b, form(a), Some(rotation), qkv);
        let mixed = mlp.mix(b, a, h);
        let both = b.add(attended, mixed);
        b.add(both, x)
    });
    let last = norm(&mut b, a, "model.norm");
    b.normalise(last, x);
    b.finish(a.sizes(), true)
}
