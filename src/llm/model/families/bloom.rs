//! BLOOM and BLOOMZ: positions by attention's slopes (ALiBi), and a norm of the embeddings.

use super::plain::{Mlp, Projections, form, norm};
use super::{Family, Names, head_dim};
use crate::error::Result;
use crate::llm::files::fields::Fields;
use crate::llm::model::architecture::{Architecture, Norm, Positions, most};
use crate::llm::model::graph::{Builder, Graph};
use crate::llm::tensor::ops::{Activation, Attention};

pub(super) const BLOOM: Family = Family {
    names: Names {
        blocks: "transformer.h",
        modules: &[
            ("model.embed_tokens", "transformer.word_embeddings"),
            ("model.embed_norm", "transformer.word_embeddings_layernorm"),
            ("self_attn.q_proj", "self_attention.query_key_value"),
            ("self_attn.k_proj", "self_attention.query_key_value"),
            ("self_attn.v_proj", "self_attention.query_key_value"),
            ("self_attn.o_proj", "self_attention.dense"),
            ("mlp.up_proj", "mlp.dense_h_to_4h"),
            ("mlp.down_proj", "mlp.dense_4h_to_h"),
            ("model.norm", "transformer.ln_f"),
        ],
        transposed: false,
        by_head: true,
    },
    zero_padding: false,
    buffers: &[],
    ..Family::like_llama(
        "bloom",
        ["BloomForCausalLM", "BloomForSequenceClassification"],
        r#"{"vocab_size": 211, "hidden_size": 72, "n_layer": 2, "n_head": 6, "seq_length": 64}"#,
        read,
    )
};

/// Fields that change no logit: how its fused kernels ran, and a split of products that is exact.
const HARMLESS: [&str; 9] = [
    "attention_softmax_in_fp32",
    "bias_dropout_fusion",
    "masked_softmax_fusion",
    "n_inner",
    "offset_alibi",
    "pretraining_tp",
    "skip_bias_add",
    "skip_bias_add_qkv",
    "slow_but_exact",
];

/// A whole number under either of two names.
fn either(fields: &Fields, [name, other]: [&str; 2], most: usize) -> Result<usize> {
    match fields.count_if_there(other, most)? {
        Some(count) if !fields.has(name) => Ok(count),
        _ => fields.count(name, most),
    }
}

fn read(fields: &Fields) -> Result<Graph> {
    let width = either(fields, ["hidden_size", "n_embed"], most::WIDTH)?;
    let heads = either(fields, ["n_head", "num_attention_heads"], most::HEADS)?;
    let head_dim = head_dim(width, heads, ["hidden_size", "n_head"])?;
    HARMLESS.iter().for_each(|name| {
        fields.value(name);
    });
    let a = Architecture {
        vocabulary: fields.count("vocab_size", most::VOCABULARY)?,
        width,
        layers: either(fields, ["n_layer", "num_hidden_layers"], most::LAYERS)?,
        heads,
        kv_heads: heads,
        head_dim,
        // At most `INNER`, as four times `WIDTH` is.
        intermediate: 4 * width,
        // Slopes have no last position.
        context: fields
            .count_if_there("seq_length", most::CONTEXT)?
            .unwrap_or(most::CONTEXT),
        norm: Norm::Layer,
        epsilon: fields.number_or("layer_norm_epsilon", 1e-5)?,
        activation: Activation::GeluTanh,
        gated: false,
        positions: Positions::Learned,
        window: None,
        qkv_bias: true,
        output_bias: true,
        mlp_bias: true,
        embedding_scale: 1.0,
        tied: fields.flag_or("tie_word_embeddings", true)?,
    };
    let behind = fields.flag_or("apply_residual_connection_post_layernorm", false)?;
    Ok(graph(&a, behind))
}

/// `behind` adds to the norms' results instead of the residual stream.
fn graph(a: &Architecture, behind: bool) -> Graph {
    let mut b = Builder::default();
    let x = b.tokens("model.embed_tokens", [a.vocabulary, a.width]);
    let first = norm(&mut b, a, "model.embed_norm");
    let x = b.normalise(first, x);
    let x = b.blocks(a.layers, x, |b, x| {
        let before = norm(b, a, "input_layernorm");
        let attention = Projections::new(b, a);
        let between = norm(b, a, "post_attention_layernorm");
        let mlp = Mlp::new(b, a);
        let h = b.normalise(before, x);
        let qkv = attention.qkv(b, h);
        let sloped = Attention {
            slopes: Some(slopes(a.heads).into()),
            ..form(a)
        };
        let attended = attention.attend(b, sloped, None, qkv);
        let x = b.add(attended, if behind { h } else { x });
        let h = b.normalise(between, x);
        let mixed = mlp.mix(b, a, h);
        b.add(mixed, if behind { h } else { x })
    });
    let last = norm(&mut b, a, "model.norm");
    b.normalise(last, x);
    b.finish(a.sizes(), false)
}

/// Slopes of ALiBi (Press et al. 2022): with n the largest power of two up to the number of heads, `2^(−8i/n)` for
/// i = 1, …, n, and for the heads beyond every other one of twice as many.
fn slopes(heads: usize) -> Vec<f64> {
    let n = 1usize << heads.ilog2();
    let slope = |i: usize, n: usize| (-8.0 * i as f64 / n as f64).exp2();
    let first = (1..=n).map(|i| slope(i, n));
    let beyond = (0..heads - n).map(|i| slope(2 * i + 1, 2 * n));
    first.chain(beyond).collect()
}

#[cfg(test)]
mod tests {
    use super::slopes;

    #[test]
    fn slopes_are_those_of_the_paper() {
        let halves: Vec<f64> = (1..=8).map(|i| 0.5f64.powi(i)).collect();
        assert_eq!(slopes(8), halves);
        // Of twelve: those of eight, and the first, third, fifth and seventh of sixteen.
        let twelve = slopes(12);
        assert_eq!(&twelve[..8], halves);
        for (i, slope) in twelve[8..].iter().enumerate() {
            assert!((slope - 0.5f64.powf(0.5 + i as f64)).abs() < 1e-15);
        }
    }
}
