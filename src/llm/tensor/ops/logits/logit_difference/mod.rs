//! Squared difference to a teacher's logits.

pub mod composed;
pub(super) mod cpu;
mod facts;
pub mod plain;

use super::Teacher;
use crate::error::Result;
use crate::llm::tensor::ops::kernel::on_cpu;
use crate::llm::tensor::tape::{Node, Tape};

pub use facts::Call;

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
        cpu::logit_difference,
        composed::logit_difference,
        (tape, hidden, head, bias, teacher)
    )
}
