//! Log-probabilities of tokens.

pub mod composed;
pub(super) mod cpu;
mod facts;
pub mod plain;

use std::rc::Rc;

use crate::error::Result;
use crate::llm::tensor::ops::kernel::on_cpu;
use crate::llm::tensor::tape::{Node, Tape};

pub use facts::{Call, cases, memory};

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
        cpu::token_log_probs,
        composed::token_log_probs,
        (tape, hidden, head, bias, targets, temperature)
    )
}
