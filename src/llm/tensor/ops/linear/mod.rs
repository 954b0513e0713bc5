//! Affine maps.

pub(super) mod composed;
mod cpu;
pub(super) mod plain;

use std::rc::Rc;

use candle_core::Tensor;

use super::kernel::on_cpu;
use super::memory::rows_per_task;
use super::needs::count;
use super::{Bound, Case, Cost, Entry, Form, How, Input, Memory, Needs, Operation, Shapes};
use crate::error::Result;
use crate::llm::tensor::tape::{Node, Tape};

/// `x Wᵀ + b`: `[N, I]`, `[O, I]`, `[O]` → `[N, O]`.
///
/// # Errors
/// Shapes that do not fit.
pub fn linear(tape: &Tape, x: &Node, weight: &Node, bias: Option<&Node>) -> Result<Node> {
    on_cpu!(x, cpu::linear, composed::linear, (tape, x, weight, bias))
}

pub(super) const ENTRY: Entry = Entry {
    folder: "linear",
    functions: &["linear"],
    cases,
};

/// Its shapes.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// N
    pub rows: usize,
    /// I
    pub inputs: usize,
    /// O
    pub outputs: usize,
    /// Whether there is a b.
    pub bias: bool,
}

fn cases(shapes: &Shapes) -> Vec<Case> {
    let case = |rows, inputs, outputs, bias| {
        Rc::new(Call {
            rows,
            inputs,
            outputs,
            bias,
        })
    };
    let (rows, width) = (shapes.rows, shapes.width);
    vec![
        ("linear", case(rows, width, 91, false)),
        ("linear, long sums", case(256, 1024, 192, false)),
        ("linear with bias", case(rows, width, 131, true)),
    ]
}

/// Memory that the kernels need for products of that many rows.
pub(super) fn products(
    form: &Form,
    n: usize,
    [i, o]: [usize; 2],
    [trained, biased]: [bool; 2],
) -> Needs {
    let dx = form.packed([i, o, n], false);
    let dw = if trained {
        form.packed([i, n, o], true)
    } else {
        0
    };
    let db = if biased {
        form.of(n.div_ceil(rows_per_task(o)), o)
    } else {
        0
    };
    Needs {
        forward: form.packed([o, i, n], false),
        backward: dx.max(dw).max(db),
        ..Needs::default()
    }
}

impl Operation for Call {
    fn function(&self) -> &'static str {
        "linear"
    }

    fn inputs(&self) -> Vec<Input> {
        let root = (self.inputs as f64).sqrt().recip();
        let mut list = vec![
            Input::new("x", &[self.rows, self.inputs], 1.0),
            Input::new("weight", &[self.outputs, self.inputs], root),
        ];
        list.extend((self.bias).then(|| Input::new("bias", &[self.outputs], 1.0)));
        list
    }

    fn output(&self) -> Vec<usize> {
        vec![self.rows, self.outputs]
    }

    fn run(&self, tape: &Tape, x: &[Node], _: &[Tensor]) -> Result<Node> {
        linear(tape, &x[0], &x[1], x.get(2))
    }

    fn twin(&self, tape: &Tape, x: &[Node], _: &[Tensor]) -> Result<Node> {
        plain::linear(tape, &x[0], &x[1], x.get(2))
    }

    fn cost(&self) -> [Cost; 2] {
        let (n, i, o) = (self.rows, self.inputs, self.outputs);
        let all = n * i + o * i + n * o + if self.bias { o } else { 0 };
        [
            Cost::new(2 * n * i * o, all),
            Cost::new(4 * n * i * o, all + n * i + o * i),
        ]
    }

    fn bounds(&self) -> Vec<Bound> {
        let new = Bound::new;
        // With a bias the product may be rounded before it is added.
        let mut list = vec![
            new(1 + usize::from(self.bias), 1, &[self.inputs], 1),
            new(1, 0, &[self.outputs], 1),
            new(1, 0, &[self.rows], 1),
        ];
        list.extend((self.bias).then(|| new(1, 0, &[self.rows], 0)));
        list
    }

    fn memory(&self, form: &Form, wanted: &[bool]) -> Memory {
        let (n, i, o) = (self.rows, self.inputs, self.outputs);
        let trained = wanted[1];
        let (how, needs) = if form.fused {
            let biased = wanted.get(2).copied().unwrap_or(false);
            (How::InPlace, products(form, n, [i, o], [trained, biased]))
        } else {
            let all = form.product([count(n, i), count(o, i), count(n, o)]);
            let unbiased = if self.bias { form.of(n, o) } else { 0 };
            let needs = Needs {
                forward: all.max(unbiased),
                backward: all,
                ..Needs::default()
            };
            (How::Fresh, needs)
        };
        let mut gradients = vec![(0, how), (1, how)];
        gradients.extend(self.bias.then_some((2, How::Fresh)));
        Memory {
            out: form.of(n, o),
            gradients,
            keeps: trained.then_some(0).into_iter().collect(),
            needs,
            ..Memory::default()
        }
    }
}
