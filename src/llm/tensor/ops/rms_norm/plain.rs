//! [`rms_norm`](super::rms_norm) by candle's graph.

use candle_core::D;

use crate::error::Result;
use crate::llm::tensor::ops::plain::by_graph;
use crate::llm::tensor::tape::{Node, Tape};

/// `rms_norm`
pub fn rms_norm(tape: &Tape, x: &Node, weight: &Node, epsilon: f64, offset: f64) -> Result<Node> {
    by_graph(tape, &[x, weight], |t| {
        let x = t[0].reshape(((), t[1].dim(0)?))?;
        let square = x.sqr()?.mean_keepdim(D::Minus1)?;
        let unit = x.broadcast_div(&(square + epsilon)?.sqrt()?)?;
        unit.broadcast_mul(&(&t[1] + offset)?)?
            .reshape(t[0].shape())
    })
}
