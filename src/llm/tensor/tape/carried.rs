//! What a tape carries.

use candle_core::{Shape, Tensor};

use crate::error::{Error, Result};
use crate::llm::tensor::ops::add_in_place;

/// A value that has a gradient: a tensor, or, where memory is planned, a tensor's bytes.
pub trait Carried: Clone {
    /// What its gradient must be like.
    type Form: Clone;

    /// What its gradient must be like.
    fn form(&self) -> Self::Form;

    /// An error unless it may be the gradient of something.
    ///
    /// # Errors
    /// It has another shape.
    fn fits(&self, form: &Self::Form) -> Result<()>;

    /// True if all of its memory, from first to last number, is its own.
    fn is_dense(&self) -> bool;

    /// Adds another, in its own memory.
    ///
    /// # Errors
    /// Shapes that differ.
    fn accumulate(&self, other: &Self) -> Result<()>;

    /// A fresh sum, as a gradient of that form.
    ///
    /// # Errors
    /// Shapes that differ, or no memory.
    fn plus(&self, other: &Self, form: &Self::Form) -> Result<Self>;

    /// A fresh copy.
    ///
    /// # Errors
    /// No memory.
    fn copied(&self) -> Result<Self>;
}

impl Carried for Tensor {
    type Form = Shape;

    fn form(&self) -> Shape {
        self.shape().clone()
    }

    fn fits(&self, form: &Shape) -> Result<()> {
        let (given, wanted) = (self.dims(), form.dims());
        if given == wanted {
            return Ok(());
        }
        let message = format!("a gradient of shape {given:?} for a tensor of {wanted:?}");
        let backend = "tape";
        Err(Error::Backend { backend, message })
    }

    fn is_dense(&self) -> bool {
        self.is_contiguous()
    }

    fn accumulate(&self, other: &Self) -> Result<()> {
        add_in_place(self, other)
    }

    fn plus(&self, other: &Self, _: &Shape) -> Result<Self> {
        Ok((self + other)?)
    }

    fn copied(&self) -> Result<Self> {
        Ok(self.copy()?)
    }
}
