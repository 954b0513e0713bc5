//! Normalisation by mean and variance.

pub(super) mod composed;
mod cpu;
pub(super) mod plain;

use std::rc::Rc;

use candle_core::Tensor;

use super::cases::EPSILON;
use super::kernel::on_cpu;
use super::{Bound, Case, Cost, Entry, Form, How, Input, Memory, Operation, Shapes, norms};
use crate::error::Result;
use crate::llm::tensor::tape::{Node, Tape};

pub(crate) use cpu::forward;

/// `(x − mean) / √(variance + ε) · w + b` of every run of as many numbers as `w` has: `[N, k · D]`, `[D]`, `[D]` →
/// `[N, k · D]`, with k = 1 over the last axis.
///
/// # Errors
/// Shapes that do not fit.
pub fn layer_norm(tape: &Tape, x: &Node, weight: &Node, bias: &Node, epsilon: f64) -> Result<Node> {
    on_cpu!(
        x,
        cpu::layer_norm,
        composed::layer_norm,
        (tape, x, weight, bias, epsilon)
    )
}

pub(super) const ENTRY: Entry = Entry {
    folder: "layer_norm",
    functions: &["layer_norm"],
    cases,
};

/// Its shapes.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// N
    pub rows: usize,
    /// Runs of each row.
    pub runs: usize,
    /// D
    pub width: usize,
}

fn cases(shapes: &Shapes) -> Vec<Case> {
    let rows = shapes.rows;
    let case = |runs, width| Rc::new(Call { rows, runs, width });
    vec![
        ("layer_norm", case(1, shapes.width)),
        ("layer_norm of each head", case(4, 48)),
    ]
}

impl Operation for Call {
    fn function(&self) -> &'static str {
        "layer_norm"
    }

    fn inputs(&self) -> Vec<Input> {
        vec![
            Input::new("x", &[self.rows, self.runs * self.width], 1.0),
            Input::new("weight", &[self.width], 1.0),
            Input::new("bias", &[self.width], 1.0),
        ]
    }

    fn output(&self) -> Vec<usize> {
        vec![self.rows, self.runs * self.width]
    }

    fn run(&self, tape: &Tape, x: &[Node], _: &[Tensor]) -> Result<Node> {
        layer_norm(tape, &x[0], &x[1], &x[2], EPSILON)
    }

    fn twin(&self, tape: &Tape, x: &[Node], _: &[Tensor]) -> Result<Node> {
        plain::layer_norm(tape, &x[0], &x[1], &x[2], EPSILON)
    }

    fn cost(&self) -> [Cost; 2] {
        let (n, width) = (self.rows * self.runs * self.width, self.width);
        [
            Cost::new(0, 2 * n + 2 * width),
            Cost::new(0, 3 * n + 3 * width),
        ]
    }

    fn bounds(&self) -> Vec<Bound> {
        let (new, width, rows) = (Bound::new, self.width, self.rows * self.runs);
        vec![
            new(1, 10, &[width, width], 0),
            new(1, 20, &[width, width, width], 0),
            new(1, 10, &[width, width, rows], 0),
            new(1, 0, &[rows], 0),
        ]
    }

    fn memory(&self, form: &Form, _: &[bool]) -> Memory {
        let (n, width) = (self.rows * self.runs, self.width);
        Memory {
            out: form.of(n, width),
            gradients: (0..3).map(|input| (input, How::Fresh)).collect(),
            keeps: vec![0],
            statistics: form.statistics(n, 2),
            needs: norms::needs(form, n, width, 2, true),
            ..Memory::default()
        }
    }
}
