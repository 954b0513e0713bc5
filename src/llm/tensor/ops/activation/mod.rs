//! Pointwise nonlinearities.

pub(super) mod composed;
mod cpu;
pub(super) mod plain;

use std::rc::Rc;

use candle_core::Tensor;

use super::kernel::on_cpu;
use super::needs::count;
use super::{Bound, Case, Cost, Entry, Form, How, Input, Memory, Needs, Operation, Shapes};
use crate::error::Result;
use crate::llm::tensor::tape::{Node, Tape};

/// A pointwise nonlinearity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activation {
    /// `max(x, 0)`, slope 0 at 0
    Relu,
    /// `x σ(x)`
    Silu,
    /// `x Φ(x)`
    Gelu,
    /// `½x (1 + tanh(√(2/π) (x + 0.044715 x³)))`
    GeluTanh,
}

impl Activation {
    /// Bytes of a number of which composed operations make slope and value together.
    pub(super) fn slopes(self, form: &Form) -> u64 {
        match self {
            // Both, and a byte that says whether it is above 0.
            Self::Relu => 2 * form.size + 1,
            Self::Silu => 4 * form.wide(),
            Self::Gelu => 4 * form.wide(),
            Self::GeluTanh => 7 * form.wide(),
        }
    }
}

/// `f(x)`.
///
/// # Errors
/// A failing device.
pub fn activation(tape: &Tape, x: &Node, f: Activation) -> Result<Node> {
    on_cpu!(x, cpu::activation, composed::activation, (tape, x, f))
}

pub(super) const ENTRY: Entry = Entry {
    folder: "activation",
    functions: &["activation"],
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
        ("activation, relu", case(Activation::Relu)),
        ("activation, silu", case(Activation::Silu)),
        ("activation, gelu", case(Activation::Gelu)),
        ("activation, gelu_tanh", case(Activation::GeluTanh)),
    ]
}

impl Operation for Call {
    fn function(&self) -> &'static str {
        "activation"
    }

    fn inputs(&self) -> Vec<Input> {
        vec![Input::new("x", &self.output(), 1.0)]
    }

    fn output(&self) -> Vec<usize> {
        vec![self.rows, self.width]
    }

    fn run(&self, tape: &Tape, x: &[Node], _: &[Tensor]) -> Result<Node> {
        activation(tape, &x[0], self.f)
    }

    fn twin(&self, tape: &Tape, x: &[Node], _: &[Tensor]) -> Result<Node> {
        plain::activation(tape, &x[0], self.f)
    }

    fn cost(&self) -> [Cost; 2] {
        let n = self.rows * self.width;
        [Cost::new(0, 2 * n), Cost::new(0, 3 * n)]
    }

    fn bounds(&self) -> Vec<Bound> {
        vec![Bound::new(1, 12, &[], 0), Bound::new(2, 24, &[], 0)]
    }

    fn memory(&self, form: &Form, _: &[bool]) -> Memory {
        let needs = if form.fused {
            Needs::default()
        } else {
            let all = count(self.rows, self.width);
            let value = match self.f {
                Activation::Relu => 1,
                _ => 2 * form.widened(),
            };
            Needs {
                forward: value * all,
                before: self.f.slopes(form) * all,
                backward: form.size * all,
            }
        };
        Memory {
            out: form.of(self.rows, self.width),
            gradients: vec![(0, How::Fresh)],
            keeps: vec![0],
            needs,
            ..Memory::default()
        }
    }
}
