//! [`gated`](super::gated) composed.

use crate::error::Result;
use crate::llm::tensor::ops::Activation;
use crate::llm::tensor::ops::activation::composed::{apply, value_and_slope};
use crate::llm::tensor::ops::kernel::same_shape;
use crate::llm::tensor::tape::{Node, Tape};

/// Backward: `dgate = dy up f′(gate)`, `dup = dy f(gate)`. In bf16 f and
/// f′ are rounded before they are multiplied: two or three roundings in all.
pub fn gated(tape: &Tape, gate: &Node, up: &Node, f: Activation) -> Result<Node> {
    same_shape(gate.value(), up.value())?;
    let (g, u) = (gate.value().contiguous()?, up.value().contiguous()?);
    let out = (apply(&g, f)? * &u)?;
    Ok(tape.record(out, &[gate, up], || {
        let (gate, up) = (gate.target(), up.target());
        Box::new(move |gradient, sums| {
            let (value, slope) = value_and_slope(&g, f)?;
            if up.wanted() {
                sums.add(&up, (&gradient * value)?)?;
            }
            if gate.wanted() {
                sums.add(&gate, ((gradient * u)? * slope)?)
            } else {
                Ok(())
            }
        })
    }))
}
