//! The plain decoder: pre-norm blocks of attention and MLP, as Llama and GPT-2 have them with the choices of an
//! [`Architecture`]; and its parts, of which other families build theirs.

use crate::llm::model::architecture::{Architecture, Norm as Kind, Positions};
use crate::llm::model::graph::{Builder, Graph, Linear, Norm, Rotation, Sizes, Value};
use crate::llm::tensor::ops::Attention;

impl Architecture {
    /// Sizes.
    pub fn sizes(&self) -> Sizes {
        Sizes {
            vocabulary: self.vocabulary,
            width: self.width,
            layers: self.layers,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            context: self.context,
            tied: self.tied,
        }
    }

    /// Graph of a plain decoder.
    pub fn graph(&self) -> Graph {
        let mut graph = decoder(self, |b, x, rotation| {
            block(b, self, x, rotation, |_, qkv| qkv)
        });
        graph.plain = Some(self.clone());
        graph
    }
}

/// A decoder with those blocks: `block` writes one that begins with a value, given the rotary angles if there are.
pub(super) fn decoder(
    a: &Architecture,
    mut block: impl FnMut(&mut Builder, Value, Option<usize>) -> Value,
) -> Graph {
    let b = &mut Builder::default();
    let mut x = b.tokens("model.embed_tokens", [a.vocabulary, a.width]);
    if a.embedding_scale != 1.0 {
        x = b.scale(x, a.embedding_scale);
    }
    let rotation = match &a.positions {
        Positions::Learned => {
            let p = b.positions("model.embed_positions", [a.context, a.width], 0);
            x = b.add(x, p);
            None
        }
        Positions::Rotary {
            frequencies,
            factor,
        } => Some(b.rotation(Rotation {
            frequencies: frequencies.clone(),
            factor: *factor,
            interleaved: false,
        })),
    };
    let x = b.blocks(a.layers, x, |b, x| block(b, x, rotation));
    let last = norm(b, a, "model.norm");
    b.normalise(last, x);
    std::mem::take(b).finish(a.sizes(), false)
}

/// A pre-norm block: attention and MLP, each of a norm of the residual stream and added to it. `of_heads` changes
/// queries, keys and values before they are rotated.
pub(super) fn block(
    b: &mut Builder,
    a: &Architecture,
    x: Value,
    rotation: Option<usize>,
    of_heads: impl FnOnce(&mut Builder, [Value; 3]) -> [Value; 3],
) -> Value {
    let before = norm(b, a, "input_layernorm");
    let attention = Projections::new(b, a);
    let between = norm(b, a, "post_attention_layernorm");
    let mlp = Mlp::new(b, a);
    let h = b.normalise(before, x);
    let qkv = attention.qkv(b, h);
    let qkv = of_heads(b, qkv);
    let attended = attention.attend(b, form(a), rotation, qkv);
    let x = b.add(x, attended);
    let h = b.normalise(between, x);
    let mixed = mlp.mix(b, a, h);
    b.add(x, mixed)
}

/// A norm over the width of the residual stream.
pub(super) fn norm(b: &mut Builder, a: &Architecture, name: &str) -> Norm {
    match a.norm {
        Kind::Rms { offset } => b.rms_norm(name, a.width, a.epsilon, offset),
        Kind::Layer => b.layer_norm(name, a.width, a.epsilon),
    }
}

/// Projections of an attention.
pub(super) struct Projections {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
}

impl Projections {
    pub fn new(b: &mut Builder, a: &Architecture) -> Self {
        let (q, kv) = (a.heads * a.head_dim, a.kv_heads * a.head_dim);
        Self {
            query: b.linear("self_attn.q_proj", [a.width, q], a.qkv_bias),
            key: b.linear("self_attn.k_proj", [a.width, kv], a.qkv_bias),
            value: b.linear("self_attn.v_proj", [a.width, kv], a.qkv_bias),
            output: b.residual("self_attn.o_proj", [q, a.width], a.output_bias),
        }
    }

    /// Queries, keys and values.
    pub fn qkv(&self, b: &mut Builder, x: Value) -> [Value; 3] {
        [self.query, self.key, self.value].map(|layer| b.project(layer, x))
    }

    /// Causal attention, rotated if there are angles, and its output's projection.
    pub fn attend(
        &self,
        b: &mut Builder,
        form: Attention,
        rotation: Option<usize>,
        [mut q, mut k, v]: [Value; 3],
    ) -> Value {
        if let Some(rotation) = rotation {
            q = b.rope(rotation, form.heads, q);
            k = b.rope(rotation, form.kv_heads, k);
        }
        let mixed = b.attention(form, [q, k, v]);
        b.project(self.output, mixed)
    }
}

/// Attention of an architecture: scores are divided by the root of a head's width.
pub(super) fn form(a: &Architecture) -> Attention {
    Attention {
        heads: a.heads,
        kv_heads: a.kv_heads,
        head_dim: a.head_dim,
        scale: (a.head_dim as f64).sqrt().recip(),
        window: a.window,
        slopes: None,
    }
}

/// An MLP, gated or not.
pub(super) struct Mlp {
    gate: Option<Linear>,
    up: Linear,
    down: Linear,
}

impl Mlp {
    pub fn new(b: &mut Builder, a: &Architecture) -> Self {
        let shape = [a.width, a.intermediate];
        Self {
            gate: a
                .gated
                .then(|| b.linear("mlp.gate_proj", shape, a.mlp_bias)),
            up: b.linear("mlp.up_proj", shape, a.mlp_bias),
            down: b.residual("mlp.down_proj", [a.intermediate, a.width], a.mlp_bias),
        }
    }

    pub fn mix(&self, b: &mut Builder, a: &Architecture, x: Value) -> Value {
        let up = b.project(self.up, x);
        let inner = match self.gate {
            Some(gate) => {
                let gate = b.project(gate, x);
                b.gated(a.activation, [gate, up])
            }
            None => b.activation(a.activation, up),
        };
        b.project(self.down, inner)
    }
}
