//! A share of what a step descends: a loss on examples whose responses are arms.

use std::cell::RefCell;

use ndarray::Array1;

use super::recording::{Recording, scatter};
use crate::error::Result;
use crate::loss::{Batch, Bound};

/// A loss, its weight in the sum that a step descends, and its examples. They are recorded once: of a step only the
/// trained numbers are new.
pub(crate) struct Share {
    weight: f64,
    /// Weight of each example.
    examples: Vec<f64>,
    /// The arm of each response, slot by slot.
    slots: Vec<Vec<u32>>,
    /// None without examples.
    recording: Option<RefCell<Recording>>,
}

/// A share at a policy.
pub(crate) struct Pull<'a> {
    /// Weighted sum of its examples' losses, its own weight left out.
    pub value: f64,
    share: &'a Share,
    gradients: Vec<Array1<f64>>,
}

impl Share {
    /// A loss on a batch, whose trained numbers (which may be left out) are those of the arms in `slots`.
    pub fn new(loss: Bound, weight: f64, batch: &Batch, slots: Vec<Vec<u32>>) -> Result<Self> {
        let recording = if batch.is_empty() {
            None
        } else {
            Some(RefCell::new(Recording::of(loss, &batch)?))
        };
        Ok(Self {
            weight,
            examples: batch.weight.clone(),
            slots,
            recording,
        })
    }

    /// The loss and its slopes where every arm has the given trained number.
    pub fn at(&self, numbers: &[f64]) -> Result<Pull<'_>> {
        let (value, gradients) = match &self.recording {
            None => (0.0, Vec::new()),
            Some(recording) => {
                let mut recording = recording.borrow_mut();
                recording.load_policy(&self.slots, numbers)?;
                recording.cotangents(&self.examples)?
            }
        };
        Ok(Pull {
            value,
            share: self,
            gradients,
        })
    }
}

impl Pull<'_> {
    /// Adds the share's slopes, `scale` times, to those in every arm's number.
    pub fn add(&self, scale: f64, into: &mut [f64]) {
        scatter(
            &self.share.slots,
            &self.gradients,
            scale * self.share.weight,
            into,
        );
    }
}
