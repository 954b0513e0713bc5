//! [`scale`](super::scale) on every device.

use crate::error::Result;
use crate::llm::tensor::ops::composed::scaled;
use crate::llm::tensor::tape::{Node, Tape};

/// Backward: `dx = scale · dy`.
pub fn scale(tape: &Tape, x: &Node, scale: f64) -> Result<Node> {
    let out = scaled(x.value(), scale)?;
    Ok(tape.record(out, &[x], || {
        let x = x.target();
        Box::new(move |gradient, sums| sums.add(&x, scaled(&gradient, scale)?))
    }))
}
