//! Causal attention within each sequence.

pub(super) mod composed;
mod cpu;
mod facts;
mod groups;
pub(super) mod plain;

use std::sync::Arc;

use super::Starts;
use super::kernel::on_cpu;
use crate::error::Result;
use crate::llm::tensor::tape::{Node, Tape};

pub use facts::Call;
pub(super) use facts::ENTRY;

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

/// Causal attention within each sequence: `[N, heads · D]` and twice `[N, kv_heads · D]` →
/// `[N, heads · D]`. The score of query i and key j is `scale · qᵢ·kⱼ − slope · (i − j)`.
///
/// # Errors
/// Shapes that do not fit.
pub fn attention(tape: &Tape, qkv: [&Node; 3], form: &Attention, starts: &Starts) -> Result<Node> {
    on_cpu!(
        qkv[0],
        cpu::attention,
        composed::attention,
        (tape, qkv, form, starts)
    )
}
