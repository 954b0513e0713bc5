//! One sequence, fed as its tokens come.

use candle_core::DType;

use super::cache::Cache;
use super::check;
use super::machine::{Cached, Machine};
use super::tensors::{OnDevice, State};
use crate::error::Result;
use crate::llm::model::decoder::Decoder;
use crate::llm::tensor::ops::float::Float;

/// A sequence of which a model remembers keys and values.
///
/// ```no_run
/// # fn main() -> pistar::Result<()> {
/// use candle_core::{DType, Device};
/// use pistar::llm::{model::decoder::Decoder, sample::generate::Session};
/// let model = Decoder::load("models/llama", DType::F32, &Device::Cpu)?;
/// let mut session = Session::new(&model)?;
/// session.feed(&[1, 403])?;
/// let logits = session.feed(&[407])?; // of the fourth token
/// # Ok(()) }
/// ```
pub struct Session<'m> {
    model: &'m Decoder,
    length: usize,
    kind: Kind<'m>,
}

enum Kind<'m> {
    F32(Box<Cached<f32>>, Cache<f32>),
    F64(Box<Cached<f64>>, Cache<f64>),
    Tensors32(Box<OnDevice<'m, f32>>, State),
    Tensors64(Box<OnDevice<'m, f64>>, State),
}

impl<'m> Session<'m> {
    /// Without tokens.
    ///
    /// # Errors
    /// A model without output head, or a failing device.
    pub fn new(model: &'m Decoder) -> Result<Self> {
        let (parameters, longest) = (model.parameters(), model.sizes().context);
        let kind = match (parameters.device().is_cpu(), parameters.dtype()) {
            (true, DType::F32) => {
                let machine = Cached::new(model, longest)?;
                let cache = machine.start();
                Kind::F32(Box::new(machine), cache)
            }
            (true, DType::F64) => {
                let machine = Cached::new(model, longest)?;
                let cache = machine.start();
                Kind::F64(Box::new(machine), cache)
            }
            (_, DType::F64) => {
                let machine = OnDevice::new(model, [1, longest])?;
                let state = machine.start();
                Kind::Tensors64(Box::new(machine), state)
            }
            _ => {
                let machine = OnDevice::new(model, [1, longest])?;
                let state = machine.start();
                Kind::Tensors32(Box::new(machine), state)
            }
        };
        Ok(Self {
            model,
            length: 0,
            kind,
        })
    }

    /// Adds tokens; gives the logits of the one after the last.
    ///
    /// # Errors
    /// No token, one beyond the vocabulary, more than the model takes, or a failing device.
    pub fn feed(&mut self, tokens: &[u32]) -> Result<Vec<f64>> {
        let a = self.model.sizes();
        // The last token that is fed may be the last that the model takes.
        check("tokens", tokens, a.vocabulary, a.context + 1 - self.length)?;
        let logits = match &mut self.kind {
            Kind::F32(machine, cache) => fed(&mut **machine, cache, tokens)?,
            Kind::F64(machine, cache) => fed(&mut **machine, cache, tokens)?,
            Kind::Tensors32(machine, state) => fed(&mut **machine, state, tokens)?,
            Kind::Tensors64(machine, state) => fed(&mut **machine, state, tokens)?,
        };
        self.length += tokens.len();
        Ok(logits)
    }
}

fn fed<M: Machine>(machine: &mut M, state: &mut M::State, tokens: &[u32]) -> Result<Vec<f64>> {
    let mut logits = Vec::new();
    machine.next(&mut [(state, tokens)], &mut logits)?;
    Ok(logits.into_iter().map(Float::wide).collect())
}
