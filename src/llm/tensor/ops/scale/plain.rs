//! [`scale`](super::scale) by candle's graph.

use crate::error::Result;
use crate::llm::tensor::ops::plain::by_graph;
use crate::llm::tensor::tape::{Node, Tape};

/// `scale`
pub fn scale(tape: &Tape, x: &Node, scale: f64) -> Result<Node> {
    by_graph(tape, &[x], |t| &t[0] * scale)
}
