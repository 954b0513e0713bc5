//! Where a loss is run: on the host, or on the model's device.

use candle_core::Device;

use super::enums::LossBackend;
use crate::error::Result;
use crate::llm::text::objective::TextObjective;
use crate::loss::{Batch, Cotangents};

/// Where a run's loss is computed.
pub(super) struct Engine<'d> {
    backend: LossBackend,
    device: &'d Device,
}

impl<'d> Engine<'d> {
    pub(super) fn of(backend: LossBackend, device: &'d Device) -> Self {
        Self { backend, device }
    }

    /// The loss of a batch and its gradient.
    pub(super) fn run(&self, objective: &TextObjective, batch: &Batch) -> Result<Cotangents> {
        if self.backend.is_device(batch, self.device) {
            objective.loss().on_device(batch, self.device)
        } else {
            objective.cotangents(batch)
        }
    }
}
