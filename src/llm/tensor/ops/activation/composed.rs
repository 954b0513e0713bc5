//! [`activation`](super::activation) composed.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, PI};

use candle_core::{Result as Candle, Tensor};

use super::Activation;
use crate::error::Result;
use crate::llm::tensor::ops::composed::wide;
use crate::llm::tensor::tape::{Node, Tape};

/// Backward: `dx = dy f′(x)`, where f′ is rounded first.
pub fn activation(tape: &Tape, x: &Node, f: Activation) -> Result<Node> {
    let value = x.value().contiguous()?;
    let out = apply(&value, f)?;
    Ok(tape.record(out, &[x], || {
        let x = x.target();
        Box::new(move |gradient, sums| {
            let (_, slope) = value_and_slope(&value, f)?;
            sums.add(&x, (gradient * slope)?)
        })
    }))
}

/// `f(x)`
pub fn apply(x: &Tensor, f: Activation) -> Candle<Tensor> {
    match f {
        // candle's own makes 0 of what is no number.
        Activation::Relu => {
            let zero = Tensor::zeros((), x.dtype(), x.device())?;
            x.lt(0.0)?.where_cond(&zero.broadcast_as(x.shape())?, x)
        }
        // candle's own is f32 inside, and rounds once.
        Activation::Silu => x.silu(),
        Activation::Gelu => wide(x)?.gelu_erf()?.to_dtype(x.dtype()),
        Activation::GeluTanh => wide(x)?.gelu()?.to_dtype(x.dtype()),
    }
}

/// `f(x)` and `f′(x)`, made in f32 and rounded once.
pub fn value_and_slope(x: &Tensor, f: Activation) -> Candle<(Tensor, Tensor)> {
    let dtype = x.dtype();
    let (value, slope) = match f {
        // Exact in every precision.
        Activation::Relu => (apply(x, f)?, x.gt(0.0)?.to_dtype(dtype)?),
        Activation::Silu => {
            let x = wide(x)?;
            // y = x σ, slope σ (1 + x (1 − σ)) = σ + y (1 − σ)
            let s = sigmoid(&x)?;
            let y = (x * &s)?;
            let slope = ((&y * s.affine(-1.0, 1.0)?)? + s)?;
            (y, slope)
        }
        Activation::Gelu => {
            let x = wide(x)?;
            // y = x Φ, slope Φ + x φ
            let cdf = ((&x * FRAC_1_SQRT_2)?.erf()? * 0.5)?;
            let cdf = (cdf + 0.5)?;
            let density = (x.sqr()? * -0.5)?.exp()?;
            let density = (density * (0.5 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2))?;
            let slope = (&cdf + (density * &x)?)?;
            ((cdf * x)?, slope)
        }
        Activation::GeluTanh => {
            let x = wide(x)?;
            // y = x σ(2u), slope σ + y (1 − σ) 2u′ with u = √(2/π) (x + 0.044715 x³)
            let twice = 2.0 * (2.0 / PI).sqrt();
            let square = x.sqr()?;
            let inner = (&x * square.affine(0.044715 * twice, twice)?)?;
            let s = sigmoid(&inner)?;
            let steep = square.affine(3.0 * 0.044715 * twice, twice)?;
            let y = (x * &s)?;
            let slope = (((&y * s.affine(-1.0, 1.0)?)? * steep)? + s)?;
            (y, slope)
        }
    };
    Ok((value.to_dtype(dtype)?, slope.to_dtype(dtype)?))
}

/// `1/(1 + e⁻ˣ)`
fn sigmoid(x: &Tensor) -> Candle<Tensor> {
    (x.neg()?.exp()? + 1.0)?.recip()
}
