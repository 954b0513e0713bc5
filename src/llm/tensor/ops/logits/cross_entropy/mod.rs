//! Cross-entropy to a teacher's distribution.

pub mod composed;
pub(super) mod cpu;
mod facts;
pub mod plain;

use super::Teacher;
use crate::error::Result;
use crate::llm::tensor::ops::kernel::on_cpu;
use crate::llm::tensor::tape::{Node, Tape};

pub use facts::Call;

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
        cpu::cross_entropy,
        composed::cross_entropy,
        (tape, hidden, head, bias, teacher)
    )
}
