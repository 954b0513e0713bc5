//! The calls that one pass through a model consists of.

use std::rc::Rc;

use super::call::Call;
use crate::llm::model::graph::{Graph, Instruction, Op, Weight};
use crate::llm::model::sequence::Predictions;

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

/// The calls of a forward pass of `Decoder::log_probs`, without adapters: those of the graph, and of the head.
pub fn calls(graph: &Graph, predictions: &Predictions) -> Vec<Times> {
    let mut list: Vec<Times> = Vec::new();
    let mut push = |stage, call| {
        // Blocks make the same calls.
        let same = |times: &&mut Times| times.stage == stage && times.call == call;
        match list.iter_mut().find(same) {
            Some(times) => times.count += 1,
            None => list.push(Times {
                stage,
                call,
                count: 1,
            }),
        }
    };
    for instruction in graph.instructions() {
        let (stage, call) = call(graph, instruction, predictions);
        push(stage, call);
    }
    let width = graph.sizes.width;
    let picks = Call::Rows {
        rows: predictions.packed.tokens.len(),
        width,
        picks: predictions.rows.clone(),
    };
    push(Stage::Head, picks);
    let head = Call::TokenLogProbs {
        width,
        vocabulary: graph.sizes.vocabulary,
        bias: graph.linear(graph.head).bias.is_some(),
        targets: predictions.targets.clone(),
        temperature: 1.0,
    };
    push(Stage::Head, head);
    list
}

fn call(graph: &Graph, instruction: &Instruction, predictions: &Predictions) -> (Stage, Call) {
    let packed = &predictions.packed;
    let (rows, width) = (packed.tokens.len(), instruction.width);
    let table = |weight: &Weight, ids: Rc<[u32]>| Call::Embedding {
        vocabulary: graph.weight(*weight).shape[0],
        width,
        ids,
    };
    match &instruction.op {
        Op::Tokens(weight) => (Stage::Embedding, table(weight, packed.tokens.clone())),
        Op::Positions {
            table: weight,
            offset,
        } => {
            let positions = (packed.starts.windows(2)).flat_map(|w| 0..(w[1] - w[0]) as u32);
            let positions = positions.map(|p| p + *offset as u32).collect();
            (Stage::Embedding, table(weight, positions))
        }
        Op::Scale(factor) => {
            let factor = *factor;
            let call = Call::Scale {
                rows,
                width,
                factor,
            };
            (Stage::Embedding, call)
        }
        Op::Linear(layer) => {
            let layer = graph.linear(*layer);
            let [inputs, outputs] = layer.shape;
            let bias = layer.bias.is_some();
            let call = Call::Linear {
                rows,
                inputs,
                outputs,
                bias,
            };
            (Stage::Projections, call)
        }
        Op::Norm(norm) => {
            let (runs, width) = (width / norm.width, norm.width);
            let call = match norm.bias {
                Some(_) => Call::LayerNorm { rows, runs, width },
                None => Call::RmsNorm {
                    rows,
                    runs,
                    width,
                    offset: norm.offset,
                },
            };
            (Stage::Norms, call)
        }
        Op::Rope { heads, rotation } => {
            let rotation = &graph.rotations[*rotation];
            let call = Call::Rope {
                heads: *heads,
                head_dim: width / heads,
                turned: 2 * rotation.frequencies.len(),
                interleaved: rotation.interleaved,
                starts: packed.starts.clone(),
            };
            (Stage::Rope, call)
        }
        Op::Attention { form, .. } => {
            let call = Call::Attention {
                form: form.clone(),
                starts: packed.starts.clone(),
            };
            (Stage::Attention, call)
        }
        Op::Gated(f) => (Stage::Nonlinearity, Call::Gated { rows, width, f: *f }),
        Op::Activation(f) => (Stage::Nonlinearity, Call::Activation { rows, width, f: *f }),
        Op::Add => (Stage::Residuals, Call::Add { rows, width }),
    }
}
