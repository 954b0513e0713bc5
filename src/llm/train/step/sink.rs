//! Sinks: what becomes of the gradients of leaves.

use candle_core::Tensor;

use crate::error::Result;
use crate::llm::tensor::tape::{LeafGradients, Node, Tape};

/// Sink of the gradients of leaves.
pub enum Sink<'a> {
    /// Adds each to the sums so far. One of bf16 or f16 numbers is kept as it is, sums of them in f32.
    Sum(&'a mut LeafGradients),
    /// Gives each to a function as soon as it is final, when the leaf may be changed in place: none is kept.
    Each(&'a mut dyn FnMut(usize, Tensor) -> Result<()>),
}

impl Sink<'_> {
    /// Whether gradients are used before all of them are there.
    pub(super) fn is_eager(&self) -> bool {
        matches!(self, Self::Each(_))
    }

    /// Pushes cotangents back.
    pub(in crate::llm::train) fn take(
        &mut self,
        tape: Tape,
        seeds: Vec<(Node, Tensor)>,
    ) -> Result<()> {
        match self {
            Self::Sum(sums) if sums.is_empty() || sums.is_coarse() => {
                tape.consume(seeds, &mut |leaf, gradient| sums.add(leaf, gradient))
            }
            // Sums of the precision of what is added grow in place.
            Self::Sum(sums) => tape.backward(seeds, sums),
            Self::Each(take) => tape.consume(seeds, *take),
        }
    }
}
