//! [`layer_norm`](super::layer_norm) composed.

use crate::error::Result;
use crate::llm::tensor::ops::composed::{sum_rows, wide};
use crate::llm::tensor::ops::kernel::{runs, same};
use crate::llm::tensor::ops::norms::{mean_with, root};
use crate::llm::tensor::tape::{Node, Tape};

/// Backward, with `u = (x − mean) r`, `r = 1/√(variance + ε)` and `m = dy u`:
/// `dx = r (dy w − (dy · w)/D − u (m · w)/D)`, `dw = Σ m`, `db = Σ dy`. x, the mean and r are kept.
pub fn layer_norm(tape: &Tape, x: &Node, weight: &Node, bias: &Node, epsilon: f64) -> Result<Node> {
    let width = weight.value().dims1()?;
    let shape = (runs("layer_norm", x.value(), width)?, width);
    same("layer_norm", width, bias.value().dims1()?)?;
    let value = x.value().contiguous()?.reshape(shape)?;
    let wide_x = wide(&value)?;
    let mean = wide_x.mean_keepdim(1)?;
    let centred = wide_x.broadcast_sub(&mean)?;
    drop(wide_x);
    let r = root(&centred.sqr()?.mean_keepdim(1)?, epsilon)?;
    let w = wide(weight.value())?;
    let unit = centred.broadcast_mul(&r)?;
    drop(centred);
    let out = unit.broadcast_mul(&w)?;
    let out = out.broadcast_add(&wide(bias.value())?)?;
    let out = out.to_dtype(value.dtype())?.reshape(x.value().shape())?;
    Ok(tape.record(out, &[x, weight, bias], || {
        let dtypes = [weight, bias].map(|node| node.value().dtype());
        let (x, weight, bias) = (x.target(), weight.target(), bias.target());
        Box::new(move |gradient, sums| {
            let unit = (wide(&value)?.broadcast_sub(&mean)?).broadcast_mul(&r)?;
            let dy = wide(&gradient)?.contiguous()?.reshape(shape)?;
            let m = (&dy * &unit)?;
            if weight.wanted() {
                sums.add(&weight, sum_rows(&m)?.to_dtype(dtypes[0])?)?;
            }
            if bias.wanted() {
                sums.add(&bias, sum_rows(&dy)?.to_dtype(dtypes[1])?)?;
            }
            if !x.wanted() {
                return Ok(());
            }
            let (level, pull) = (mean_with(&dy, &w)?, mean_with(&m, &w)?);
            drop(m);
            let away = unit.broadcast_mul(&pull)?.broadcast_add(&level)?;
            let dx = (dy.broadcast_mul(&w)? - away)?;
            let dx = dx.broadcast_mul(&r)?.to_dtype(value.dtype())?;
            let dx = dx.reshape(x.shape())?;
            sums.add(&x, dx)
        })
    }))
}
