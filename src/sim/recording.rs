//! The part of a tape that stays from step to step: the loss's inputs, overwritten in place.

use crate::backend::nd::{Tape, Var};
use crate::error::Result;
use crate::loss::{Batch, Bound, Column, Inputs};
use ndarray::Array1;

pub(super) struct Recording {
    tape: Tape,
    inputs: Inputs<Var>,
    loss: Bound,
    mark: usize,
    buffer: Vec<f64>,
}

impl Recording {
    /// Inputs of a loss, for arrays as long as `slots`.
    pub(super) fn new(loss: Bound, slots: &[Vec<u32>]) -> Result<Self> {
        let kind = loss.spec().inputs;
        let zeros = |slot: usize| vec![0.0; slots.get(slot).map_or(0, Vec::len)];
        let both = || [zeros(0), zeros(1)];
        let batch = Batch {
            log_policy: both(),
            log_reference: both(),
            log_old: both(),
            reward: both(),
            baseline: zeros(0),
            sizes: if kind.is_groups() {
                vec![2; slots[0].len() / 2]
            } else {
                Vec::new()
            },
            ..Batch::default()
        };
        Self::of(loss, &batch)
    }

    /// The inputs of a batch.
    pub(super) fn of(loss: Bound, batch: &Batch) -> Result<Self> {
        let tape = Tape::new();
        let (inputs, _) = batch.inputs(
            loss.spec().inputs,
            loss.columns()?,
            |v| Ok(tape.leaf(v.to_vec())),
            |v| Ok(tape.constant(v.to_vec())),
        )?;
        let mark = tape.mark();
        Ok(Self {
            tape,
            inputs,
            loss,
            mark,
            buffer: Vec::new(),
        })
    }

    /// What the loss reads of the rows' arms beside the trained numbers, from tables per arm.
    pub(super) fn load_arms(&mut self, slots: &[Vec<u32>], arms: &Arms) -> Result<()> {
        for (response, slot) in self.inputs.responses().zip(slots) {
            for (column, array) in response.made() {
                let Some(table) = arms.column(column) else {
                    continue;
                };
                let entries = slot.iter().map(|&at| at as usize % table.len());
                gather(&mut self.buffer, entries, table, array)?;
            }
        }
        if let (Inputs::Tokens(tokens), Some(reward)) = (&self.inputs, slots.first()) {
            let entries = reward.iter().map(|&at| at as usize % arms.reward.len());
            if let Some(array) = tokens.made() {
                gather(&mut self.buffer, entries, &arms.reward, array)?;
            }
        }
        Ok(())
    }

    /// The trained numbers of the rows' responses, from a table per (seed, arm).
    pub(super) fn load_policy(&mut self, slots: &[Vec<u32>], log_policy: &[f64]) -> Result<()> {
        for (array, slot) in self.inputs.trained().into_iter().zip(slots) {
            let entries = slot.iter().map(|&at| at as usize);
            gather(&mut self.buffer, entries, log_policy, array)?;
        }
        Ok(())
    }

    /// The baseline of each row, from a table per (seed, arm).
    pub(super) fn load_baseline(&mut self, slots: &[Vec<u32>], table: &[f64]) -> Result<()> {
        if let Inputs::Single(single) = &self.inputs {
            let entries = slots[0].iter().map(|&at| at as usize);
            gather(&mut self.buffer, entries, table, &single.baseline)?;
        }
        Ok(())
    }

    /// The gradients of the weighted loss with respect to each slot's trained numbers.
    pub(super) fn gradients(&self, weight: &[f64]) -> Result<Vec<Array1<f64>>> {
        let ((), gradients) = self.run(weight, |_| ())?;
        Ok(gradients)
    }

    /// The weighted loss beside them.
    pub(super) fn cotangents(&self, weight: &[f64]) -> Result<(f64, Vec<Array1<f64>>)> {
        self.run(weight, |each| {
            each.with(|v| v.iter().zip(weight).map(|(v, w)| v * w).sum())
        })
    }

    fn run<T>(
        &self,
        weight: &[f64],
        look: impl FnOnce(&Var) -> T,
    ) -> Result<(T, Vec<Array1<f64>>)> {
        let each = self.loss.loss(&self.inputs)?;
        let seen = look(&each);
        let gradients = (self.tape).backward(&each, weight, &self.inputs.trained());
        self.tape.rewind(self.mark);
        Ok((seen, gradients?))
    }
}

/// Adds gradients in the numbers of slots, times a scale, to those in the numbers behind them.
pub(super) fn scatter(slots: &[Vec<u32>], gradients: &[Array1<f64>], scale: f64, into: &mut [f64]) {
    for (slot, of_slot) in slots.iter().zip(gradients) {
        for (&at, g) in slot.iter().zip(of_slot) {
            into[at as usize] += scale * g;
        }
    }
}

/// Numbers of every arm, the same for every seed.
pub(super) struct Arms {
    pub reward: Vec<f64>,
    pub log_reference: Vec<f64>,
    pub log_old: Vec<f64>,
}

impl Arms {
    fn column(&self, column: Column) -> Option<&[f64]> {
        match column {
            Column::Reward => Some(&self.reward),
            Column::LogReference => Some(&self.log_reference),
            Column::LogOld => Some(&self.log_old),
            // As they were made: a response has one token, and labels are certain.
            _ => None,
        }
    }
}

fn gather(
    buffer: &mut Vec<f64>,
    entries: impl Iterator<Item = usize>,
    table: &[f64],
    into: &Var,
) -> Result<()> {
    buffer.clear();
    buffer.extend(entries.map(|at| table[at]));
    into.set(buffer)
}
