//! [`gated`](super::gated) by candle's graph.

use crate::error::Result;
use crate::llm::tensor::ops::Activation;
use crate::llm::tensor::ops::activation::plain::apply;
use crate::llm::tensor::ops::plain::by_graph;
use crate::llm::tensor::tape::{Node, Tape};

/// `gated`
pub fn gated(tape: &Tape, gate: &Node, up: &Node, f: Activation) -> Result<Node> {
    by_graph(tape, &[gate, up], |t| apply(&t[0], f)? * &t[1])
}
