//! One sequence, fed as its tokens come.

use candle_core::DType;

use super::cache::Cache;
use super::check;
use super::machine::{Cached, Machine, Plain};
use crate::error::Result;
use crate::llm::decoder::Decoder;

/// A sequence of which a model remembers keys and values.
///
/// ```no_run
/// # fn main() -> pistar::Result<()> {
/// use candle_core::{DType, Device};
/// use pistar::llm::{decoder::Decoder, generate::Session};
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
    Plain(Plain<'m>, Vec<u32>),
}

impl<'m> Session<'m> {
    /// Without tokens.
    ///
    /// # Errors
    /// A model without output head, or a failing device.
    pub fn new(model: &'m Decoder) -> Result<Self> {
        let (parameters, longest) = (model.parameters(), model.architecture().context);
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
            _ => Kind::Plain(Plain(model), Vec::new()),
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
        let a = self.model.architecture();
        // The last token that is fed may be the last that the model takes.
        check("tokens", tokens, a.vocabulary, a.context + 1 - self.length)?;
        let logits = match &mut self.kind {
            Kind::F32(machine, cache) => {
                let mut logits = Vec::new();
                machine.next(&mut [(cache, tokens)], &mut logits)?;
                logits.into_iter().map(f64::from).collect()
            }
            Kind::F64(machine, cache) => {
                let mut logits = Vec::new();
                machine.next(&mut [(cache, tokens)], &mut logits)?;
                logits
            }
            Kind::Plain(machine, state) => {
                let mut logits = Vec::new();
                machine.next(&mut [(state, tokens)], &mut logits)?;
                logits
            }
        };
        self.length += tokens.len();
        Ok(logits)
    }
}
