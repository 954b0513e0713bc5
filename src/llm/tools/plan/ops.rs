//! Memory of every operation of [`tensor::ops`](crate::llm::tensor::ops): the bytes that it makes, keeps and needs; one
//! description each, of the kernels of the CPU and of what is composed elsewhere.

use super::machine::Machine;
use super::network::Rows;
use super::tape::{How, Node, Op, Tape};
use super::{composed, fused};
use crate::llm::tensor::ops::Activation;
use crate::llm::tensor::ops::logits::{CHUNK, KEPT};

/// Form of computation: kernels, precision and machine.
#[derive(Debug, Clone, Copy)]
pub struct Form {
    /// Bytes of a number.
    pub size: u64,
    /// True for the kernels of the CPU.
    pub fused: bool,
    /// Machine that computes.
    pub machine: Machine,
}

impl Form {
    /// Bytes of a matrix.
    pub fn of(&self, rows: usize, width: usize) -> u64 {
        self.size * rows as u64 * width as u64
    }

    /// Bytes of a number in the precision of statistics.
    pub fn wide(&self) -> u64 {
        self.size.max(4)
    }

    /// Bytes of a copy of a number in that precision, if it is another one.
    pub fn widened(&self) -> u64 {
        if self.size < 4 { 4 } else { 0 }
    }

    fn statistics(&self, rows: usize, width: usize) -> u64 {
        self.wide() * rows as u64 * width as u64
    }
}

/// Memory that an operation needs while it runs, beside what it makes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Needs {
    /// Bytes in the forward.
    pub forward: u64,
    /// Bytes in the backward, before the gradients of inputs are there.
    pub before: u64,
    /// Bytes in the backward, beside them.
    pub backward: u64,
}

/// `x Wᵀ + b`
pub fn linear(
    tape: &Tape,
    form: &Form,
    x: &Node,
    weight: &Node,
    bias: Option<&Node>,
    n: usize,
    shape: [usize; 2],
) -> Node {
    let biased = bias.is_some_and(Node::wanted);
    let (how, needs) = if form.fused {
        (
            How::InPlace,
            fused::linear(form, n, shape, [weight.wanted(), biased]),
        )
    } else {
        (How::Fresh, composed::linear(form, n, shape, bias.is_some()))
    };
    let mut inputs = vec![(x, Some(how)), (weight, Some(how))];
    inputs.extend(bias.map(|bias| (bias, Some(How::Fresh))));
    tape.run(Op {
        name: "linear",
        out: form.of(n, shape[1]),
        inputs,
        keeps: weight.wanted().then_some(x).into_iter().collect(),
        needs,
        ..Op::default()
    })
}

/// Rows of a table or of an activation, some of them `repeated` or each at most once.
pub fn rows(tape: &Tape, form: &Form, x: &Node, [m, width]: [usize; 2], repeated: bool) -> Node {
    let (how, needs) = if form.fused {
        (How::InPlace, Needs::default())
    } else {
        (How::Fresh, composed::rows(form, m, width, repeated))
    };
    tape.run(Op {
        name: "rows",
        out: form.of(m, width),
        inputs: vec![(x, Some(how))],
        needs,
        ..Op::default()
    })
}

/// `x / √(mean x² + ε) · w` of n runs of that width
pub fn rms_norm(tape: &Tape, form: &Form, x: &Node, w: &Node, n: usize, width: usize) -> Node {
    let how = Some(How::Fresh);
    tape.run(Op {
        name: "rms_norm",
        out: form.of(n, width),
        inputs: vec![(x, how), (w, how)],
        keeps: vec![x],
        statistics: form.statistics(n, 1) + form.statistics(1, width),
        needs: if form.fused {
            fused::norm(form, n, width, 1)
        } else {
            composed::norm(form, n, width, false)
        },
        ..Op::default()
    })
}

/// `(x − mean) / √(variance + ε) · w + b` of n runs of that width
pub fn layer_norm(
    tape: &Tape,
    form: &Form,
    x: &Node,
    [w, b]: [&Node; 2],
    n: usize,
    width: usize,
) -> Node {
    let how = Some(How::Fresh);
    tape.run(Op {
        name: "layer_norm",
        out: form.of(n, width),
        inputs: vec![(x, how), (w, how), (b, how)],
        keeps: vec![x],
        statistics: form.statistics(n, 2),
        needs: if form.fused {
            fused::norm(form, n, width, 2)
        } else {
            composed::norm(form, n, width, true)
        },
        ..Op::default()
    })
}

/// Rotary positions, by rotations that a pack of sequences shares.
pub fn rope(
    tape: &Tape,
    form: &Form,
    x: &Node,
    turns: Option<&Node>,
    n: usize,
    width: usize,
) -> Node {
    tape.run(Op {
        name: "rope",
        out: form.of(n, width),
        inputs: vec![(x, Some(How::Fresh))],
        keeps: turns.into_iter().collect(),
        needs: if form.fused {
            fused::rope(n)
        } else {
            composed::rope(form, n, width)
        },
        ..Op::default()
    })
}

/// Causal attention within each sequence; with `slopes` scores fall with distance.
pub fn attention(
    tape: &Tape,
    form: &Form,
    [q, k, v]: [&Node; 3],
    shape: [usize; 3],
    slopes: bool,
    rows: &Rows,
) -> Node {
    let [heads, kv_heads, head_dim] = shape;
    let how = Some(How::Fresh);
    tape.run(Op {
        name: "attention",
        out: form.of(rows.n, heads * head_dim),
        inputs: vec![(q, how), (k, how), (v, how)],
        together: true,
        keeps: vec![q, k, v],
        keeps_output: true,
        statistics: form.statistics(if form.fused { rows.n } else { rows.padded }, heads),
        needs: if form.fused {
            fused::attention(form, [kv_heads, head_dim], rows.longest, rows.sequences)
        } else {
            composed::attention(form, shape, slopes, rows)
        },
    })
}

/// `f(gate) · up`
pub fn gated(
    tape: &Tape,
    form: &Form,
    [gate, up]: [&Node; 2],
    f: Activation,
    [n, width]: [usize; 2],
) -> Node {
    let how = Some(How::Fresh);
    tape.run(Op {
        name: "gated",
        out: form.of(n, width),
        inputs: vec![(up, how), (gate, how)],
        together: true,
        keeps: vec![gate, up],
        needs: if form.fused {
            Needs::default()
        } else {
            composed::gated(form, n, width, f)
        },
        ..Op::default()
    })
}

/// `f(x)`
pub fn activation(
    tape: &Tape,
    form: &Form,
    x: &Node,
    f: Activation,
    [n, width]: [usize; 2],
) -> Node {
    tape.run(Op {
        name: "activation",
        out: form.of(n, width),
        inputs: vec![(x, Some(How::Fresh))],
        keeps: vec![x],
        needs: if form.fused {
            Needs::default()
        } else {
            composed::activation(form, n, width, f)
        },
        ..Op::default()
    })
}

/// `a + b`
pub fn add(tape: &Tape, form: &Form, [a, b]: [&Node; 2], n: usize, width: usize) -> Node {
    let how = Some(How::Shared);
    tape.run(Op {
        name: "add",
        out: form.of(n, width),
        inputs: vec![(a, how), (b, how)],
        ..Op::default()
    })
}

/// `scale · x`
pub fn scale(tape: &Tape, form: &Form, x: &Node, n: usize, width: usize) -> Node {
    tape.run(Op {
        name: "scale",
        out: form.of(n, width),
        inputs: vec![(x, Some(How::Fresh))],
        needs: composed::scale(form, n, width),
        ..Op::default()
    })
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
    shape: [usize; 2],
) -> Node {
    let [_, vocabulary] = shape;
    let all: Vec<&Node> = [hidden, head].into_iter().chain(bias).collect();
    let (mut needs, mut statistics) = if form.fused {
        (Needs::default(), 0)
    } else {
        // The logarithm of the sum, the target's logit and place, and the columns of a bias.
        let columns = if form.size == 4 { 3 } else { 1 };
        let of_bias = bias.map_or(0, |_| form.of(columns, vocabulary));
        (
            composed::token_log_probs(form, m, shape, bias.is_some()),
            form.statistics(m, 2) + of_bias,
        )
    };
    if form.fused {
        let each = (CHUNK / vocabulary.max(1)).clamp(1, m.max(1));
        needs = fused::linear(form, each, shape, [head.wanted(), false]);
        if tape.wants(&all) && m * vocabulary <= KEPT {
            statistics = form.of(m, vocabulary) + form.of(m, 2)
        } else {
            needs.forward += form.of(each, vocabulary);
            needs.backward += form.of(each, vocabulary);
        }
    }
    let of_bias = if form.fused { How::InPlace } else { How::Fresh };
    let mut inputs = vec![(head, Some(How::InPlace))];
    inputs.extend(bias.map(|bias| (bias, Some(of_bias))));
    inputs.push((hidden, Some(How::Fresh)));
    tape.run(Op {
        name: "token_log_probs",
        out: form.statistics(m, 1),
        inputs,
        together: form.fused,
        keeps: vec![hidden],
        statistics,
        needs,
        ..Op::default()
    })
}

/// A column `[m, 1]` as a list.
pub fn flat(tape: &Tape, x: &Node) -> Node {
    tape.run(Op {
        name: "squeeze",
        inputs: vec![(x, Some(How::Shared))],
        ..Op::default()
    })
}
