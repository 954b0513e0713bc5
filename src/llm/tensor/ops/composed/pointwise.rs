//! Pointwise operations composed.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, PI};

use candle_core::{DType, Result as Candle, Tensor};

use super::{scaled, wide};
use crate::error::Result;
use crate::llm::tensor::ops::Activation;
use crate::llm::tensor::ops::kernel::same_shape;
use crate::llm::tensor::tape::{Node, Tape};

/// [`super::super::activation`]. Backward: `dx = dy f′(x)`, where f′ is rounded first.
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

/// [`super::super::gated`]. Backward: `dgate = dy up f′(gate)`, `dup = dy f(gate)`. In bf16 f and
/// f′ are rounded before they are multiplied: two or three roundings in all.
pub fn gated(tape: &Tape, gate: &Node, up: &Node, f: Activation) -> Result<Node> {
    same_shape(gate.value(), up.value())?;
    let (g, u) = (gate.value().contiguous()?, up.value().contiguous()?);
    let out = (apply(&g, f)? * &u)?;
    Ok(tape.record(out, &[gate, up], || {
        let (gate, up) = (gate.target(), up.target());
        Box::new(move |gradient, sums| {
            let (value, slope) = value_and_slope(&g, f)?;
            if up.wanted() {
                sums.add(&up, (&gradient * value)?)?;
            }
            if gate.wanted() {
                sums.add(&gate, ((gradient * u)? * slope)?)
            } else {
                Ok(())
            }
        })
    }))
}

/// `f(x)`
fn apply(x: &Tensor, f: Activation) -> Candle<Tensor> {
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
fn value_and_slope(x: &Tensor, f: Activation) -> Candle<(Tensor, Tensor)> {
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

/// [`super::super::scale`]
pub fn scale(tape: &Tape, x: &Node, scale: f64) -> Result<Node> {
    let out = scaled(x.value(), scale)?;
    Ok(tape.record(out, &[x], || {
        let x = x.target();
        Box::new(move |gradient, sums| sums.add(&x, scaled(&gradient, scale)?))
    }))
}

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
