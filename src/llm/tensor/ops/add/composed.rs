//! [`add_in_place`](super::add_in_place) composed.

use candle_core::{DType, Tensor};

use crate::error::Result;
use crate::llm::tensor::ops::kernel::same_shape;

/// Numbers that [`add_in_place`] takes at once.
const PIECE: usize = 1 << 24;

/// `sum += x`, in the memory of `sum`, which is contiguous; `x` may be of another precision.
///
/// candle adds out of place only, but scatters in place: here every number goes to index 0 of an
/// axis of length 1. That reads and writes a number of `sum` once, where a sum and a copy of it
/// back would do so twice and take memory of its size.
pub fn add_in_place(sum: &Tensor, x: &Tensor) -> Result<()> {
    same_shape(sum, x)?;
    let count = sum.elem_count();
    let (flat, x) = (sum.reshape(count)?, x.contiguous()?.reshape(count)?);
    let index = Tensor::zeros((1, count.min(PIECE)), DType::U8, sum.device())?;
    for from in (0..count).step_by(PIECE) {
        let size = PIECE.min(count - from);
        let piece = |t: &Tensor| t.narrow(0, from, size)?.reshape((1, size));
        let x = piece(&x)?.to_dtype(sum.dtype())?;
        piece(&flat)?.scatter_add_set(&index.narrow(1, 0, size)?, &x, 0)?;
    }
    Ok(())
}
