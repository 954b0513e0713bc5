//! [`cross_entropy`](super::cross_entropy) by candle's graph.

use candle_core::D;

use super::super::Teacher;
use super::super::plain::{log_softmax, logits};
use crate::error::Result;
use crate::llm::tensor::ops::plain::by_graph;
use crate::llm::tensor::tape::{Node, Tape};

/// `cross_entropy`
pub fn cross_entropy(
    tape: &Tape,
    hidden: &Node,
    head: &Node,
    bias: Option<&Node>,
    teacher: &Teacher,
) -> Result<Node> {
    let mut inputs = vec![hidden, head];
    inputs.extend(bias);
    let theirs = logits(&teacher.hidden, &teacher.head, teacher.bias.as_ref())?;
    let q = log_softmax(&theirs)?.exp()?;
    by_graph(tape, &inputs, |t| {
        let log_probs = log_softmax(&logits(&t[0], &t[1], t.get(2))?)?;
        (&q * log_probs)?.sum(D::Minus1)?.neg()
    })
}
