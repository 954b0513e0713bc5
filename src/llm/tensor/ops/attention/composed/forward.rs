//! Attention's value.

use candle_core::{Result as Candle, Tensor};

use super::{Block, Group, Parts, Plan};
use crate::error::Result;
use crate::llm::tensor::ops::composed::{
    augmented, column_count, columns, product, wide, with_ones,
};

/// A group's output `[Z, L · G, D]`, and `ln Σ exp` of its scores `[Z, L · G, 1]` in the precision
/// of statistics.
///
/// The scores are made twice: once for each row's largest, and once less that, inside the product,
/// so that what is rounded is near 0 where probabilities are large. A product is cheaper than
/// a pass over the scores.
pub fn forward(plan: &Plan, group: &Group, parts: &Parts) -> Result<(Tensor, Tensor)> {
    let (mut outs, mut lses) = (Vec::new(), Vec::new());
    for (from, size) in group.slices() {
        let parts = parts.slice(from, size)?;
        // What is taken off is of the scores' own precision.
        let dtype = parts.q.dtype();
        let keys = with_ones(&parts.k, column_count(dtype, dtype))?;
        let (mut out, mut lse) = (Vec::new(), Vec::new());
        for block in &group.blocks {
            let (o, l) = one(plan, group, &parts, &keys, block)?;
            out.push(o);
            lse.push(l);
        }
        outs.push(joined(out, 1)?);
        lses.push(joined(lse, 1)?);
    }
    Ok((joined(outs, 0)?, joined(lses, 0)?))
}

fn one(
    plan: &Plan,
    group: &Group,
    parts: &Parts,
    keys: &Tensor,
    block: &Block,
) -> Candle<(Tensor, Tensor)> {
    let share = group.share;
    let q = (parts.q).narrow(1, block.from * share, block.queries() * share)?;
    let k = parts.k.narrow(1, block.first, block.keys())?;
    let v = parts.v.narrow(1, block.first, block.keys())?;
    let scores = plan.masked(product(&q, &k.t()?)?, block, share)?;
    let top = scores.max_keepdim(2)?;
    drop(scores);
    let less = columns(&top.neg()?, q.dtype())?;
    let k = keys.narrow(1, block.first, block.keys())?;
    let shifted = product(&augmented(&q, &less)?, &k.t()?)?;
    let weights = plan.masked(shifted, block, share)?.exp()?;
    // Of the rounded weights: they add up to 1.
    let total = wide(&weights)?.sum_keepdim(2)?;
    let out = wide(&product(&weights, &v)?)?.broadcast_div(&total)?;
    let lse = (wide(&top)? + total.log()?)?;
    Ok((out.to_dtype(q.dtype())?, lse))
}

/// Tensors side by side.
pub fn joined(parts: Vec<Tensor>, axis: usize) -> Candle<Tensor> {
    match parts.as_slice() {
        [only] => Ok(only.clone()),
        _ => Tensor::cat(&parts, axis),
    }
}
