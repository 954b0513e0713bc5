//! Facts of the squared difference to a teacher's logits.

use candle_core::Tensor;

use super::super::Compared;
use super::super::composed::LOGITS;
use super::super::cpu::CHUNK;
use super::{logit_difference, plain};
use crate::error::Result;
use crate::llm::tensor::ops::{Bound, Case, Cost, Form, Input, Memory, Operation, Shapes};
use crate::llm::tensor::tape::{Node, Tape};

/// Its shapes.
#[derive(Debug, Clone, PartialEq)]
pub struct Call(pub Compared);

/// Every choice.
pub fn cases(shapes: &Shapes) -> Vec<Case> {
    let names = ["logit_difference", "logit_difference with bias, in chunks"];
    Compared::cases(names, shapes.width, Call)
}

impl Operation for Call {
    fn function(&self) -> &'static str {
        "logit_difference"
    }

    fn inputs(&self) -> Vec<Input> {
        self.0.inputs()
    }

    fn output(&self) -> Vec<usize> {
        vec![self.0.rows]
    }

    fn gives_wide(&self) -> bool {
        true
    }

    fn run(&self, tape: &Tape, x: &[Node], _: &[Tensor]) -> Result<Node> {
        let (bias, teacher) = self.0.split(x);
        logit_difference(tape, &x[0], &x[1], bias, &teacher)
    }

    fn twin(&self, tape: &Tape, x: &[Node], _: &[Tensor]) -> Result<Node> {
        let (bias, teacher) = self.0.split(x);
        plain::logit_difference(tape, &x[0], &x[1], bias, &teacher)
    }

    fn cost(&self) -> [Cost; 2] {
        self.0.cost()
    }

    /// The difference may be rounded, and counts twice in its square; back also the factor of h.
    fn bounds(&self) -> Vec<Bound> {
        let Compared {
            rows,
            widths: [ours, theirs],
            vocabulary,
            bias,
        } = self.0;
        let (new, with) = (Bound::new, 2 * usize::from(bias));
        let gradient = |sum| new(3, 4 + with, &[ours, theirs, sum], 3);
        let sums = [ours, theirs, ours, theirs, vocabulary];
        let mut list = vec![
            new(2, 4 + 2 * with, &sums, 4),
            gradient(vocabulary),
            gradient(rows),
        ];
        list.extend(bias.then(|| gradient(rows)));
        list
    }

    fn memory(&self, form: &Form, wanted: &[bool]) -> Memory {
        self.0.memory(form, wanted, [CHUNK, LOGITS], false)
    }
}
