//! Every differentiable operation of a transformer, each singly replaceable.
//!
//! Activations are ragged: the tokens of all sequences of a micro-batch lie end to end in one
//! `[N, D]` tensor, so that there is no padding to attend to, to mask or to pay for.
//!
//! On a CPU in f32 and f64 an operation is fused, with its own backward; elsewhere it is composed of
//! candle's, with a backward written by hand ([`composed`]). The twin that tests compare both with
//! is composed of candle's and takes candle's gradient ([`plain`]).

mod attention;
pub mod composed;
mod cross_entropy;
pub(crate) mod float;
mod kernel;
pub(crate) mod layer_norm;
mod linear;
mod logit_difference;
pub(crate) mod logits;
pub(crate) mod matmul;
pub(crate) mod memory;
pub(crate) mod panels;
pub mod plain;
pub(crate) mod pointwise;
pub(crate) mod rms_norm;
mod rope;
mod rows;
pub(crate) mod simd;
pub(crate) mod slice;
mod starts;
mod teacher;
mod token_log_probs;

use std::rc::Rc;
use std::sync::Arc;

use candle_core::{DType, Tensor};

use super::tape::{Node, Tape};
use crate::error::Result;
use kernel::on_cpu;

pub use starts::Starts;
pub use teacher::Teacher;

/// A pointwise nonlinearity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activation {
    /// `max(x, 0)`, slope 0 at 0
    Relu,
    /// `x σ(x)`
    Silu,
    /// `x Φ(x)`
    Gelu,
    /// `½x (1 + tanh(√(2/π) (x + 0.044715 x³)))`
    GeluTanh,
}

/// Cosines and sines of rotary position embedding, `[T, R/2]` each, in the order of positions: the first R ≤ D numbers
/// of each head are turned, the rest pass as they are.
#[derive(Debug, Clone)]
pub struct Rope {
    /// Cosines.
    pub cos: Tensor,
    /// Sines.
    pub sin: Tensor,
    /// True if neighbours `(x₂ᵢ, x₂ᵢ₊₁)` are turned together (GPT-J), false if `(xᵢ, xᵢ₊R/2)` are (Hugging Face's Llama).
    pub interleaved: bool,
}

/// Layout of attention.
#[derive(Debug, Clone, PartialEq)]
pub struct Attention {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads, a divisor of `heads`.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Factor of the dot products.
    pub scale: f64,
    /// Sliding window: number of tokens that a token sees, itself and those before it; all if `None`.
    pub window: Option<usize>,
    /// Slope of each query head (ALiBi), by which its scores fall with every token in between; 0 if `None`.
    pub slopes: Option<Arc<[f64]>>,
}

/// `x Wᵀ + b`: `[N, I]`, `[O, I]`, `[O]` → `[N, O]`.
///
/// # Errors
/// Shapes that do not fit.
pub fn linear(tape: &Tape, x: &Node, weight: &Node, bias: Option<&Node>) -> Result<Node> {
    on_cpu!(x, linear::linear, composed::linear, (tape, x, weight, bias))
}

/// The rows of `table` with those indices: `[V, D]` → `[N, D]`.
///
/// # Errors
/// An index that is not a row.
pub fn embedding(tape: &Tape, table: &Node, ids: &Rc<[u32]>) -> Result<Node> {
    on_cpu!(table, rows::rows, composed::rows, (tape, table, ids))
}

/// Some rows of an activation: `[N, D]` → `[M, D]`.
///
/// # Errors
/// An index that is not a row.
pub fn rows(tape: &Tape, x: &Node, rows: &Rc<[u32]>) -> Result<Node> {
    on_cpu!(x, rows::rows, composed::rows, (tape, x, rows))
}

/// `x / √(mean x² + ε) · (w + offset)` of every run of as many numbers as `w` has: `[N, k · D]`, `[D]` → `[N, k · D]`,
/// with k = 1 over the last axis; offset 1 for Gemma.
///
/// # Errors
/// Shapes that do not fit.
pub fn rms_norm(tape: &Tape, x: &Node, weight: &Node, epsilon: f64, offset: f64) -> Result<Node> {
    on_cpu!(
        x,
        rms_norm::rms_norm,
        composed::rms_norm,
        (tape, x, weight, epsilon, offset)
    )
}

/// `(x − mean) / √(variance + ε) · w + b` of every run of as many numbers as `w` has: `[N, k · D]`, `[D]`, `[D]` →
/// `[N, k · D]`, with k = 1 over the last axis.
///
/// # Errors
/// Shapes that do not fit.
pub fn layer_norm(tape: &Tape, x: &Node, weight: &Node, bias: &Node, epsilon: f64) -> Result<Node> {
    on_cpu!(
        x,
        layer_norm::layer_norm,
        composed::layer_norm,
        (tape, x, weight, bias, epsilon)
    )
}

/// Rotary position embedding of `[N, heads · D]`: every pair `(a, b)` of a head that the table turns becomes
/// `(a cos − b sin, b cos + a sin)`. A token's position is its index in its sequence.
///
/// # Errors
/// A sequence longer than the table, or a head narrower.
pub fn rope(tape: &Tape, x: &Node, heads: usize, table: &Rope, starts: &Starts) -> Result<Node> {
    on_cpu!(
        x,
        rope::rope,
        composed::rope,
        (tape, x, heads, table, starts)
    )
}

/// Causal attention within each sequence: `[N, heads · D]` and twice `[N, kv_heads · D]` →
/// `[N, heads · D]`. The score of query i and key j is `scale · qᵢ·kⱼ − slope · (i − j)`.
///
/// # Errors
/// Shapes that do not fit.
pub fn attention(
    tape: &Tape,
    [q, k, v]: [&Node; 3],
    form: &Attention,
    starts: &Starts,
) -> Result<Node> {
    on_cpu!(
        q,
        attention::attention,
        composed::attention,
        (tape, [q, k, v], form, starts)
    )
}

/// `f(gate) · up`.
///
/// # Errors
/// Shapes that do not fit.
pub fn gated(tape: &Tape, gate: &Node, up: &Node, f: Activation) -> Result<Node> {
    on_cpu!(gate, pointwise::gated, composed::gated, (tape, gate, up, f))
}

/// `f(x)`.
///
/// # Errors
/// A failing device.
pub fn activation(tape: &Tape, x: &Node, f: Activation) -> Result<Node> {
    on_cpu!(x, pointwise::activation, composed::activation, (tape, x, f))
}

/// `a + b`.
///
/// # Errors
/// Shapes that do not fit.
pub fn add(tape: &Tape, a: &Node, b: &Node) -> Result<Node> {
    let sum = match kernel::precision(a) {
        Some(DType::F32) => pointwise::sum::<f32>(a.value(), b.value())?,
        Some(_) => pointwise::sum::<f64>(a.value(), b.value())?,
        None => (a.value() + b.value())?,
    };
    Ok(tape.record(sum, &[a, b], || {
        let (a, b) = (a.target(), b.target());
        Box::new(move |gradient, sums| {
            sums.add_shared(&a, &gradient)?;
            sums.add_shared(&b, &gradient)
        })
    }))
}

/// `scale · x`.
///
/// # Errors
/// A failing device.
pub fn scale(tape: &Tape, x: &Node, scale: f64) -> Result<Node> {
    composed::scale(tape, x, scale)
}

/// `ln softmax((h Wᵀ + b) / τ)` at each row's target, τ being the temperature: `[M, D]`, `[V, D]`, `[V]` → `[M]`, in f32
/// of bf16 and f16.
///
/// # Errors
/// A target beyond the vocabulary, a temperature that is not positive, or shapes that do not fit.
pub fn token_log_probs(
    tape: &Tape,
    hidden: &Node,
    head: &Node,
    bias: Option<&Node>,
    targets: &Rc<[u32]>,
    temperature: f64,
) -> Result<Node> {
    on_cpu!(
        hidden,
        token_log_probs::token_log_probs,
        composed::token_log_probs,
        (tape, hidden, head, bias, targets, temperature)
    )
}

/// Cross-entropy to another model, the teacher: of each row `Σ q (−ln p)` over the vocabulary, with
/// `p = softmax(h Wᵀ + b)` and `q = softmax(h′ W′ᵀ + b′)`: `[M, D]`, `[V, D]`, `[V]` → `[M]`, in f32 of bf16 and f16.
///
/// # Errors
/// A teacher of other rows, another vocabulary or another precision, or shapes that do not fit.
pub fn cross_entropy(
    tape: &Tape,
    hidden: &Node,
    head: &Node,
    bias: Option<&Node>,
    teacher: &Teacher,
) -> Result<Node> {
    on_cpu!(
        hidden,
        cross_entropy::cross_entropy,
        composed::cross_entropy,
        (tape, hidden, head, bias, teacher)
    )
}

/// Squared difference to another model's logits, the teacher's: of each row `Σ (z − z′)²` over the vocabulary, with
/// `z = h Wᵀ + b` and `z′ = h′ W′ᵀ + b′`: `[M, D]`, `[V, D]`, `[V]` → `[M]`, in f32 of bf16 and f16.
///
/// # Errors
/// A teacher of other rows, another vocabulary or another precision, or shapes that do not fit.
pub fn logit_difference(
    tape: &Tape,
    hidden: &Node,
    head: &Node,
    bias: Option<&Node>,
    teacher: &Teacher,
) -> Result<Node> {
    on_cpu!(
        hidden,
        logit_difference::logit_difference,
        composed::logit_difference,
        (tape, hidden, head, bias, teacher)
    )
}

/// `sum += x` for a contiguous sum; `x` may be of another precision.
///
/// # Errors
/// Shapes that differ.
pub fn add_in_place(sum: &Tensor, x: &Tensor) -> Result<()> {
    let fused = sum.device().is_cpu() && sum.dtype() == x.dtype();
    match (fused, sum.dtype()) {
        (true, DType::F32) => pointwise::add_in_place::<f32>(sum, x),
        (true, DType::F64) => pointwise::add_in_place::<f64>(sum, x),
        _ => composed::add_in_place(sum, x),
    }
}
