//! [`rope`](super::rope) composed.

use candle_core::{Result as Candle, Tensor};

use super::Rope;
use super::cpu::check;
use super::turns::Turns;
use crate::error::Result;
use crate::llm::tensor::ops::Starts;
use crate::llm::tensor::ops::composed::wide;
use crate::llm::tensor::tape::{Node, Tape};

/// Backward: the rotation by the opposite angle. Nothing of `x` is kept.
pub fn rope(tape: &Tape, x: &Node, heads: usize, table: &Rope, starts: &Starts) -> Result<Node> {
    let [_, width] = check(x, heads, table, starts)?;
    let turns = starts
        .pack()
        .turns(starts, table, width / heads.max(1), x.value())?;
    let out = rotate(x.value(), &turns, false)?;
    Ok(tape.record(out, &[x], || {
        let x = x.target();
        Box::new(move |gradient, sums| sums.add(&x, rotate(&gradient, &turns, true)?))
    }))
}

/// `x cos + x̃ sin`, where x̃ has the two of every pair swapped and the first's sine its sign;
/// `x cos − x̃ sin` turns back.
fn rotate(x: &Tensor, turns: &Turns, back: bool) -> Candle<Tensor> {
    let (n, width) = x.dims2()?;
    let dim = turns.swap.elem_count();
    let heads = width / dim;
    let y = wide(x)?.reshape((n * heads, dim))?;
    let swapped = y.index_select(&turns.swap, 1)?;
    let by = |y: Tensor, factor: &Tensor| y.reshape((n, heads, dim))?.broadcast_mul(factor);
    let (y, swapped) = (by(y, &turns.cos)?, by(swapped, &turns.sin)?);
    let y = if back { y - swapped } else { y + swapped }?;
    y.to_dtype(x.dtype())?.reshape((n, width))
}
