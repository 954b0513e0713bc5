//! Pointwise loops that operations share: nonlinearities with their slopes, and what is done number by number.

use candle_core::Tensor;

use super::Activation;
use super::float::Float;
use super::kernel::same;
use super::memory::{TASK, parts, unwritten};
use super::simd;
use super::slice::Slice;
use crate::error::Result;

/// A nonlinearity's value and slope.
pub trait Function<T> {
    /// Both at x.
    fn at(x: T) -> (T, T);
}

/// `max(x, 0)`, slope 0 at 0; what is no number stays none.
pub struct Relu;

impl<T: Float> Function<T> for Relu {
    #[inline(always)]
    fn at(x: T) -> (T, T) {
        let zero = T::zero();
        (
            if x < zero { zero } else { x },
            if x > zero { T::one() } else { zero },
        )
    }
}

/// `x σ(x)`, slope `σ (1 + x (1 − σ))`.
pub struct Silu;

impl<T: Float> Function<T> for Silu {
    #[inline(always)]
    fn at(x: T) -> (T, T) {
        let one = T::one();
        let sigmoid = one / (one + (-x).exp());
        (x * sigmoid, sigmoid * (one + x * (one - sigmoid)))
    }
}

/// `x Φ(x)`, slope `Φ + x φ`.
pub struct Gelu;

impl<T: Float> Function<T> for Gelu {
    #[inline(always)]
    fn at(x: T) -> (T, T) {
        let n = T::of;
        let half = n(0.5);
        let cdf = half * (T::one() + (x * n(std::f64::consts::FRAC_1_SQRT_2)).erf());
        let density = (-half * x * x).exp()
            * n(0.5 * std::f64::consts::FRAC_2_SQRT_PI)
            * n(std::f64::consts::FRAC_1_SQRT_2);
        (x * cdf, cdf + x * density)
    }
}

/// `½x (1 + tanh u) = x σ(2u)` with `u = √(2/π) (x + 0.044715 x³)`.
pub struct GeluTanh;

impl<T: Float> Function<T> for GeluTanh {
    #[inline(always)]
    fn at(x: T) -> (T, T) {
        let n = T::of;
        let one = T::one();
        let twice = n(2.0 * (2.0 / std::f64::consts::PI).sqrt());
        let cubic = n(0.044715) * x * x;
        let sigmoid = one / (one + (-(twice * x * (one + cubic))).exp());
        let slope = twice * (one + n(3.0) * cubic);
        (x * sigmoid, sigmoid * (one + x * (one - sigmoid) * slope))
    }
}

/// `outᵢ ← f(xᵢ)`
pub fn activate<T: Float>(f: Activation, out: &mut [T], x: &[T]) {
    match f {
        Activation::Relu => fill(
            out,
            x,
            x,
            #[inline(always)]
            |x, _| Relu::at(x).0,
        ),
        Activation::Silu => fill(
            out,
            x,
            x,
            #[inline(always)]
            |x, _| Silu::at(x).0,
        ),
        Activation::Gelu => fill(
            out,
            x,
            x,
            #[inline(always)]
            |x, _| Gelu::at(x).0,
        ),
        Activation::GeluTanh => fill(
            out,
            x,
            x,
            #[inline(always)]
            |x, _| GeluTanh::at(x).0,
        ),
    }
}

/// `outᵢ ← f(gateᵢ) upᵢ`
pub fn gate<T: Float>(f: Activation, out: &mut [T], gate: &[T], up: &[T]) {
    match f {
        Activation::Relu => fill(
            out,
            gate,
            up,
            #[inline(always)]
            |g, u| Relu::at(g).0 * u,
        ),
        Activation::Silu => fill(
            out,
            gate,
            up,
            #[inline(always)]
            |g, u| Silu::at(g).0 * u,
        ),
        Activation::Gelu => fill(
            out,
            gate,
            up,
            #[inline(always)]
            |g, u| Gelu::at(g).0 * u,
        ),
        Activation::GeluTanh => fill(
            out,
            gate,
            up,
            #[inline(always)]
            |g, u| GeluTanh::at(g).0 * u,
        ),
    }
}

#[inline(always)]
fn fill<T: Float>(out: &mut [T], a: &[T], b: &[T], f: impl Fn(T, T) -> T) {
    simd::vectorised(
        #[inline(always)]
        || simd::map(out, a, b, f),
    );
}

/// `f(aᵢ, bᵢ)`
pub fn zip<T: Float>(a: &Tensor, b: &Tensor, f: impl Fn(T, T) -> T + Sync) -> Result<Vec<T>> {
    let (a, b) = (a.contiguous()?, b.contiguous()?);
    let (a, b) = (Slice::<T>::new(&a)?, Slice::<T>::new(&b)?);
    same("pointwise", a.len(), b.len())?;
    // SAFETY: the loop below writes every number.
    let mut out = unsafe { unwritten::<T>(a.len()) };
    parts(
        &mut out,
        TASK,
        #[inline(always)]
        |i, out| simd::map(out, &a[i * TASK..], &b[i * TASK..], &f),
    );
    Ok(out)
}
