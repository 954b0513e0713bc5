//! What [`llm::optimizer`](crate::llm::optimizer) needs for one parameter while it runs.

use super::ops::Form;

/// AdamW's pass: in place on the CPU in f32 and f64, else composed of seven operations.
pub fn adamw(form: &Form, count: u64) -> u64 {
    match form.fused {
        true => 0,
        false => 7 * form.size.max(4) * count,
    }
}

/// The sum of squares.
pub fn norm(form: &Form, count: u64) -> u64 {
    match form.fused {
        true => 0,
        false => 16 * count,
    }
}
