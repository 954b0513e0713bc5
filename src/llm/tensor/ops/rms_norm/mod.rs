//! Normalisation by the root of the mean square.

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

/// `x / √(mean x² + ε) · (w + offset)` of every run of as many numbers as `w` has: `[N, k · D]`, `[D]` → `[N, k · D]`,
/// with k = 1 over the last axis; offset 1 for Gemma.
///
/// # Errors
/// Shapes that do not fit.
pub fn rms_norm(tape: &Tape, x: &Node, weight: &Node, epsilon: f64, offset: f64) -> Result<Node> {
    on_cpu!(
        x,
        cpu::rms_norm,
        composed::rms_norm,
        (tape, x, weight, epsilon, offset)
    )
}

pub(super) const ENTRY: Entry = Entry {
    folder: "rms_norm",
    functions: &["rms_norm"],
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
    /// What is added to weights.
    pub offset: f64,
}

fn cases(shapes: &Shapes) -> Vec<Case> {
    let case = |runs, width, offset| {
        Rc::new(Call {
            rows: shapes.rows,
            runs,
            width,
            offset,
        })
    };
    vec![
        ("rms_norm", case(1, shapes.width, 0.0)),
        ("rms_norm, offset 1", case(1, shapes.width, 1.0)),
        ("rms_norm of each head", case(4, 48, 0.0)),
    ]
}

impl Operation for Call {
    fn function(&self) -> &'static str {
        "rms_norm"
    }

    fn inputs(&self) -> Vec<Input> {
        vec![
            Input::new("x", &[self.rows, self.runs * self.width], 1.0),
            Input::new("weight", &[self.width], 1.0),
        ]
    }

    fn output(&self) -> Vec<usize> {
        vec![self.rows, self.runs * self.width]
    }

    fn run(&self, tape: &Tape, x: &[Node], _: &[Tensor]) -> Result<Node> {
        rms_norm(tape, &x[0], &x[1], EPSILON, self.offset)
    }

    fn twin(&self, tape: &Tape, x: &[Node], _: &[Tensor]) -> Result<Node> {
        plain::rms_norm(tape, &x[0], &x[1], EPSILON, self.offset)
    }

    fn cost(&self) -> [Cost; 2] {
        let (n, width) = (self.rows * self.runs * self.width, self.width);
        [Cost::new(0, 2 * n + width), Cost::new(0, 3 * n + 2 * width)]
    }

    fn bounds(&self) -> Vec<Bound> {
        let (new, width, rows) = (Bound::new, self.width, self.rows * self.runs);
        vec![
            new(1, 8, &[width], 0),
            new(1, 16, &[width, width], 0),
            new(1, 8, &[width, rows], 0),
        ]
    }

    fn memory(&self, form: &Form, _: &[bool]) -> Memory {
        let (n, width) = (self.rows * self.runs, self.width);
        Memory {
            out: form.of(n, width),
            gradients: (0..2).map(|input| (input, How::Fresh)).collect(),
            keeps: vec![0],
            statistics: form.statistics(n, 1) + form.statistics(1, width),
            needs: norms::needs(form, n, width, 1, false),
            ..Memory::default()
        }
    }
}
