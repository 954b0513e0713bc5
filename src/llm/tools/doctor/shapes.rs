//! The calls that one pass through a model consists of.

use std::rc::Rc;

use super::call::Call;
use crate::llm::model::architecture::{Architecture, Norm, Positions};
use crate::llm::model::sequence::Predictions;
use crate::llm::tensor::ops::Attention;

/// Purpose of calls, in the order of a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Tokens and learned positions to vectors.
    Embedding,
    /// Before attention, before the MLP, at the end.
    Norms,
    /// Every matrix of the blocks.
    Projections,
    /// Rotary position embedding of queries and keys.
    Rope,
    /// Within each sequence.
    Attention,
    /// The MLP's nonlinearity.
    Nonlinearity,
    /// Sums of the residual stream.
    Residuals,
    /// Rows whose prediction counts, and their log-probabilities.
    Head,
}

impl Stage {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Embedding,
        Self::Norms,
        Self::Projections,
        Self::Rope,
        Self::Attention,
        Self::Nonlinearity,
        Self::Residuals,
        Self::Head,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedding => "embedding",
            Self::Norms => "norms",
            Self::Projections => "projections",
            Self::Rope => "rotary embedding",
            Self::Attention => "attention",
            Self::Nonlinearity => "nonlinearity",
            Self::Residuals => "residual sums",
            Self::Head => "log-probabilities",
        }
    }
}

/// A call and how often a pass makes it.
#[derive(Debug, Clone)]
pub struct Times {
    /// Purpose of the call.
    pub stage: Stage,
    /// The call with its shapes.
    pub call: Call,
    /// Number of times that a pass makes it.
    pub count: usize,
}

/// The calls of a forward pass of `Decoder::log_probs`, without adapters.
pub fn calls(a: &Architecture, predictions: &Predictions) -> Vec<Times> {
    let packed = &predictions.packed;
    let (n, width) = (packed.tokens.len(), a.width);
    let (q, kv) = (a.heads * a.head_dim, a.kv_heads * a.head_dim);
    let mut list = Vec::new();
    let mut push = |stage, call, count| list.push(Times { stage, call, count });
    let embedding = |vocabulary, ids: &Rc<[u32]>| Call::Embedding {
        vocabulary,
        width,
        ids: ids.clone(),
    };
    push(Stage::Embedding, embedding(a.vocabulary, &packed.tokens), 1);
    if a.embedding_scale != 1.0 {
        let call = Call::Scale {
            rows: n,
            width,
            factor: a.embedding_scale,
        };
        push(Stage::Embedding, call, 1);
    }
    let mut residuals = 2 * a.layers;
    if a.positions == Positions::Learned {
        let positions = (packed.starts.windows(2)).flat_map(|w| 0..(w[1] - w[0]) as u32);
        let positions: Rc<[u32]> = positions.collect();
        push(Stage::Embedding, embedding(a.context, &positions), 1);
        residuals += 1;
    }
    let norm = match a.norm {
        Norm::Rms { offset } => Call::RmsNorm {
            rows: n,
            runs: 1,
            width,
            offset,
        },
        Norm::Layer => Call::LayerNorm {
            rows: n,
            runs: 1,
            width,
        },
    };
    push(Stage::Norms, norm, 2 * a.layers + 1);
    let linear = |inputs, outputs, bias| Call::Linear {
        rows: n,
        inputs,
        outputs,
        bias,
    };
    let layers = a.layers;
    push(Stage::Projections, linear(width, q, a.qkv_bias), layers);
    push(
        Stage::Projections,
        linear(width, kv, a.qkv_bias),
        2 * layers,
    );
    push(Stage::Projections, linear(q, width, a.output_bias), layers);
    let ups = if a.gated { 2 } else { 1 };
    let up = linear(width, a.intermediate, a.mlp_bias);
    push(Stage::Projections, up, ups * layers);
    let down = linear(a.intermediate, width, a.mlp_bias);
    push(Stage::Projections, down, layers);
    if let Positions::Rotary { .. } = a.positions {
        for heads in [a.heads, a.kv_heads] {
            let call = Call::Rope {
                heads,
                head_dim: a.head_dim,
                turned: a.head_dim,
                interleaved: false,
                starts: packed.starts.clone(),
            };
            push(Stage::Rope, call, layers);
        }
    }
    let attention = Call::Attention {
        form: Attention {
            heads: a.heads,
            kv_heads: a.kv_heads,
            head_dim: a.head_dim,
            scale: (a.head_dim as f64).sqrt().recip(),
            window: a.window,
            slopes: None,
        },
        starts: packed.starts.clone(),
    };
    push(Stage::Attention, attention, layers);
    let (rows, f) = (n, a.activation);
    let nonlinearity = if a.gated {
        Call::Gated {
            rows,
            width: a.intermediate,
            f,
        }
    } else {
        Call::Activation {
            rows,
            width: a.intermediate,
            f,
        }
    };
    push(Stage::Nonlinearity, nonlinearity, layers);
    push(Stage::Residuals, Call::Add { rows, width }, residuals);
    let picks = Call::Rows {
        rows,
        width,
        picks: predictions.rows.clone(),
    };
    push(Stage::Head, picks, 1);
    let head = Call::TokenLogProbs {
        width,
        vocabulary: a.vocabulary,
        bias: false,
        targets: predictions.targets.clone(),
    };
    push(Stage::Head, head, 1);
    list
}
