//! Operations of [`tensor::ops`](crate::llm::tensor::ops) on a tape of bytes, by the memory that their facts say; and
//! what models do besides.

use super::tape::{Node, Op, Tape};
use crate::llm::tensor::ops::{
    self, Activation, Attention, Form, How, Memory, Needs, Operation, Starts,
};

/// An operation; its backward keeps `besides` too.
fn run(
    tape: &Tape,
    form: &Form,
    call: &dyn Operation,
    inputs: &[&Node],
    besides: Option<&Node>,
) -> Node {
    let memory = call.memory(form, &wanted(inputs));
    record(tape, call.function(), memory, inputs, besides)
}

/// Whether gradients of nodes are.
fn wanted(inputs: &[&Node]) -> Vec<bool> {
    inputs.iter().map(|node| node.wanted()).collect()
}

/// An operation of that memory.
fn record(
    tape: &Tape,
    name: &'static str,
    memory: Memory,
    inputs: &[&Node],
    besides: Option<&Node>,
) -> Node {
    let Memory {
        out,
        gradients,
        keeps,
        keeps_output,
        statistics,
        together,
        needs,
    } = memory;
    let gradients = gradients.into_iter();
    tape.run(Op {
        name,
        out,
        inputs: gradients.map(|(i, how)| (inputs[i], Some(how))).collect(),
        keeps: (keeps.into_iter().map(|i| inputs[i]).chain(besides)).collect(),
        keeps_output,
        statistics,
        together,
        needs,
    })
}

/// `x Wᵀ + b`
pub fn linear(
    tape: &Tape,
    form: &Form,
    x: &Node,
    weight: &Node,
    bias: Option<&Node>,
    rows: usize,
    [inputs, outputs]: [usize; 2],
) -> Node {
    let call = ops::linear::Call {
        rows,
        inputs,
        outputs,
        bias: bias.is_some(),
    };
    let all: Vec<&Node> = [x, weight].into_iter().chain(bias).collect();
    run(tape, form, &call, &all, None)
}

/// Rows of a table or of an activation, which may be repeated.
pub fn rows(tape: &Tape, form: &Form, x: &Node, [m, width]: [usize; 2], repeated: bool) -> Node {
    let memory = ops::rows::memory(form, repeated, [m, width]);
    record(tape, "rows", memory, &[x], None)
}

/// `x / √(mean x² + ε) · w` of n runs of that width
pub fn rms_norm(tape: &Tape, form: &Form, x: &Node, w: &Node, rows: usize, width: usize) -> Node {
    let call = ops::rms_norm::Call {
        rows,
        runs: 1,
        width,
        offset: 0.0,
    };
    run(tape, form, &call, &[x, w], None)
}

/// `(x − mean) / √(variance + ε) · w + b` of n runs of that width
pub fn layer_norm(
    tape: &Tape,
    form: &Form,
    x: &Node,
    [w, b]: [&Node; 2],
    rows: usize,
    width: usize,
) -> Node {
    let runs = 1;
    let call = ops::layer_norm::Call { rows, runs, width };
    run(tape, form, &call, &[x, w, b], None)
}

/// Rotary positions of heads of that width together, by rotations that a pack of sequences shares.
pub fn rope(
    tape: &Tape,
    form: &Form,
    x: &Node,
    turns: Option<&Node>,
    starts: &Starts,
    width: usize,
) -> Node {
    let call = ops::rope::Call {
        heads: 1,
        head_dim: width,
        turned: width,
        interleaved: false,
        starts: starts.clone(),
    };
    run(tape, form, &call, &[x], turns)
}

/// Causal attention within each sequence.
pub fn attention(
    tape: &Tape,
    form: &Form,
    qkv: [&Node; 3],
    layout: &Attention,
    starts: &Starts,
) -> Node {
    let call = ops::attention::Call {
        form: layout.clone(),
        starts: starts.clone(),
    };
    run(tape, form, &call, &qkv, None)
}

/// `f(gate) · up`
pub fn gated(
    tape: &Tape,
    form: &Form,
    [gate, up]: [&Node; 2],
    f: Activation,
    [rows, width]: [usize; 2],
) -> Node {
    let call = ops::gated::Call { rows, width, f };
    run(tape, form, &call, &[gate, up], None)
}

/// `f(x)`
pub fn activation(
    tape: &Tape,
    form: &Form,
    x: &Node,
    f: Activation,
    [rows, width]: [usize; 2],
) -> Node {
    let call = ops::activation::Call { rows, width, f };
    run(tape, form, &call, &[x], None)
}

/// `a + b`
pub fn add(tape: &Tape, form: &Form, [a, b]: [&Node; 2], rows: usize, width: usize) -> Node {
    run(tape, form, &ops::add::Call { rows, width }, &[a, b], None)
}

/// `scale · x`
pub fn scale(tape: &Tape, form: &Form, x: &Node, rows: usize, width: usize) -> Node {
    let call = ops::scale::Call {
        rows,
        width,
        factor: 1.0,
    };
    run(tape, form, &call, &[x], None)
}

/// `W + s B A`
pub fn adapted(tape: &Tape, form: &Form, [w, a, b]: [&Node; 3], [o, i]: [usize; 2]) -> Node {
    let how = Some(How::Fresh);
    tape.run(Op {
        name: "adapted",
        out: form.of(o, i),
        inputs: vec![(a, how), (b, how), (w, Some(How::Shared))],
        keeps: vec![a, b],
        needs: Needs {
            forward: 2 * form.of(o, i),
            ..Needs::default()
        },
        ..Op::default()
    })
}

/// `ln softmax(h Wᵀ + b)` at each row's target.
pub fn token_log_probs(
    tape: &Tape,
    form: &Form,
    hidden: &Node,
    head: &Node,
    bias: Option<&Node>,
    m: usize,
    [width, vocabulary]: [usize; 2],
) -> Node {
    let of = ops::logits::Sizes {
        rows: m,
        width,
        vocabulary,
    };
    let all: Vec<&Node> = [hidden, head].into_iter().chain(bias).collect();
    let memory = ops::logits::token_log_probs::memory(form, of, bias.is_some(), &wanted(&all));
    record(tape, "token_log_probs", memory, &all, None)
}

/// A column `[m, 1]` as a list.
pub fn flat(tape: &Tape, x: &Node) -> Node {
    tape.run(Op {
        name: "squeeze",
        inputs: vec![(x, Some(How::Shared))],
        ..Op::default()
    })
}
