//! Memory of the optimiser's pass over a parameter.

use crate::llm::tensor::ops::Form;
use crate::llm::tensor::optimizer::PIECE;

/// AdamW of so many numbers, in pieces: seven tensors in f32.
pub fn adamw(form: &Form, numbers: u64) -> u64 {
    6 * form.wide() * numbers.min(PIECE as u64)
}

/// The sum of squares, in pieces.
pub fn norm_of_gradient(form: &Form, numbers: u64) -> u64 {
    (form.wide() + form.widened()) * numbers.min(PIECE as u64)
}
