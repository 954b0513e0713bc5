//! Gradient descent.

use candle_core::{DType, Tensor};
use rayon::prelude::*;

use super::{CHUNK, PIECE, check_number, is_coarse, pieces, refuse_precision, updates};
use crate::error::Result;
use crate::llm::tensor::ops::float::Float;
use crate::llm::tensor::ops::slice::{Slice, modify};
use crate::llm::tensor::parameters::Parameters;
use crate::llm::tensor::tape::LeafGradients;

/// `θ ← θ − lr · gradient_scale · g`
///
/// # Errors
/// A rate or scale that is negative or not finite; parameters in bf16 or f16, which would not move
/// by small steps; a failing device.
pub fn sgd(
    parameters: &Parameters,
    gradients: &LeafGradients,
    lr: f64,
    gradient_scale: f64,
) -> Result<()> {
    check_number("learning rate", lr)?;
    check_number("gradient scale", gradient_scale)?;
    if is_coarse(parameters.dtype()) {
        let remedy = "descend in f32 or f64, or use AdamW, which keeps f32 master weights";
        return Err(refuse_precision(parameters.dtype(), remedy));
    }
    let rate = lr * gradient_scale;
    for (_, parameter, gradient) in updates(parameters, gradients) {
        let (theta, gradient) = (&parameter.tensor, gradient.contiguous()?);
        match (theta.device().is_cpu(), theta.dtype()) {
            (true, DType::F32) => descend::<f32>(theta, &gradient, rate)?,
            (true, DType::F64) => descend::<f64>(theta, &gradient, rate)?,
            _ => composed(theta, &gradient, rate)?,
        }
    }
    Ok(())
}

fn composed(theta: &Tensor, gradient: &Tensor, rate: f64) -> Result<()> {
    let (theta, gradient) = (theta.flatten_all()?, gradient.flatten_all()?);
    for range in pieces(theta.elem_count(), PIECE) {
        let part = |t: &Tensor| t.narrow(0, range.start, range.len());
        let moved = (part(&theta)? - (part(&gradient)? * rate)?)?;
        theta.slice_set(&moved, 0, range.start)?;
    }
    Ok(())
}

fn descend<T: Float>(theta: &Tensor, gradient: &Tensor, rate: f64) -> Result<()> {
    let gradient = Slice::<T>::new(gradient)?;
    let rate = T::of(rate);
    let each = |p: &mut [T], g: &[T]| p.iter_mut().zip(g).for_each(|(p, &g)| *p -= rate * g);
    modify(theta, |p: &mut [T]| {
        if p.len() <= CHUNK {
            each(p, &gradient)
        } else {
            (p.par_chunks_mut(CHUNK))
                .zip(gradient.par_chunks(CHUNK))
                .for_each(|(p, g)| each(p, g))
        }
    })
}
