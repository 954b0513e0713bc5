//! Another model whose logits a model's are compared with.

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::llm::tensor::ops::kernel::same;

/// What the logits `h′ W′ᵀ + b′` of another model, the teacher, are made of: constants, of the student's precision and
/// device.
#[derive(Debug, Clone)]
pub struct Teacher {
    /// h′: the last block's output, normalised, `[M, D′]`.
    pub hidden: Tensor,
    /// W′: the output head, `[V, D′]`.
    pub head: Tensor,
    /// b′: the head's bias, `[V]`.
    pub bias: Option<Tensor>,
}

impl Teacher {
    /// An error unless it can be compared with a student's hidden states and head.
    ///
    /// # Errors
    /// Other rows, another vocabulary, another precision, or shapes that do not fit.
    pub fn check(&self, operation: &'static str, [hidden, head]: [&Tensor; 2]) -> Result<()> {
        let (m, width) = self.hidden.dims2()?;
        let (vocabulary, inner) = self.head.dims2()?;
        same(operation, hidden.dims2()?.0, m)?;
        same(operation, head.dims2()?.0, vocabulary)?;
        same(operation, width, inner)?;
        if let Some(bias) = &self.bias {
            same(operation, vocabulary, bias.dims1()?)?;
        }
        let theirs = [Some(&self.hidden), Some(&self.head), self.bias.as_ref()];
        match (theirs.into_iter().flatten()).find(|t| t.dtype() != hidden.dtype()) {
            None => Ok(()),
            Some(other) => {
                let [ours, theirs] = [hidden, other].map(|t| t.dtype().as_str());
                let problem = format!("a teacher in {theirs} and a student in {ours}");
                Err(Error::invalid(
                    operation,
                    problem,
                    "give both in one precision",
                ))
            }
        }
    }
}
