//! AdamW and SGD on parameters in place.

mod adamw;
mod norm;
mod sgd;

pub use adamw::{AdamW, Config};
pub use norm::{Squares, clip, gradient_norm};
pub use sgd::sgd;

use std::ops::Range;

use candle_core::{DType, Tensor};

use super::parameters::{Parameter, Parameters};
use super::tape::LeafGradients;
use crate::error::{Error, Result};

/// Numbers changed by one task.
const CHUNK: usize = 1 << 14;

/// Numbers changed at once where a step is composed of a device's operations: it needs a few times
/// as many in f32 besides, however large a parameter is.
pub(crate) const PIECE: usize = 1 << 24;

/// Consecutive pieces of at most `size` that make `len`.
fn pieces(len: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    let size = size.max(1);
    (0..len.div_ceil(size)).map(move |i| i * size..len.min((i + 1) * size))
}

/// The trained parameters that have a gradient, with their index.
fn updates<'a>(
    parameters: &'a Parameters,
    gradients: &'a LeafGradients,
) -> impl Iterator<Item = (usize, &'a Parameter, &'a Tensor)> {
    (parameters.iter().enumerate())
        .filter(|(_, p)| p.trainable)
        .filter_map(|(i, p)| gradients.get(i).map(|g| (i, p, g)))
}

/// Whether weights of that precision are too coarse to be trained: of a step below half a unit in
/// their last place nothing would be left.
fn is_coarse(dtype: DType) -> bool {
    matches!(dtype, DType::BF16 | DType::F16)
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

fn refuse_precision(dtype: DType, remedy: &str) -> Error {
    let problem = format!("the parameters are {}", dtype.as_str());
    Error::invalid("precision", problem, remedy)
}

#[cfg(test)]
mod tests {
    use super::pieces;

    #[test]
    fn pieces_make_the_whole() {
        let ends = |len, size| pieces(len, size).map(|r| (r.start, r.end)).collect();
        for (len, size, wanted) in [
            (0, 4, vec![]),
            (4, 4, vec![(0, 4)]),
            (9, 4, vec![(0, 4), (4, 8), (8, 9)]),
        ] {
            let found: Vec<_> = ends(len, size);
            assert_eq!(found, wanted);
        }
    }
}
