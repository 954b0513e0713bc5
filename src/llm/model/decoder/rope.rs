//! Cosines and sines of positions, made as far as they are needed.

use std::sync::Mutex;

use candle_core::{DType, Device, Tensor};

use crate::error::Result;
use crate::llm::model::graph::Rotation;
use crate::llm::tensor::ops::{Rope, composed::wider};

/// The first positions' table, which grows by doubling: a model may take a million positions and
/// see a hundred.
#[derive(Debug)]
pub(super) struct Rotary {
    rotation: Rotation,
    /// The longest sequence.
    context: usize,
    dtype: DType,
    device: Device,
    /// Table of cosines and sines made so far.
    table: Mutex<Option<Rope>>,
}

impl Clone for Rotary {
    fn clone(&self) -> Self {
        Self::new(
            self.rotation.clone(),
            self.context,
            self.dtype,
            &self.device,
        )
    }
}

impl Rotary {
    pub fn new(rotation: Rotation, context: usize, dtype: DType, device: &Device) -> Self {
        Self {
            rotation,
            context,
            dtype,
            device: device.clone(),
            table: Mutex::new(None),
        }
    }

    /// A table of at least that many positions.
    pub fn table(&self, longest: usize) -> Result<Rope> {
        // Whoever panicked left nothing half-made: a table is put there whole.
        let mut table = self.table.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(table) = &*table
            && table.cos.dim(0)? >= longest
        {
            return Ok(table.clone());
        }
        let rows = longest.next_power_of_two().min(self.context);
        Ok(table.insert(self.rows(rows)?).clone())
    }

    /// The first rows. Angles are rounded to f32 in every precision, as in the code that
    /// checkpoints are trained with; cosines and sines are f32 in bf16 too.
    fn rows(&self, rows: usize) -> Result<Rope> {
        let Rotation {
            frequencies,
            factor,
            interleaved,
        } = &self.rotation;
        let part = |f: fn(f64) -> f64| -> Result<Tensor> {
            let angles = (0..rows).flat_map(|t| {
                let turn = move |&w: &f64| f64::from(t as f32 * w as f32);
                frequencies.iter().map(turn)
            });
            let numbers = angles.map(|angle| factor * f(angle));
            let table = Tensor::from_iter(numbers, &Device::Cpu)?;
            let table = table.reshape((rows, frequencies.len()))?;
            Ok(table.to_dtype(wider(self.dtype))?.to_device(&self.device)?)
        };
        Ok(Rope {
            cos: part(f64::cos)?,
            sin: part(f64::sin)?,
            interleaved: *interleaved,
        })
    }
}
