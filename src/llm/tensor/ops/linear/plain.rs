//! [`linear`](super::linear) by candle's graph.

use crate::error::Result;
use crate::llm::tensor::ops::plain::by_graph;
use crate::llm::tensor::tape::{Node, Tape};

/// `linear`
pub fn linear(tape: &Tape, x: &Node, weight: &Node, bias: Option<&Node>) -> Result<Node> {
    match bias {
        None => by_graph(tape, &[x, weight], |t| t[0].matmul(&t[1].t()?)),
        Some(bias) => by_graph(tape, &[x, weight, bias], |t| {
            t[0].matmul(&t[1].t()?)?.broadcast_add(&t[2])
        }),
    }
}
