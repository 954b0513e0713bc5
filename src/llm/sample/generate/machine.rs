//! Machines: implementations that compute the logits of the next tokens.

#[cfg(test)]
use candle_core::DType;
use rayon::prelude::*;

use super::cache::Cache;
use super::engine::{Engine, Input, Scratch};
use crate::error::Result;
use crate::llm::model::decoder::Decoder;
#[cfg(test)]
use crate::llm::model::sequence::Packed;
use crate::llm::tensor::ops::float::Float;
use crate::llm::tensor::ops::matmul::Threads;

/// Weights of so many bytes stay in a core's cache: then threads share sequences, not products.
const SMALL: usize = 4 << 20;

/// A sequence so far, and the tokens that continue it.
pub(super) type Next<'a, S> = (&'a mut S, &'a [u32]);

/// Something that says what comes next.
pub(super) trait Machine: Sync {
    /// The precision of its logits.
    type Number: Float;
    /// What it remembers of a sequence.
    type State: Clone + Send;

    /// A sequence without tokens.
    fn start(&self) -> Self::State;

    /// Takes the tokens that continue each sequence, at least one, and gives `each` the logits of
    /// the token after the last.
    ///
    /// # Errors
    /// Those of the model.
    fn next(
        &mut self,
        inputs: &mut [Next<Self::State>],
        logits: &mut Vec<Self::Number>,
    ) -> Result<()>;
}

/// On the CPU, with caches.
pub(super) struct Cached<T> {
    engine: Engine<T>,
    scratch: Vec<Scratch<T>>,
    small: bool,
}

impl<T: Float> Cached<T> {
    /// A machine for sequences of at most `longest` tokens.
    ///
    /// # Errors
    /// As [`Engine::new`].
    pub fn new(model: &Decoder, longest: usize) -> Result<Self> {
        let engine = Engine::new(model, longest)?;
        Ok(Self {
            small: engine.bytes() <= SMALL,
            scratch: Vec::new(),
            engine,
        })
    }
}

impl<T: Float> Machine for Cached<T> {
    type Number = T;
    type State = Cache<T>;

    fn start(&self) -> Cache<T> {
        self.engine.cache()
    }

    fn next(&mut self, inputs: &mut [Next<Cache<T>>], logits: &mut Vec<T>) -> Result<()> {
        let mut inputs: Vec<Input<T>> = (inputs.iter_mut())
            .map(|(cache, tokens)| Input { cache, tokens })
            .collect();
        let apart = self.small && inputs.iter().all(|i| i.tokens.len() == 1);
        let (groups, threads) = if apart {
            (rayon::current_num_threads().min(inputs.len()), Threads::One)
        } else {
            (1, Threads::All)
        };
        let size = inputs.len().div_ceil(groups.max(1)).max(1);
        let vocabulary = self.engine.sizes().vocabulary;
        logits.resize(inputs.len() * vocabulary, T::zero());
        let most = groups.max(self.scratch.len());
        self.scratch.resize_with(most, Scratch::default);
        let engine = &self.engine;
        let run = |inputs: &mut [Input<T>], scratch: &mut Scratch<T>, logits: &mut [T]| {
            engine.forward(inputs, scratch, threads)?;
            for (i, logits) in logits.chunks_exact_mut(vocabulary).enumerate() {
                logits.copy_from_slice(engine.logits(scratch, i));
            }
            Ok(())
        };
        match groups {
            1 => run(&mut inputs, &mut self.scratch[0], logits),
            _ => (inputs.par_chunks_mut(size))
                .zip(&mut self.scratch)
                .zip(logits.par_chunks_mut(size * vocabulary))
                .try_for_each(|((inputs, scratch), logits)| run(inputs, scratch, logits)),
        }
    }
}

/// Without caches, the twin of the others in tests: every token runs its sequence again.
#[cfg(test)]
pub(super) struct Plain<'m>(pub &'m Decoder);

#[cfg(test)]
impl Machine for Plain<'_> {
    type Number = f64;
    type State = Vec<u32>;

    fn start(&self) -> Vec<u32> {
        Vec::new()
    }

    fn next(&mut self, inputs: &mut [Next<Vec<u32>>], logits: &mut Vec<f64>) -> Result<()> {
        for (state, tokens) in inputs.iter_mut() {
            state.extend_from_slice(tokens);
        }
        let packed = Packed::new(inputs.iter().map(|(state, _)| &state[..]));
        let rows = self.0.last_logits(&packed)?.to_dtype(DType::F64)?;
        *logits = rows.flatten_all()?.to_vec1()?;
        Ok(())
    }
}
