//! The part of a tape that stays from step to step: the loss's inputs, overwritten in place.

use std::rc::Rc;

use crate::backend::Segments;
use crate::backend::nd::{Tape, Var};
use crate::error::Result;
use crate::loss::{InputKind, Inputs, Response};
use ndarray::Array1;

pub(super) struct Recording {
    tape: Tape,
    inputs: Inputs<Var>,
    mark: usize,
    buffer: Vec<f64>,
}

impl Recording {
    /// Inputs for arrays as long as `slots`.
    pub(super) fn new(kind: InputKind, slots: &[Vec<u32>]) -> Result<Self> {
        let tape = Tape::new();
        let response = |slot: &Vec<u32>| Response {
            log_policy: tape.leaf(vec![0.0; slot.len()]),
            log_reference: tape.constant(vec![0.0; slot.len()]),
            reward: tape.constant(vec![0.0; slot.len()]),
        };
        let inputs = match kind {
            InputKind::ScoredPairs | InputKind::LabelledPairs => Inputs::Pair {
                first: response(&slots[0]),
                second: response(&slots[1]),
            },
            InputKind::Singles => Inputs::Single {
                response: response(&slots[0]),
                baseline: tape.constant(vec![0.0; slots[0].len()]),
            },
            InputKind::Groups => Inputs::Group {
                responses: response(&slots[0]),
                groups: Rc::new(Segments::new(&vec![2; slots[0].len() / 2])?),
            },
            InputKind::Rated | InputKind::Lists => unreachable!("refused by Config::check"),
        };
        let mark = tape.mark();
        Ok(Self {
            tape,
            inputs,
            mark,
            buffer: Vec::new(),
        })
    }

    /// Rewards and references of the rows' arms, from tables per arm.
    pub(super) fn load_arms(
        &mut self,
        slots: &[Vec<u32>],
        reward: &[f64],
        log_reference: &[f64],
    ) -> Result<()> {
        let arms = reward.len();
        for (response, slot) in responses(&self.inputs).into_iter().zip(slots) {
            let entries = slot.iter().map(|&at| at as usize % arms);
            gather(&mut self.buffer, entries.clone(), reward, &response.reward)?;
            gather(
                &mut self.buffer,
                entries,
                log_reference,
                &response.log_reference,
            )?;
        }
        Ok(())
    }

    /// The trained numbers of the rows' responses, from a table per (seed, arm).
    pub(super) fn load_policy(&mut self, slots: &[Vec<u32>], log_policy: &[f64]) -> Result<()> {
        for (response, slot) in responses(&self.inputs).into_iter().zip(slots) {
            let entries = slot.iter().map(|&at| at as usize);
            gather(&mut self.buffer, entries, log_policy, &response.log_policy)?;
        }
        Ok(())
    }

    /// The baseline of each row, from a table per (seed, arm).
    pub(super) fn load_baseline(&mut self, slots: &[Vec<u32>], table: &[f64]) -> Result<()> {
        if let Inputs::Single { baseline, .. } = &self.inputs {
            let entries = slots[0].iter().map(|&at| at as usize);
            gather(&mut self.buffer, entries, table, baseline)?;
        }
        Ok(())
    }

    /// The gradients of the weighted loss with respect to each slot's trained numbers.
    pub(super) fn gradients(
        &self,
        weight: &[f64],
        loss: impl FnOnce(&Inputs<Var>) -> Result<Var>,
    ) -> Result<Vec<Array1<f64>>> {
        let each = loss(&self.inputs)?;
        let leaves: Vec<&Var> = responses(&self.inputs)
            .into_iter()
            .map(|r| &r.log_policy)
            .collect();
        let gradients = self.tape.backward(&each, weight, &leaves);
        self.tape.rewind(self.mark);
        gradients
    }
}

fn responses(inputs: &Inputs<Var>) -> Vec<&Response<Var>> {
    match inputs {
        Inputs::Pair { first, second } => vec![first, second],
        Inputs::Single { response, .. } | Inputs::Rated { response, .. } => vec![response],
        Inputs::Group { responses, .. } => vec![responses],
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
