//! What every operation of [`llm::ops`](crate::llm::ops) makes, keeps and needs, in bytes: one
//! description each, of the kernels of the CPU and of what is composed elsewhere.

use super::machine::Machine;
use super::tape::{How, Node, Op, Tape};
use crate::llm::ops::memory::rows_per_task;
use crate::llm::ops::token_log_probs::{CHUNK, KEPT};

/// How numbers are computed.
#[derive(Debug, Clone, Copy)]
pub struct Form {
    /// Bytes of a number.
    pub size: u64,
    /// Whether by the kernels of the CPU.
    pub fused: bool,
    /// Where.
    pub machine: Machine,
}

impl Form {
    /// Bytes of a matrix.
    pub fn of(&self, rows: usize, width: usize) -> u64 {
        self.size * rows as u64 * width as u64
    }

    /// Bytes of numbers in f32, or in f64 if all is.
    fn wide(&self, rows: usize, width: usize) -> u64 {
        self.size.max(4) * rows as u64 * width as u64
    }

    /// What the matrix product of `[rows, inner]` and `[inner, columns]` packs, by gemm 0.19: of a
    /// right-hand side that does not lie as its kernels want it, as much as the last cache holds.
    fn product(&self, rows: usize, inner: usize, columns: usize, transposed: bool) -> u64 {
        if !self.machine.cpu {
            return 0;
        }
        // Its micro-kernels take so many rows; it packs where this pays.
        let kernel = 192 / self.size.max(4) as usize;
        let least = match transposed {
            true => 2 * kernel,
            false => 128 * kernel,
        };
        if rows <= least {
            return 0;
        }
        let depth = inner.div_ceil(inner.div_ceil(512).max(1));
        let packed = self.size.max(4) * depth as u64 * columns as u64;
        packed.min(self.machine.last_cache / 16 * 15)
    }

    /// The same, of a linear layer's three products: forward, and backward.
    fn linear(&self, n: usize, [i, o]: [usize; 2], trained: bool) -> [u64; 2] {
        let dx = self.product(i, o, n, false);
        let dw = match trained {
            true => self.product(i, n, o, true),
            false => 0,
        };
        [self.product(o, i, n, false), dx.max(dw)]
    }
}

/// `x Wᵀ + b`
pub fn linear(
    tape: &Tape,
    form: &Form,
    x: &Node,
    weight: &Node,
    bias: Option<&Node>,
    n: usize,
    [i, o]: [usize; 2],
) -> Node {
    let [forward, backward] = form.linear(n, [i, o], weight.wanted());
    let partial = match bias.is_some_and(Node::wanted) {
        true => form.of(n.div_ceil(rows_per_task(o)), o),
        false => 0,
    };
    let how = How::InPlace;
    let mut inputs = vec![(x, Some(how)), (weight, Some(how))];
    inputs.extend(bias.map(|bias| (bias, Some(How::Fresh))));
    tape.run(Op {
        name: "linear",
        out: form.of(n, o),
        inputs,
        keeps: weight.wanted().then_some(x).into_iter().collect(),
        forward,
        backward: backward.max(partial),
        ..Op::default()
    })
}

/// Rows of a table or of an activation.
pub fn rows(tape: &Tape, form: &Form, x: &Node, m: usize, width: usize) -> Node {
    tape.run(Op {
        name: "rows",
        out: form.of(m, width),
        inputs: vec![(x, Some(How::InPlace))],
        ..Op::default()
    })
}

/// `x / √(mean x² + ε) · w`
pub fn rms_norm(tape: &Tape, form: &Form, x: &Node, w: &Node, n: usize, width: usize) -> Node {
    let how = Some(How::Fresh);
    let partial = form.of(n.div_ceil(rows_per_task(width)), width);
    tape.run(Op {
        name: "rms_norm",
        out: form.of(n, width),
        inputs: vec![(x, how), (w, how)],
        keeps: vec![x],
        statistics: form.wide(n, 1) + form.of(1, width),
        backward: partial,
        ..Op::default()
    })
}

/// `(x − mean) / √(variance + ε) · w + b`
pub fn layer_norm(
    tape: &Tape,
    form: &Form,
    x: &Node,
    [w, b]: [&Node; 2],
    n: usize,
    width: usize,
) -> Node {
    let how = Some(How::Fresh);
    let partial = form.of(n.div_ceil(rows_per_task(width)), 2 * width);
    tape.run(Op {
        name: "layer_norm",
        out: form.of(n, width),
        inputs: vec![(x, how), (w, how), (b, how)],
        keeps: vec![x],
        statistics: form.wide(n, 2),
        backward: partial,
        ..Op::default()
    })
}

/// Rotary positions.
pub fn rope(tape: &Tape, form: &Form, x: &Node, n: usize, width: usize) -> Node {
    let positions = 8 * n as u64;
    tape.run(Op {
        name: "rope",
        out: form.of(n, width),
        inputs: vec![(x, Some(How::Fresh))],
        forward: positions,
        backward: positions,
        ..Op::default()
    })
}

/// Causal attention within `sequences` sequences of at most `longest` tokens, all `n` together.
pub fn attention(
    tape: &Tape,
    form: &Form,
    [q, k, v]: [&Node; 3],
    [heads, kv_heads, head_dim]: [usize; 3],
    [n, longest, sequences]: [usize; 3],
) -> Node {
    // A task has a key head of a sequence: its keys and values, as rows and as columns, a block of
    // scores, and in the backward two of gradients and two of scores.
    let tasks = form.machine.threads.min(kv_heads * sequences);
    let head = form.of(longest, head_dim);
    let scores = form.of((16_384 / longest.max(1)).clamp(16, 64), longest);
    let how = Some(How::Fresh);
    tape.run(Op {
        name: "attention",
        out: form.of(n, heads * head_dim),
        inputs: vec![(q, how), (k, how), (v, how)],
        keeps: vec![q, k, v],
        keeps_output: true,
        statistics: form.wide(n, heads),
        forward: tasks as u64 * (4 * head + scores),
        backward: tasks as u64 * (6 * head + 2 * scores),
        ..Op::default()
    })
}

/// `f(gate) · up`
pub fn gated(tape: &Tape, form: &Form, [gate, up]: [&Node; 2], n: usize, width: usize) -> Node {
    let how = Some(How::Fresh);
    tape.run(Op {
        name: "gated",
        out: form.of(n, width),
        inputs: vec![(gate, how), (up, how)],
        keeps: vec![gate, up],
        ..Op::default()
    })
}

/// `f(x)`
pub fn activation(tape: &Tape, form: &Form, x: &Node, n: usize, width: usize) -> Node {
    tape.run(Op {
        name: "activation",
        out: form.of(n, width),
        inputs: vec![(x, Some(How::Fresh))],
        keeps: vec![x],
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
        forward: 2 * form.of(o, i),
        ..Op::default()
    })
}

/// `ln softmax(h Wᵀ)` at each row's target.
pub fn token_log_probs(
    tape: &Tape,
    form: &Form,
    hidden: &Node,
    head: &Node,
    m: usize,
    [width, vocabulary]: [usize; 2],
) -> Node {
    let each = (CHUNK / vocabulary.max(1)).max(1).min(m);
    let chunk = form.of(each, vocabulary);
    let keep = tape.wants(&[hidden, head]) && m * vocabulary <= KEPT;
    let [forward, backward] = form.linear(each, [width, vocabulary], head.wanted());
    tape.run(Op {
        name: "token_log_probs",
        out: form.wide(m, 1),
        inputs: vec![(hidden, Some(How::Fresh)), (head, Some(How::InPlace))],
        keeps: vec![hidden],
        statistics: match keep {
            true => form.of(m, vocabulary) + form.of(m, 2),
            false => 0,
        },
        forward: if keep { 0 } else { chunk } + forward,
        backward: if keep { 0 } else { chunk } + backward,
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
