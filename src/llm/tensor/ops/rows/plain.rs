//! [`rows`](super::rows) by candle's graph.

use std::rc::Rc;

use candle_core::Tensor;

use crate::error::Result;
use crate::llm::tensor::ops::plain::by_graph;
use crate::llm::tensor::tape::{Node, Tape};

/// `rows`
pub fn rows(tape: &Tape, x: &Node, rows: &Rc<[u32]>) -> Result<Node> {
    let index = Tensor::from_slice(rows, rows.len(), x.value().device())?;
    by_graph(tape, &[x], |t| t[0].index_select(&index, 0))
}
