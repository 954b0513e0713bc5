//! [`add`](super::add) by candle's graph.

use crate::error::Result;
use crate::llm::tensor::ops::plain::by_graph;
use crate::llm::tensor::tape::{Node, Tape};

/// `add`
pub fn add(tape: &Tape, a: &Node, b: &Node) -> Result<Node> {
    by_graph(tape, &[a, b], |t| &t[0] + &t[1])
}
