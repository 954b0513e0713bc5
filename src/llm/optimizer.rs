//! AdamW and SGD on parameters in place.

mod adamw;
mod norm;
mod sgd;

pub use adamw::{AdamW, Config};
pub use norm::{clip, gradient_norm};
pub use sgd::sgd;

use candle_core::{DType, Tensor};

use super::parameters::{Parameter, Parameters};
use super::tape::LeafGradients;
use crate::error::{Error, Result};

/// Numbers changed by one task.
const CHUNK: usize = 1 << 14;

/// The trained parameters that have a gradient, with their index.
fn updates<'a>(
    parameters: &'a Parameters,
    gradients: &'a LeafGradients,
) -> impl Iterator<Item = (usize, &'a Parameter, &'a Tensor)> {
    (parameters.iter().enumerate())
        .filter(|(_, p)| p.trainable)
        .filter_map(|(i, p)| gradients.get(i).map(|g| (i, p, g)))
}

fn check_precision(parameters: &Parameters) -> Result<()> {
    match parameters.dtype() {
        DType::F32 | DType::F64 => Ok(()),
        other => Err(Error::invalid(
            "precision",
            format!("the parameters are {}", other.as_str()),
            "train in f32 or f64: an update below their resolution would be lost",
        )),
    }
}

fn check_number(place: &str, number: f64) -> Result<()> {
    if number.is_finite() && number >= 0.0 {
        return Ok(());
    }
    Err(Error::invalid(
        place,
        format!("it is {number}"),
        "give a finite number, at least 0",
    ))
}
