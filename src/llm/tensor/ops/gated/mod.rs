//! Nonlinearities that gate.

pub(super) mod composed;
mod cpu;
pub(super) mod plain;

use std::rc::Rc;

use candle_core::Tensor;

use super::kernel::on_cpu;
use super::needs::count;
use super::{
    Activation, Bound, Case, Cost, Entry, Form, How, Input, Memory, Needs, Operation, Shapes,
};
use crate::error::Result;
use crate::llm::tensor::tape::{Node, Tape};

/// `f(gate) · up`.
///
/// # Errors
/// Shapes that do not fit.
pub fn gated(tape: &Tape, gate: &Node, up: &Node, f: Activation) -> Result<Node> {
    on_cpu!(gate, cpu::gated, composed::gated, (tape, gate, up, f))
}

pub(super) const ENTRY: Entry = Entry {
    folder: "gated",
    functions: &["gated"],
    cases,
};

/// Its shapes.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// N
    pub rows: usize,
    /// D
    pub width: usize,
    /// The nonlinearity.
    pub f: Activation,
}

fn cases(shapes: &Shapes) -> Vec<Case> {
    let (rows, width) = (shapes.rows, shapes.width);
    let case = |f| Rc::new(Call { rows, width, f });
    vec![
        ("gated, relu", case(Activation::Relu)),
        ("gated, silu", case(Activation::Silu)),
        ("gated, gelu", case(Activation::Gelu)),
        ("gated, gelu_tanh", case(Activation::GeluTanh)),
    ]
}

impl Operation for Call {
    fn function(&self) -> &'static str {
        "gated"
    }

    fn inputs(&self) -> Vec<Input> {
        vec![
            Input::new("gate", &self.output(), 1.0),
            Input::new("up", &self.output(), 1.0),
        ]
    }

    fn output(&self) -> Vec<usize> {
        vec![self.rows, self.width]
    }

    fn run(&self, tape: &Tape, x: &[Node], _: &[Tensor]) -> Result<Node> {
        gated(tape, &x[0], &x[1], self.f)
    }

    fn twin(&self, tape: &Tape, x: &[Node], _: &[Tensor]) -> Result<Node> {
        plain::gated(tape, &x[0], &x[1], self.f)
    }

    fn cost(&self) -> [Cost; 2] {
        let n = self.rows * self.width;
        [Cost::new(0, 3 * n), Cost::new(0, 5 * n)]
    }

    /// What is multiplied by, f(gate) or f′(gate), may be rounded first, as may be dy · up.
    fn bounds(&self) -> Vec<Bound> {
        let new = Bound::new;
        vec![new(2, 12, &[], 0), new(3, 24, &[], 0), new(2, 12, &[], 0)]
    }

    fn memory(&self, form: &Form, _: &[bool]) -> Memory {
        let needs = if form.fused {
            Needs::default()
        } else {
            let all = count(self.rows, self.width);
            let value = match self.f {
                Activation::Relu => form.size + 1,
                Activation::Silu => form.size,
                _ => form.size + 2 * form.widened(),
            };
            Needs {
                forward: value * all,
                before: self.f.slopes(form) * all,
                backward: 2 * form.size * all,
            }
        };
        Memory {
            out: form.of(self.rows, self.width),
            gradients: vec![(1, How::Fresh), (0, How::Fresh)],
            together: true,
            keeps: vec![0, 1],
            needs,
            ..Memory::default()
        }
    }
}
