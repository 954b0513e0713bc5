//! Tensors on a tape.

use candle_core::{Shape, Tensor};

/// A tensor on a tape.
#[derive(Debug, Clone)]
pub struct Node {
    value: Tensor,
    slot: Option<usize>,
}

impl Node {
    pub(super) fn new(value: Tensor, slot: Option<usize>) -> Self {
        Self { value, slot }
    }

    /// A tensor that nobody differentiates by.
    pub fn constant(value: Tensor) -> Self {
        Self::new(value, None)
    }

    /// The tensor.
    pub fn value(&self) -> &Tensor {
        &self.value
    }

    /// True if a gradient is wanted.
    pub fn wanted(&self) -> bool {
        self.slot.is_some()
    }

    /// Target of its gradient. A backward keeps this of an input whose numbers it does not need.
    pub fn target(&self) -> Target {
        Target {
            slot: self.slot,
            shape: self.value.shape().clone(),
        }
    }

    pub(super) fn slot(&self) -> Option<usize> {
        self.slot
    }
}

/// A node without its numbers: where a gradient goes, and its shape.
#[derive(Debug, Clone)]
pub struct Target {
    slot: Option<usize>,
    shape: Shape,
}

impl Target {
    /// True if a gradient is wanted.
    pub fn wanted(&self) -> bool {
        self.slot.is_some()
    }

    /// The gradient's shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    pub(super) fn slot(&self) -> Option<usize> {
        self.slot
    }
}
