//! [`layer_norm`](super::layer_norm) by candle's graph.

use candle_core::D;

use crate::error::Result;
use crate::llm::tensor::ops::plain::by_graph;
use crate::llm::tensor::tape::{Node, Tape};

/// `layer_norm`
pub fn layer_norm(tape: &Tape, x: &Node, weight: &Node, bias: &Node, epsilon: f64) -> Result<Node> {
    by_graph(tape, &[x, weight, bias], |t| {
        let x = t[0].reshape(((), t[1].dim(0)?))?;
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        let unit = centred.broadcast_div(&(variance + epsilon)?.sqrt()?)?;
        let out = unit.broadcast_mul(&t[1])?.broadcast_add(&t[2])?;
        out.reshape(t[0].shape())
    })
}
