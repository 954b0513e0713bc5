//! The gradient's length, and clipping by it.

use candle_core::{DType, Tensor};
use rayon::prelude::*;

use super::CHUNK;
use crate::error::Result;
use crate::llm::ops::float::Float;
use crate::llm::ops::simd::{sum, vectorised};
use crate::llm::ops::slice::Slice;
use crate::llm::parameters::Parameters;
use crate::llm::tape::LeafGradients;

/// `√Σg²` over all parameters, summed in f64, in the same order for any number of threads.
///
/// # Errors
/// A failing device.
pub fn gradient_norm(parameters: &Parameters, gradients: &LeafGradients) -> Result<f64> {
    let mut sum = 0.0;
    for (_, _, gradient) in super::updates(parameters, gradients) {
        sum += square(gradient)?;
    }
    Ok(sum.sqrt())
}

/// What gradients of that norm are multiplied by so that it is at most `max`:
/// `min(1, max / (norm + 1e-6))`, as PyTorch's `clip_grad_norm_`.
pub fn clip(norm: f64, max: f64) -> f64 {
    (max / (norm + 1e-6)).min(1.0)
}

fn square(gradient: &Tensor) -> Result<f64> {
    let gradient = gradient.contiguous()?;
    match (gradient.device().is_cpu(), gradient.dtype()) {
        (true, DType::F32) => Ok(sum_of_squares::<f32>(&Slice::new(&gradient)?)),
        (true, DType::F64) => Ok(sum_of_squares::<f64>(&Slice::new(&gradient)?)),
        _ => {
            let square = gradient.to_dtype(DType::F64)?.sqr()?.sum_all()?;
            Ok(square.to_scalar()?)
        }
    }
}

fn sum_of_squares<T: Float>(numbers: &[T]) -> f64 {
    if numbers.len() <= CHUNK {
        return chunk(numbers);
    }
    let sums: Vec<f64> = numbers.par_chunks(CHUNK).map(chunk).collect();
    sums.iter().sum()
}

fn chunk<T: Float>(numbers: &[T]) -> f64 {
    vectorised(
        #[inline(always)]
        || sum(numbers, numbers, |x, _| x.wide() * x.wide()),
    )
}
