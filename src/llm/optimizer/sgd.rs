//! Gradient descent.

use candle_core::{DType, Tensor};
use rayon::prelude::*;

use super::{CHUNK, check_number, check_precision, updates};
use crate::error::Result;
use crate::llm::ops::float::Float;
use crate::llm::ops::slice::{Slice, modify};
use crate::llm::parameters::Parameters;
use crate::llm::tape::LeafGradients;

/// `θ ← θ − lr · gradient_scale · g`
///
/// # Errors
/// A rate or scale that is negative or not finite, a precision other than f32 and f64, or a
/// failing device.
pub fn sgd(
    parameters: &Parameters,
    gradients: &LeafGradients,
    lr: f64,
    gradient_scale: f64,
) -> Result<()> {
    check_number("learning rate", lr)?;
    check_number("gradient scale", gradient_scale)?;
    check_precision(parameters)?;
    let rate = lr * gradient_scale;
    for (_, parameter, gradient) in updates(parameters, gradients) {
        let (theta, gradient) = (&parameter.tensor, gradient.contiguous()?);
        match (theta.device().is_cpu(), theta.dtype()) {
            (true, DType::F32) => descend::<f32>(theta, &gradient, rate)?,
            (true, DType::F64) => descend::<f64>(theta, &gradient, rate)?,
            _ => theta.slice_set(&(theta - (gradient * rate)?)?, 0, 0)?,
        }
    }
    Ok(())
}

fn descend<T: Float>(theta: &Tensor, gradient: &Tensor, rate: f64) -> Result<()> {
    let gradient = Slice::<T>::new(gradient)?;
    let rate = T::of(rate);
    let each = |p: &mut [T], g: &[T]| p.iter_mut().zip(g).for_each(|(p, &g)| *p -= rate * g);
    modify(theta, |p: &mut [T]| match p.len() <= CHUNK {
        true => each(p, &gradient),
        false => (p.par_chunks_mut(CHUNK))
            .zip(gradient.par_chunks(CHUNK))
            .for_each(|(p, g)| each(p, g)),
    })
}
