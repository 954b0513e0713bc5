//! Values on a tape.

use candle_core::{Shape, Tensor};

use super::Carried;

/// A value on a tape.
#[derive(Debug, Clone)]
pub struct Node<X = Tensor> {
    value: X,
    slot: Option<usize>,
}

impl<X: Carried> Node<X> {
    pub(super) fn new(value: X, slot: Option<usize>) -> Self {
        Self { value, slot }
    }

    /// A value that nobody differentiates by.
    pub fn constant(value: X) -> Self {
        Self::new(value, None)
    }

    /// The value.
    pub fn value(&self) -> &X {
        &self.value
    }

    /// True if a gradient is wanted.
    pub fn wanted(&self) -> bool {
        self.slot.is_some()
    }

    /// Target of its gradient. A backward keeps this of an input whose numbers it does not need.
    pub fn target(&self) -> Target<X> {
        Target {
            slot: self.slot,
            form: self.value.form(),
        }
    }

    pub(super) fn slot(&self) -> Option<usize> {
        self.slot
    }
}

/// A node without its numbers: where a gradient goes, and what it must be like.
#[derive(Debug, Clone)]
pub struct Target<X: Carried = Tensor> {
    slot: Option<usize>,
    form: X::Form,
}

impl<X: Carried> Target<X> {
    /// True if a gradient is wanted.
    pub fn wanted(&self) -> bool {
        self.slot.is_some()
    }

    /// What the gradient must be like.
    pub fn form(&self) -> &X::Form {
        &self.form
    }

    pub(super) fn slot(&self) -> Option<usize> {
        self.slot
    }
}

impl Target {
    /// The gradient's shape.
    pub fn shape(&self) -> &Shape {
        &self.form
    }
}
