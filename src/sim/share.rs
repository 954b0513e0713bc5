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
    /// A loss on a batch, whose trained numbers are to be those of the arms in `slots`.
    pub fn new(loss: Bound, weight: f64, mut batch: Batch, slots: Vec<Vec<u32>>) -> Result<Self> {
        for (numbers, slot) in batch.log_policy.iter_mut().zip(&slots) {
            *numbers = vec![0.0; slot.len()];
        }
        let recording = if batch.is_empty() {
            None
        } else {
            Some(RefCell::new(Recording::of(loss, &batch)?))
        };
        Ok(Self {
            weight,
            examples: batch.weight,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::{Given, Objective};

    /// A share is its loss on the batch with the arms' numbers, each slope added at its arm.
    #[test]
    fn a_share_is_its_loss_on_the_batch() {
        let numbers = [-0.3, -1.2, -2.0, -0.1, -0.9];
        let slots = vec![vec![4, 1, 0, 1], vec![0, 2, 2, 3]];
        let of =
            |slot: &Vec<u32>| -> Vec<f64> { slot.iter().map(|&a| numbers[a as usize]).collect() };
        let mut batch = Batch {
            log_reference: [vec![-0.5; 4], vec![-1.0, -0.2, -0.7, -2.0]],
            weight: vec![0.1, 0.4, 0.3, 0.2],
            ..Batch::default()
        };
        let loss = Objective::DPO.bind(&Given::from(0.7)).unwrap();
        let share = Share::new(loss.clone(), 2.0, batch.clone(), slots.clone()).unwrap();
        batch.log_policy = [of(&slots[0]), of(&slots[1])];
        let want = loss.on_tape(&batch).unwrap();
        let mut gradient = [1.0; 5];
        // Other numbers before leave nothing behind.
        share.at(&[0.0; 5]).unwrap();
        let pull = share.at(&numbers).unwrap();
        assert!((pull.value - want.value).abs() < 1e-15);
        pull.add(3.0, &mut gradient);
        let mut expected = [1.0; 5];
        for (slot, of_slot) in slots.iter().zip(&want.gradient) {
            for (&arm, g) in slot.iter().zip(of_slot) {
                expected[arm as usize] += 6.0 * g;
            }
        }
        for (got, want) in gradient.iter().zip(expected) {
            assert!((got - want).abs() < 1e-14, "{got} {want}");
        }
        let empty = Share::new(loss, 1.0, Batch::default(), vec![Vec::new(); 2]).unwrap();
        assert_eq!(empty.at(&numbers).unwrap().value, 0.0);
    }
}
