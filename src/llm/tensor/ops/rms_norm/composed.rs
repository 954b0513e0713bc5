//! [`rms_norm`](super::rms_norm) composed.

use crate::error::Result;
use crate::llm::tensor::ops::composed::{sum_rows, wide};
use crate::llm::tensor::ops::kernel::runs;
use crate::llm::tensor::ops::norms::{mean_with, root};
use crate::llm::tensor::tape::{Node, Tape};

/// Backward, with `r = 1/√(mean x² + ε)`, `u = x r`, `w` the weight and its offset, and
/// `m = dy u`: `dx = r (dy w − u (m · w)/D)`, `dw = Σ m`. x and r are kept.
pub fn rms_norm(tape: &Tape, x: &Node, weight: &Node, epsilon: f64, offset: f64) -> Result<Node> {
    let width = weight.value().dims1()?;
    let shape = (runs("rms_norm", x.value(), width)?, width);
    let value = x.value().contiguous()?.reshape(shape)?;
    let wide_x = wide(&value)?;
    let r = root(&wide_x.sqr()?.mean_keepdim(1)?, epsilon)?;
    let w = (wide(weight.value())? + offset)?;
    let unit = wide_x.broadcast_mul(&r)?;
    drop(wide_x);
    let out = unit.broadcast_mul(&w)?.to_dtype(value.dtype())?;
    let out = out.reshape(x.value().shape())?;
    Ok(tape.record(out, &[x, weight], || {
        let (x, dtype) = (x.target(), weight.value().dtype());
        let weight = weight.target();
        Box::new(move |gradient, sums| {
            let unit = wide(&value)?.broadcast_mul(&r)?;
            let dy = wide(&gradient)?.contiguous()?.reshape(shape)?;
            let m = (&dy * &unit)?;
            if weight.wanted() {
                sums.add(&weight, sum_rows(&m)?.to_dtype(dtype)?)?;
            }
            if !x.wanted() {
                return Ok(());
            }
            let pull = mean_with(&m, &w)?;
            drop(m);
            let dx = (dy.broadcast_mul(&w)? - unit.broadcast_mul(&pull)?)?;
            let dx = dx.broadcast_mul(&r)?.to_dtype(value.dtype())?;
            let dx = dx.reshape(x.shape())?;
            sums.add(&x, dx)
        })
    }))
}
