//! Plain numbers, the inputs they make on any backend, and a loss run on them.

use std::rc::Rc;

use super::{InputKind, Inputs, Response};
use crate::backend::nd::{Tape, Var};
use crate::backend::{Backend, Segments};
use crate::error::Result;

/// Plain numbers of a batch: one or two responses per example, or a group of them.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// The trained numbers of the first (or only) and second response of each example; of groups
    /// and lists, of all their responses in order, in the first.
    pub log_policy: [Vec<f64>; 2],
    /// ln π_ref.
    pub log_reference: [Vec<f64>; 2],
    /// Rewards; in ranked lists, advantages.
    pub reward: [Vec<f64>; 2],
    /// Baselines or values of single responses, z₀ of rated ones.
    pub baseline: Vec<f64>,
    /// 1 or 0 for rated responses.
    pub desirable: Vec<f64>,
    /// Sizes of groups and lists.
    pub sizes: Vec<usize>,
    /// Weight of each example in the sum; they need not sum to 1.
    pub weight: Vec<f64>,
}

impl Batch {
    /// Number of examples.
    pub fn len(&self) -> usize {
        self.weight.len()
    }

    /// True if it has no example.
    pub fn is_empty(&self) -> bool {
        self.weight.is_empty()
    }

    /// The loss's inputs on any backend, and the leaves whose gradients are wanted: one array per
    /// slot, and after it the baseline, value or z₀ where there is one.
    ///
    /// # Errors
    /// If the backend fails.
    pub fn inputs<X: Backend>(
        &self,
        kind: InputKind,
        mut leaf: impl FnMut(&[f64]) -> Result<X>,
        mut constant: impl FnMut(&[f64]) -> Result<X>,
    ) -> Result<(Inputs<X>, Vec<X>)> {
        let mut response = |slot: usize| -> Result<Response<X>> {
            Ok(Response {
                log_policy: leaf(&self.log_policy[slot])?,
                log_reference: constant(&self.log_reference[slot])?,
                reward: constant(&self.reward[slot])?,
            })
        };
        let first = response(0)?;
        match kind {
            InputKind::ScoredPairs | InputKind::LabelledPairs => {
                let second = response(1)?;
                let leaves = vec![first.log_policy.clone(), second.log_policy.clone()];
                Ok((Inputs::Pair { first, second }, leaves))
            }
            InputKind::Singles => {
                let baseline = leaf(&self.baseline)?;
                let leaves = vec![first.log_policy.clone(), baseline.clone()];
                let response = first;
                Ok((Inputs::Single { response, baseline }, leaves))
            }
            InputKind::Rated => {
                let anchor = leaf(&self.baseline)?;
                let leaves = vec![first.log_policy.clone(), anchor.clone()];
                let inputs = Inputs::Rated {
                    response: first,
                    desirable: constant(&self.desirable)?,
                    anchor,
                };
                Ok((inputs, leaves))
            }
            InputKind::Groups | InputKind::Lists => {
                let leaves = vec![first.log_policy.clone()];
                let groups = Rc::new(Segments::new(&self.sizes)?);
                let responses = first;
                Ok((Inputs::Group { responses, groups }, leaves))
            }
        }
    }

    /// Adds the examples of another batch of the same kind after its own.
    pub fn append(&mut self, mut other: Self) {
        for slot in 0..2 {
            self.log_policy[slot].append(&mut other.log_policy[slot]);
            self.log_reference[slot].append(&mut other.log_reference[slot]);
            self.reward[slot].append(&mut other.reward[slot]);
        }
        self.baseline.append(&mut other.baseline);
        self.desirable.append(&mut other.desirable);
        self.sizes.append(&mut other.sizes);
        self.weight.append(&mut other.weight);
    }

    pub(crate) fn clear(&mut self) {
        for slot in 0..2 {
            self.log_policy[slot].clear();
            self.log_reference[slot].clear();
            self.reward[slot].clear();
        }
        self.baseline.clear();
        self.desirable.clear();
        self.sizes.clear();
        self.weight.clear();
    }
}

/// A weighted loss of a batch and its gradient with respect to each leaf of [`Batch::inputs`]: the log-probabilities or
/// scores and, where there is one, the number held against them.
#[derive(Debug, Clone)]
pub struct Cotangents {
    /// Weighted sum of the per-example losses.
    pub value: f64,
    /// Gradients, in the order of the leaves of [`Batch::inputs`].
    pub gradient: Vec<Vec<f64>>,
}

/// Runs a loss written on [`nd`](crate::backend::nd) over a batch.
///
/// # Errors
/// Those of the loss.
pub fn on_tape(
    kind: InputKind,
    batch: &Batch,
    loss: impl Fn(&Inputs<Var>) -> Result<Var>,
) -> Result<Cotangents> {
    let tape = Tape::new();
    let (inputs, leaves) = batch.inputs(
        kind,
        |v| Ok(tape.leaf(v.to_vec())),
        |v| Ok(tape.constant(v.to_vec())),
    )?;
    let each = loss(&inputs)?;
    let leaves: Vec<&Var> = leaves.iter().collect();
    let gradient = tape.backward(&each, &batch.weight, &leaves)?;
    let value = each.with(|v| v.iter().zip(&batch.weight).map(|(v, w)| v * w).sum());
    Ok(Cotangents {
        value,
        gradient: gradient.into_iter().map(|g| g.to_vec()).collect(),
    })
}
