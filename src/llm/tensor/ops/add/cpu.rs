//! [`add`](super::add) and [`add_in_place`](super::add_in_place) on the CPU.

use candle_core::Tensor;

use crate::error::Result;
use crate::llm::tensor::ops::float::Float;
use crate::llm::tensor::ops::kernel::{same_shape, tensor};
use crate::llm::tensor::ops::memory::{TASK, parts};
use crate::llm::tensor::ops::pointwise::zip;
use crate::llm::tensor::ops::simd::add;
use crate::llm::tensor::ops::slice::{Slice, modify};

/// `a + b`.
///
/// # Errors
/// Shapes that differ.
pub fn sum<T: Float>(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    same_shape(a, b)?;
    tensor(
        zip::<T>(
            a,
            b,
            #[inline(always)]
            |a, b| a + b,
        )?,
        a.shape(),
    )
}

/// `sum += x`.
///
/// # Errors
/// Shapes that differ.
pub fn add_in_place<T: Float>(sum: &Tensor, x: &Tensor) -> Result<()> {
    same_shape(sum, x)?;
    let x = x.contiguous()?;
    let x = Slice::<T>::new(&x)?;
    modify(sum, |sum: &mut [T]| {
        parts(
            sum,
            TASK,
            #[inline(always)]
            |i, sum| add(sum, &x[i * TASK..]),
        );
    })
}
