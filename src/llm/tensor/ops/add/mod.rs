//! Sums.

pub(super) mod composed;
mod cpu;
mod plain;

use std::rc::Rc;

use candle_core::{DType, Tensor};

use super::kernel::precision;
use super::{Bound, Case, Cost, Entry, Form, How, Input, Memory, Operation, Shapes};
use crate::error::Result;
use crate::llm::tensor::tape::{Node, Tape};

/// `a + b`.
///
/// # Errors
/// Shapes that do not fit.
pub fn add(tape: &Tape, a: &Node, b: &Node) -> Result<Node> {
    let sum = match precision(a) {
        Some(DType::F32) => cpu::sum::<f32>(a.value(), b.value())?,
        Some(_) => cpu::sum::<f64>(a.value(), b.value())?,
        None => (a.value() + b.value())?,
    };
    Ok(tape.record(sum, &[a, b], || {
        let (a, b) = (a.target(), b.target());
        Box::new(move |gradient, sums| {
            sums.add_shared(&a, &gradient)?;
            sums.add_shared(&b, &gradient)
        })
    }))
}

/// `sum += x` for a contiguous sum; `x` may be of another precision.
///
/// # Errors
/// Shapes that differ.
pub fn add_in_place(sum: &Tensor, x: &Tensor) -> Result<()> {
    let fused = sum.device().is_cpu() && sum.dtype() == x.dtype();
    match (fused, sum.dtype()) {
        (true, DType::F32) => cpu::add_in_place::<f32>(sum, x),
        (true, DType::F64) => cpu::add_in_place::<f64>(sum, x),
        _ => composed::add_in_place(sum, x),
    }
}

pub(super) const ENTRY: Entry = Entry {
    folder: "add",
    functions: &["add"],
    cases,
};

/// Its shapes.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// N
    pub rows: usize,
    /// D
    pub width: usize,
}

fn cases(shapes: &Shapes) -> Vec<Case> {
    let (rows, width) = (shapes.rows, shapes.width);
    vec![("add", Rc::new(Call { rows, width }))]
}

impl Operation for Call {
    fn function(&self) -> &'static str {
        "add"
    }

    fn inputs(&self) -> Vec<Input> {
        vec![
            Input::new("a", &self.output(), 1.0),
            Input::new("b", &self.output(), 1.0),
        ]
    }

    fn output(&self) -> Vec<usize> {
        vec![self.rows, self.width]
    }

    fn run(&self, tape: &Tape, x: &[Node], _: &[Tensor]) -> Result<Node> {
        add(tape, &x[0], &x[1])
    }

    fn twin(&self, tape: &Tape, x: &[Node], _: &[Tensor]) -> Result<Node> {
        plain::add(tape, &x[0], &x[1])
    }

    /// The cotangent is handed on as it is.
    fn cost(&self) -> [Cost; 2] {
        [Cost::new(0, 3 * self.rows * self.width), Cost::new(0, 0)]
    }

    fn bounds(&self) -> Vec<Bound> {
        let new = Bound::new;
        vec![new(1, 0, &[], 0), new(0, 0, &[], 0), new(0, 0, &[], 0)]
    }

    fn memory(&self, form: &Form, _: &[bool]) -> Memory {
        Memory {
            out: form.of(self.rows, self.width),
            gradients: vec![(0, How::Shared), (1, How::Shared)],
            ..Memory::default()
        }
    }
}
