//! Facts of cross-entropy to a teacher.

use candle_core::Tensor;

use super::super::Compared;
use super::super::composed::LOGITS;
use super::super::cpu::CHUNK;
use super::{cross_entropy, plain};
use crate::error::Result;
use crate::llm::tensor::ops::{Bound, Case, Cost, Form, Input, Memory, Operation, Shapes};
use crate::llm::tensor::tape::{Node, Tape};

/// Its shapes.
#[derive(Debug, Clone, PartialEq)]
pub struct Call(pub Compared);

/// Every choice.
pub fn cases(shapes: &Shapes) -> Vec<Case> {
    let names = ["cross_entropy", "cross_entropy with bias, in chunks"];
    Compared::cases(names, shapes.width, Call)
}

impl Operation for Call {
    fn function(&self) -> &'static str {
        "cross_entropy"
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
        cross_entropy(tape, &x[0], &x[1], bias, &teacher)
    }

    fn twin(&self, tape: &Tape, x: &[Node], _: &[Tensor]) -> Result<Node> {
        let (bias, teacher) = self.0.split(x);
        plain::cross_entropy(tape, &x[0], &x[1], bias, &teacher)
    }

    fn cost(&self) -> [Cost; 2] {
        self.0.cost()
    }

    /// As of log-probabilities; the teacher's logits may be rounded too, and count twice in their softmax, and both's
    /// probabilities before their difference is.
    fn bounds(&self) -> Vec<Bound> {
        let Compared {
            rows,
            widths: [ours, theirs],
            vocabulary,
            bias,
        } = self.0;
        let (new, with) = (Bound::new, 2 * usize::from(bias));
        let gradient = |sum| new(5, 30 + with, &[ours, theirs, vocabulary, sum], 3);
        let mut list = vec![
            new(3, 24 + with, &[ours, theirs, vocabulary, vocabulary], 2),
            gradient(vocabulary),
            gradient(rows),
        ];
        list.extend(bias.then(|| gradient(rows)));
        list
    }

    fn memory(&self, form: &Form, wanted: &[bool]) -> Memory {
        self.0.memory(form, wanted, [CHUNK / 2, LOGITS / 2], true)
    }
}
