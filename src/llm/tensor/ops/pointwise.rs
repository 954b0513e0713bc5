//! [`super::activation`], [`super::gated`] and [`super::add`] on the CPU.

use candle_core::Tensor;

use super::Activation;
use super::float::Float;
use super::kernel::{same, same_shape, tensor};
use super::memory::{TASK, parts, parts2, unwritten};
use super::simd::{self, add};
use super::slice::{Slice, modify};
use crate::error::Result;
use crate::llm::tensor::tape::{Node, Tape};

/// A nonlinearity's value and slope.
trait Function<T> {
    fn at(x: T) -> (T, T);
}

/// `max(x, 0)`, slope 0 at 0; what is no number stays none.
struct Relu;

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
struct Silu;

impl<T: Float> Function<T> for Silu {
    #[inline(always)]
    fn at(x: T) -> (T, T) {
        let one = T::one();
        let sigmoid = one / (one + (-x).exp());
        (x * sigmoid, sigmoid * (one + x * (one - sigmoid)))
    }
}

/// `x Φ(x)`, slope `Φ + x φ`.
struct Gelu;

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
struct GeluTanh;

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

/// Backward: `dx = dy f′(x)`.
pub fn activation<T: Float>(tape: &Tape, x: &Node, f: Activation) -> Result<Node> {
    match f {
        Activation::Relu => map::<T, Relu>(tape, x),
        Activation::Silu => map::<T, Silu>(tape, x),
        Activation::Gelu => map::<T, Gelu>(tape, x),
        Activation::GeluTanh => map::<T, GeluTanh>(tape, x),
    }
}

/// Backward: `dgate = dy up f′(gate)`, `dup = dy f(gate)`.
pub fn gated<T: Float>(tape: &Tape, gate: &Node, up: &Node, f: Activation) -> Result<Node> {
    match f {
        Activation::Relu => gate_by::<T, Relu>(tape, gate, up),
        Activation::Silu => gate_by::<T, Silu>(tape, gate, up),
        Activation::Gelu => gate_by::<T, Gelu>(tape, gate, up),
        Activation::GeluTanh => gate_by::<T, GeluTanh>(tape, gate, up),
    }
}

fn map<T: Float, F: Function<T>>(tape: &Tape, x: &Node) -> Result<Node> {
    let value = x.value().contiguous()?;
    let shape = value.shape().clone();
    let out = zip::<T>(
        &value,
        &value,
        #[inline(always)]
        |x, _| F::at(x).0,
    )?;
    Ok(tape.record(tensor(out, shape.clone())?, &[x], || {
        let x = x.target();
        Box::new(move |gradient, sums| {
            let dx = zip::<T>(
                &value,
                &gradient,
                #[inline(always)]
                |x, dy| dy * F::at(x).1,
            )?;
            sums.add(&x, tensor(dx, shape)?)
        })
    }))
}

fn gate_by<T: Float, F: Function<T>>(tape: &Tape, gate: &Node, up: &Node) -> Result<Node> {
    same_shape(gate.value(), up.value())?;
    let (g, u) = (gate.value().contiguous()?, up.value().contiguous()?);
    let shape = g.shape().clone();
    let out = zip::<T>(
        &g,
        &u,
        #[inline(always)]
        |g, u| F::at(g).0 * u,
    )?;
    Ok(tape.record(tensor(out, shape.clone())?, &[gate, up], || {
        let (gate, up) = (gate.target(), up.target());
        Box::new(move |gradient, sums| {
            let gradient = gradient.contiguous()?;
            let dy = Slice::<T>::new(&gradient)?;
            let (g, u) = (Slice::<T>::new(&g)?, Slice::<T>::new(&u)?);
            // SAFETY: the loop below writes every number of both.
            let mut dg = unsafe { unwritten::<T>(g.len()) };
            let mut du = unsafe { unwritten::<T>(g.len()) };
            parts2(
                [&mut dg, &mut du],
                [TASK; 2],
                #[inline(always)]
                |i, dg, du| {
                    let n = dg.len();
                    let (du, at) = (&mut du[..n], i * TASK..i * TASK + n);
                    let (g, u, dy) = (&g[at.clone()], &u[at.clone()], &dy[at]);
                    for i in 0..n {
                        let (value, slope) = F::at(g[i]);
                        dg[i] = dy[i] * u[i] * slope;
                        du[i] = dy[i] * value;
                    }
                },
            );
            sums.add(&gate, tensor(dg, shape.clone())?)?;
            sums.add(&up, tensor(du, shape)?)
        })
    }))
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

/// `f(aᵢ, bᵢ)`
fn zip<T: Float>(a: &Tensor, b: &Tensor, f: impl Fn(T, T) -> T + Sync) -> Result<Vec<T>> {
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
