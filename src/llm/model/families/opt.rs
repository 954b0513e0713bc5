//! OPT: learned positions from the third row on, ReLU, and in its 350m form norms behind and embeddings of their own
//! width.

use super::plain::{Mlp, Projections, block, form, norm};
use super::{Family, Names, activation, head_dim};
use crate::error::Result;
use crate::llm::files::fields::Fields;
use crate::llm::model::architecture::{Architecture, Norm, Positions, most};
use crate::llm::model::graph::{Builder, Graph, Sizes, Value};

pub(super) const OPT: Family = Family {
    names: Names {
        blocks: "model.decoder.layers",
        modules: &[
            ("model.embed_tokens", "model.decoder.embed_tokens"),
            ("model.embed_positions", "model.decoder.embed_positions"),
            ("model.project_in", "model.decoder.project_in"),
            ("input_layernorm", "self_attn_layer_norm"),
            ("self_attn.o_proj", "self_attn.out_proj"),
            ("post_attention_layernorm", "final_layer_norm"),
            ("mlp.up_proj", "fc1"),
            ("mlp.down_proj", "fc2"),
            ("model.norm", "model.decoder.final_layer_norm"),
            ("model.project_out", "model.decoder.project_out"),
        ],
        ..Names::LLAMA
    },
    deviation: "init_std",
    buffers: &[],
    ..Family::like_llama(
        "opt",
        ["OPTForCausalLM", "OPTForSequenceClassification"],
        // The form of 350m, which has all that the others have but a last norm.
        r#"{"vocab_size": 211, "hidden_size": 64, "word_embed_proj_dim": 48, "ffn_dim": 160, "num_hidden_layers": 2,
            "num_attention_heads": 4, "max_position_embeddings": 64, "do_layer_norm_before": false}"#,
        |fields| Ok(Opt::read(fields)?.graph()),
    )
};

/// The row of the first position.
const OFFSET: usize = 2;

struct Opt {
    a: Architecture,
    /// Width of the embeddings.
    embedding: usize,
    /// True if norms come before attention and MLP, and not behind them.
    before: bool,
    /// True if there is a norm behind the last block.
    last: bool,
}

impl Opt {
    fn read(fields: &Fields) -> Result<Self> {
        let width = fields.count("hidden_size", most::WIDTH)?;
        let heads = fields.count("num_attention_heads", most::HEADS)?;
        let head_dim = head_dim(width, heads, ["hidden_size", "num_attention_heads"])?;
        fields.only("layer_norm_elementwise_affine", true)?;
        let embedding = fields.count_if_there("word_embed_proj_dim", most::WIDTH)?;
        let before = fields.flag_or("do_layer_norm_before", true)?;
        let bias = fields.flag_or("enable_bias", true)?;
        let removed = fields.flag_or("_remove_final_layer_norm", false)?;
        Ok(Self {
            a: Architecture {
                vocabulary: fields.count("vocab_size", most::VOCABULARY)?,
                width,
                layers: fields.count("num_hidden_layers", most::LAYERS)?,
                heads,
                kv_heads: heads,
                head_dim,
                intermediate: fields.count("ffn_dim", most::INNER)?,
                context: fields.count("max_position_embeddings", most::CONTEXT)?,
                norm: Norm::Layer,
                epsilon: 1e-5,
                activation: activation(fields, "activation_function", "relu")?,
                gated: false,
                positions: Positions::Learned,
                window: None,
                qkv_bias: bias,
                output_bias: bias,
                mlp_bias: bias,
                embedding_scale: 1.0,
                tied: fields.flag_or("tie_word_embeddings", true)?,
            },
            embedding: embedding.unwrap_or(width),
            before,
            last: before && !removed,
        })
    }

    fn graph(&self) -> Graph {
        let (a, embedding) = (&self.a, self.embedding);
        let mut b = Builder::default();
        let mut x = b.tokens("model.embed_tokens", [a.vocabulary, embedding]);
        if embedding != a.width {
            let project_in = b.linear("model.project_in", [embedding, a.width], false);
            x = b.project(project_in, x);
        }
        let rows = [a.context + OFFSET, a.width];
        let p = b.positions("model.embed_positions", rows, OFFSET);
        let x = b.add(x, p);
        let mut x = b.blocks(a.layers, x, |b, x| {
            if self.before {
                block(b, a, x, None, |_, qkv| qkv)
            } else {
                block_with_norms_behind(b, a, x)
            }
        });
        if self.last {
            let last = norm(&mut b, a, "model.norm");
            x = b.normalise(last, x);
        }
        if embedding != a.width {
            let project_out = b.linear("model.project_out", [a.width, embedding], false);
            b.project(project_out, x);
        }
        let sizes = Sizes {
            width: embedding,
            ..a.sizes()
        };
        b.finish(sizes, false)
    }
}

fn block_with_norms_behind(b: &mut Builder, a: &Architecture, x: Value) -> Value {
    let first = norm(b, a, "input_layernorm");
    let attention = Projections::new(b, a);
    let second = norm(b, a, "post_attention_layernorm");
    let mlp = Mlp::new(b, a);
    let qkv = attention.qkv(b, x);
    let attended = attention.attend(b, form(a), None, qkv);
    let sum = b.add(x, attended);
    let x = b.normalise(first, sum);
    let mixed = mlp.mix(b, a, x);
    let sum = b.add(x, mixed);
    b.normalise(second, sum)
}
