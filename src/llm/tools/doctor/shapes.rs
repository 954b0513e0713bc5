//! The calls that one pass through a model consists of.

use std::rc::Rc;

use crate::llm::model::graph::{Graph, Instruction, Op, Weight};
use crate::llm::model::sequence::Predictions;
use crate::llm::tensor::ops::{
    Operation, activation, add, attention, gated, layer_norm, linear, rms_norm, rope, rows, scale,
    token_log_probs,
};

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
    pub call: Rc<dyn Operation>,
    /// Number of times that a pass makes it.
    pub count: usize,
}

/// The calls of a forward pass of `Decoder::log_probs`, without adapters: those of the graph, and of the head.
pub fn calls(graph: &Graph, predictions: &Predictions) -> Vec<Times> {
    let mut list: Vec<Times> = Vec::new();
    let mut push = |stage, call: Rc<dyn Operation>| {
        // Blocks make the same calls.
        let same = |times: &&mut Times| times.stage == stage && *times.call == *call;
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
    let picks = rows::Call {
        table: false,
        height: predictions.packed.tokens.len(),
        width,
        picks: predictions.rows.clone(),
    };
    push(Stage::Head, Rc::new(picks));
    let head = token_log_probs::Call {
        width,
        vocabulary: graph.sizes.vocabulary,
        bias: graph.linear(graph.head).bias.is_some(),
        targets: predictions.targets.clone(),
        temperature: 1.0,
    };
    push(Stage::Head, Rc::new(head));
    list
}

fn call(
    graph: &Graph,
    instruction: &Instruction,
    predictions: &Predictions,
) -> (Stage, Rc<dyn Operation>) {
    let packed = &predictions.packed;
    let (rows, width) = (packed.tokens.len(), instruction.width);
    let table = |weight: &Weight, picks: Rc<[u32]>| -> Rc<dyn Operation> {
        Rc::new(rows::Call {
            table: true,
            height: graph.weight(*weight).shape[0],
            width,
            picks,
        })
    };
    match &instruction.op {
        Op::Tokens(weight) => (Stage::Embedding, table(weight, packed.tokens.clone())),
        Op::Positions {
            table: weight,
            offset,
        } => {
            let positions = packed.starts.positions();
            let positions = positions.map(|p| p + *offset as u32).collect();
            (Stage::Embedding, table(weight, positions))
        }
        Op::Scale(factor) => {
            let factor = *factor;
            let call = scale::Call {
                rows,
                width,
                factor,
            };
            (Stage::Embedding, Rc::new(call))
        }
        Op::Linear(layer) => {
            let layer = graph.linear(*layer);
            let [inputs, outputs] = layer.shape;
            let bias = layer.bias.is_some();
            let call = linear::Call {
                rows,
                inputs,
                outputs,
                bias,
            };
            (Stage::Projections, Rc::new(call))
        }
        Op::Norm(norm) => {
            let (runs, width) = (width / norm.width, norm.width);
            let call: Rc<dyn Operation> = match norm.bias {
                Some(_) => Rc::new(layer_norm::Call { rows, runs, width }),
                None => Rc::new(rms_norm::Call {
                    rows,
                    runs,
                    width,
                    offset: norm.offset,
                }),
            };
            (Stage::Norms, call)
        }
        Op::Rope { heads, rotation } => {
            let rotation = &graph.rotations[*rotation];
            let call = rope::Call {
                heads: *heads,
                head_dim: width / heads,
                turned: 2 * rotation.frequencies.len(),
                interleaved: rotation.interleaved,
                starts: packed.starts.clone(),
            };
            (Stage::Rope, Rc::new(call))
        }
        Op::Attention { form, .. } => {
            let call = attention::Call {
                form: form.clone(),
                starts: packed.starts.clone(),
            };
            (Stage::Attention, Rc::new(call))
        }
        Op::Gated(f) => {
            let call = gated::Call { rows, width, f: *f };
            (Stage::Nonlinearity, Rc::new(call))
        }
        Op::Activation(f) => {
            let call = activation::Call { rows, width, f: *f };
            (Stage::Nonlinearity, Rc::new(call))
        }
        Op::Add => (Stage::Residuals, Rc::new(add::Call { rows, width })),
    }
}
