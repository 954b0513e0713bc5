//! One new token a sequence.

use candle_core::Tensor;

use super::attention::{attend, first, mask, sloped};
use super::{OnDevice, Piece};
use crate::error::Result;
use crate::llm::tensor::ops::Attention;
use crate::llm::tensor::ops::float::Float;

/// One new token a sequence: all at once, over neighbouring slots, of which some may have none.
pub(super) struct Step {
    slots: [usize; 2],
    /// The input of each slot (of those without one, the first).
    inputs: Tensor,
    /// The slot of each input, from the first.
    places: Tensor,
    /// Where each slot's key and value go, `[slots, kv_heads, 1, D]`.
    at: Tensor,
    /// Position of each slot's token.
    positions: Vec<Option<usize>>,
    /// What tokens see in each form of attention, made once.
    seen: Vec<Seen>,
}

/// What tokens see in a form of attention.
struct Seen {
    form: Attention,
    range: [usize; 2],
    mask: Tensor,
}

impl Step {
    pub fn new<T: Float>(machine: &OnDevice<T>, pieces: &[Piece]) -> Result<Self> {
        let sizes = machine.model.sizes();
        let device = machine.model.parameters().device();
        let slots = pieces.iter().map(|p| p.slot);
        let begin = slots.clone().min().unwrap_or(0);
        let end = slots.clone().max().map_or(0, |last| last + 1);
        let count = end - begin;
        let (mut inputs, mut at) = (vec![0u32; count], vec![u32::MAX; count]);
        let mut positions = vec![None; count];
        for (input, piece) in pieces.iter().enumerate() {
            let place = piece.slot - begin;
            inputs[place] = input as u32;
            at[place] = piece.position as u32;
            positions[place] = Some(piece.position);
        }
        let places = slots.map(|slot| (slot - begin) as u32).collect();
        Ok(Self {
            slots: [begin, end],
            inputs: Tensor::from_vec(inputs, count, device)?,
            places: Tensor::from_vec(places, pieces.len(), device)?,
            at: Tensor::from_vec(at, (count, 1, 1, 1), device)?
                .broadcast_as((count, sizes.kv_heads, 1, sizes.head_dim))?
                .contiguous()?,
            positions,
            seen: Vec::new(),
        })
    }

    /// What the tokens see.
    fn seen(&mut self, form: &Attention, like: &Tensor) -> Result<&Seen> {
        let found = self.seen.iter().position(|seen| seen.form == *form);
        let window = form.window;
        let index = match found {
            Some(index) => index,
            None => {
                let known = || self.positions.iter().flatten();
                let range = [
                    known().map(|&p| first(p, window)).min().unwrap_or(0),
                    known().max().map_or(0, |&p| p + 1),
                ];
                let positions = || self.positions.iter().copied();
                let hidden = mask(positions(), range, window, (like.dtype(), like.device()))?;
                let mask = match &form.slopes {
                    None => hidden.reshape((self.positions.len(), 1, 1, range[1] - range[0]))?,
                    Some(slopes) => sloped(&hidden, positions(), range[0], form, slopes)?,
                };
                self.seen.push(Seen {
                    form: form.clone(),
                    range,
                    mask,
                });
                self.seen.len() - 1
            }
        };
        Ok(&self.seen[index])
    }

    pub fn attend<T: Float>(
        &mut self,
        machine: &OnDevice<T>,
        layer: usize,
        a: &Attention,
        qkv: [&Tensor; 3],
    ) -> Result<Tensor> {
        let (count, group, d) = (
            self.slots[1] - self.slots[0],
            a.heads / a.kv_heads,
            a.head_dim,
        );
        let [q, k, v] = qkv.map(|t| t.index_select(&self.inputs, 0));
        let q = q?.reshape((count, a.kv_heads, group, d))?;
        let new = [k?, v?].map(|t| t.reshape((count, a.kv_heads, 1, d)));
        let [k, v] = new;
        (machine.cache).write_each(layer, self.slots[0], &self.at, [&k?, &v?])?;
        let slots = self.slots;
        let seen = self.seen(a, &q)?;
        let part = machine.cache.part(layer, slots, seen.range)?;
        let out = attend(&q, &part, &seen.mask, a.scale)?;
        let out = out.reshape((count, a.heads * d))?;
        Ok(out.index_select(&self.places, 0)?)
    }
}
