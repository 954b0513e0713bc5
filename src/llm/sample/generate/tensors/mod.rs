//! Generation from tensors, on any device and in any precision.
//!
//! Keys and values stay on the device. A step is one forward of the new tokens of all sequences; what
//! goes to the device are its tokens, positions and mask, and what comes back are the last logits.

mod attention;
mod cache;
mod slots;
mod step;
#[cfg(test)]
mod tests;

use candle_core::Tensor;

use super::machine::{Machine, Next};
use crate::error::Result;
use crate::llm::model::decoder::{Decoder, New};
use crate::llm::tensor::ops::Attention;
use crate::llm::tensor::ops::float::Float;
use attention::{attend, first, mask, sloped};
use cache::Cache;
use slots::{Place, Slots};
use step::Step;

pub(super) use slots::State;

/// Most tokens that go through a layer at once, but for one token a sequence.
pub(super) const CHUNK: usize = 4096;

/// Most queries whose scores are there at once.
const QUERIES: usize = 256;

/// A model with its sequences' keys and values.
pub(super) struct OnDevice<'m, T> {
    model: &'m Decoder,
    /// `[V, width]`, in the precision of the logits.
    head: Tensor,
    /// Its bias, `[V]`.
    bias: Option<Tensor>,
    slots: Slots,
    cache: Cache,
    logits: std::marker::PhantomData<T>,
}

/// Tokens of one input that go through the layers together.
struct Piece<'a> {
    slot: usize,
    /// The position of its first token.
    position: usize,
    tokens: &'a [u32],
    /// Whether they are the input's last.
    last: bool,
}

impl<'m, T: Float> OnDevice<'m, T> {
    /// A machine for at most `most` sequences of at most `longest` tokens.
    ///
    /// # Errors
    /// A model without output head, or no memory for it.
    pub fn new(model: &'m Decoder, [most, longest]: [usize; 2]) -> Result<Self> {
        let parameters = model.parameters();
        let (dtype, device) = (parameters.dtype(), parameters.device());
        Ok(Self {
            head: model.head_tensor()?.to_dtype(T::DTYPE)?,
            bias: match model.head_bias() {
                Some(bias) => Some(bias.to_dtype(T::DTYPE)?),
                None => None,
            },
            cache: Cache::new(model.graph(), [most, longest], dtype, device)?,
            slots: Slots::new(),
            logits: std::marker::PhantomData,
            model,
        })
    }

    /// Hidden states after the last tokens of those inputs whose last tokens are among them.
    fn forward(&self, pieces: &[Piece]) -> Result<Tensor> {
        let (mut tokens, mut positions, mut wanted) = (Vec::new(), Vec::new(), Vec::new());
        for piece in pieces {
            tokens.extend_from_slice(piece.tokens);
            positions.extend(
                (piece.position..)
                    .take(piece.tokens.len())
                    .map(|p| p as u32),
            );
            if piece.last {
                wanted.push(tokens.len() as u32 - 1);
            }
        }
        let new = New {
            tokens: tokens.into(),
            positions: positions.into(),
            wanted: wanted.into(),
        };
        if pieces.iter().all(|p| p.tokens.len() == 1) {
            let mut step = Step::new(self, pieces)?;
            let attend =
                &mut |slot, form: &Attention, qkv: [&Tensor; 3]| step.attend(self, slot, form, qkv);
            self.model.cached(&new, attend)
        } else {
            let attend = &mut |slot, form: &Attention, qkv: [&Tensor; 3]| {
                self.attend_each(pieces, slot, form, qkv)
            };
            self.model.cached(&new, attend)
        }
    }

    /// Attention of sequences one by one.
    fn attend_each(
        &self,
        pieces: &[Piece],
        layer: usize,
        form: &Attention,
        qkv: [&Tensor; 3],
    ) -> Result<Tensor> {
        let mut row = 0;
        let mut outputs = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let n = piece.tokens.len();
            let [q, k, v] = qkv.map(|t| t.narrow(0, row, n));
            outputs.push(self.attend_one(piece, layer, form, [q?, k?, v?])?);
            row += n;
        }
        Ok(Tensor::cat(&outputs, 0)?)
    }

    /// Attention of the tokens of a sequence: `[n, heads · D]`.
    fn attend_one(
        &self,
        piece: &Piece,
        layer: usize,
        a: &Attention,
        [q, k, v]: [Tensor; 3],
    ) -> Result<Tensor> {
        let (n, group, d) = (piece.tokens.len(), a.heads / a.kv_heads, a.head_dim);
        let heads = |t: &Tensor| t.reshape((n, a.kv_heads, d))?.transpose(0, 1);
        let new = [heads(&k)?, heads(&v)?];
        (self.cache).write(layer, piece.slot, piece.position, [&new[0], &new[1]])?;
        let mut outputs = Vec::new();
        for from in (0..n).step_by(QUERIES) {
            let m = QUERIES.min(n - from);
            let at = piece.position + from;
            let seen = [first(at, a.window), at + m];
            let part = (self.cache).part(layer, [piece.slot, piece.slot + 1], seen)?;
            let positions = || (at..at + m).map(Some);
            let hidden = mask(positions(), seen, a.window, (q.dtype(), q.device()))?;
            // A key head's queries: those of its group, one after the other.
            let length = seen[1] - seen[0];
            let hidden = match &a.slopes {
                None => hidden
                    .unsqueeze(0)?
                    .broadcast_as((group, m, length))?
                    .reshape((1, 1, group * m, length))?,
                Some(slopes) => sloped(&hidden, positions(), seen[0], a, slopes)?
                    .permute((1, 2, 0, 3))?
                    .reshape((1, a.kv_heads, group * m, length))?,
            };
            let q = q.narrow(0, from, m)?.reshape((m, a.kv_heads, group, d))?;
            let q = q
                .permute((1, 2, 0, 3))?
                .reshape((1, a.kv_heads, group * m, d))?;
            let out = attend(&q, &part, &hidden, a.scale)?;
            let out = out
                .reshape((a.kv_heads, group, m, d))?
                .permute((2, 0, 1, 3))?;
            outputs.push(out.reshape((m, a.heads * d))?);
        }
        Ok(Tensor::cat(&outputs, 0)?)
    }
}

impl<T: Float> Machine for OnDevice<'_, T> {
    type Number = T;
    type State = State;

    fn start(&self) -> State {
        State::new()
    }

    fn next(&mut self, inputs: &mut [Next<State>], logits: &mut Vec<T>) -> Result<()> {
        let mut places = Vec::with_capacity(inputs.len());
        let mut longest = 0;
        for (state, tokens) in inputs.iter_mut() {
            places.push(self.slots.own(state));
            longest = longest.max(state.length + tokens.len());
        }
        self.cache.reserve(self.slots.count(), longest)?;
        for (place, (state, _)) in places.iter().zip(inputs.iter()) {
            if let Place::Moved { from, to } = *place {
                self.cache.copy(from, to, state.length)?;
            }
        }
        let mut hidden = Vec::new();
        for pieces in chunks(inputs, &places) {
            hidden.push(self.forward(&pieces)?);
        }
        for (state, tokens) in inputs.iter_mut() {
            state.length += tokens.len();
        }
        let hidden = Tensor::cat(&hidden, 0)?.to_dtype(T::DTYPE)?;
        let mut all = hidden.matmul(&self.head.t()?)?;
        if let Some(bias) = &self.bias {
            all = all.broadcast_add(bias)?;
        }
        *logits = all.flatten_all()?.to_vec1()?;
        Ok(())
    }
}

/// The tokens of all inputs, in pieces that go through the layers together. The last tokens of at
/// least one input are among each chunk's but for inputs longer than a chunk.
fn chunks<'a>(inputs: &[Next<'a, State>], places: &[Place]) -> Vec<Vec<Piece<'a>>> {
    let mut chunks = vec![Vec::new()];
    let mut count = 0;
    for ((state, tokens), place) in inputs.iter().zip(places) {
        let &(Place::Own(slot) | Place::Moved { to: slot, .. }) = place;
        let (mut position, mut left): (usize, &'a [u32]) = (state.length, tokens);
        while !left.is_empty() {
            if count >= CHUNK && left.len() > 1 {
                chunks.push(Vec::new());
                count = 0;
            }
            let (tokens, rest) = left.split_at(left.len().min((CHUNK - count.min(CHUNK)).max(1)));
            if let Some(chunk) = chunks.last_mut() {
                chunk.push(Piece {
                    slot,
                    position,
                    last: rest.is_empty(),
                    tokens,
                });
            }
            (position, left, count) = (position + tokens.len(), rest, count + tokens.len());
        }
    }
    chunks
}
