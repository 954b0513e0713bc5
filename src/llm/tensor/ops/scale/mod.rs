//! Multiples.

mod composed;
mod plain;

use std::rc::Rc;

use candle_core::Tensor;

use super::needs::count;
use super::{Bound, Case, Cost, Entry, Form, How, Input, Memory, Needs, Operation, Shapes};
use crate::error::Result;
use crate::llm::tensor::tape::{Node, Tape};

/// `scale · x`.
///
/// # Errors
/// A failing device.
pub fn scale(tape: &Tape, x: &Node, scale: f64) -> Result<Node> {
    composed::scale(tape, x, scale)
}

pub(super) const ENTRY: Entry = Entry {
    folder: "scale",
    functions: &["scale"],
    cases,
};

/// Its shapes.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// N
    pub rows: usize,
    /// D
    pub width: usize,
    /// What is multiplied by.
    pub factor: f64,
}

fn cases(shapes: &Shapes) -> Vec<Case> {
    let call = Call {
        rows: shapes.rows,
        width: shapes.width,
        factor: 0.3,
    };
    vec![("scale", Rc::new(call))]
}

impl Operation for Call {
    fn function(&self) -> &'static str {
        "scale"
    }

    fn inputs(&self) -> Vec<Input> {
        vec![Input::new("x", &self.output(), 1.0)]
    }

    fn output(&self) -> Vec<usize> {
        vec![self.rows, self.width]
    }

    fn run(&self, tape: &Tape, x: &[Node], _: &[Tensor]) -> Result<Node> {
        scale(tape, &x[0], self.factor)
    }

    fn twin(&self, tape: &Tape, x: &[Node], _: &[Tensor]) -> Result<Node> {
        plain::scale(tape, &x[0], self.factor)
    }

    fn cost(&self) -> [Cost; 2] {
        [Cost::new(0, 2 * self.rows * self.width); 2]
    }

    /// The factor is rounded too.
    fn bounds(&self) -> Vec<Bound> {
        vec![Bound::new(2, 0, &[], 0); 2]
    }

    fn memory(&self, form: &Form, _: &[bool]) -> Memory {
        let all = 2 * form.widened() * count(self.rows, self.width);
        Memory {
            out: form.of(self.rows, self.width),
            gradients: vec![(0, How::Fresh)],
            needs: Needs {
                forward: all,
                backward: all,
                ..Needs::default()
            },
            ..Memory::default()
        }
    }
}
