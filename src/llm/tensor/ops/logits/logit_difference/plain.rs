//! [`logit_difference`](super::logit_difference) by candle's graph.

use candle_core::D;

use super::super::Teacher;
use super::super::plain::logits;
use crate::error::Result;
use crate::llm::tensor::ops::plain::by_graph;
use crate::llm::tensor::tape::{Node, Tape};

/// `logit_difference`
pub fn logit_difference(
    tape: &Tape,
    hidden: &Node,
    head: &Node,
    bias: Option<&Node>,
    teacher: &Teacher,
) -> Result<Node> {
    let mut inputs = vec![hidden, head];
    inputs.extend(bias);
    let theirs = logits(&teacher.hidden, &teacher.head, teacher.bias.as_ref())?;
    by_graph(tape, &inputs, |t| {
        let difference = (logits(&t[0], &t[1], t.get(2))? - &theirs)?;
        difference.sqr()?.sum(D::Minus1)
    })
}
