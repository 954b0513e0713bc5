//! Keys and values of the tokens so far, in tensors.

use candle_core::{DType, Device, Tensor};

use crate::error::{Error, Result};
use crate::llm::model::graph::Graph;

/// Tokens that there is room for at first.
const FEWEST: usize = 64;

/// Of every attention the keys and the values, `[slots, kv_heads, tokens, D]`: those of neighbouring
/// slots are one batch of matrices to a product. Memory is doubled as it is needed.
pub(super) struct Cache {
    layers: Vec<[Tensor; 2]>,
    kv_heads: usize,
    head_dim: usize,
    /// Most tokens of a sequence.
    longest: usize,
    /// Most slots that will be wanted.
    most: usize,
    slots: usize,
    tokens: usize,
    dtype: DType,
    device: Device,
}

impl Cache {
    /// Without room; there will be for at most `most` sequences of `longest` tokens.
    pub fn new(
        graph: &Graph,
        [most, longest]: [usize; 2],
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let a = graph.sizes;
        let empty = Tensor::zeros((0, a.kv_heads, 0, a.head_dim), dtype, device)?;
        Ok(Self {
            layers: vec![[empty.clone(), empty]; graph.attentions],
            kv_heads: a.kv_heads,
            head_dim: a.head_dim,
            longest: longest.min(a.context),
            most,
            slots: 0,
            tokens: 0,
            dtype,
            device: device.clone(),
        })
    }

    /// Makes room for that many slots, of that many tokens.
    ///
    /// # Errors
    /// The device has too little memory.
    pub fn reserve(&mut self, slots: usize, tokens: usize) -> Result<()> {
        if slots <= self.slots && tokens <= self.tokens {
            return Ok(());
        }
        let grown = |want: usize, have: usize, most: usize| {
            if want <= have {
                have
            } else {
                want.max(2 * have).min(most.max(want))
            }
        };
        let slots = grown(slots, self.slots, self.most);
        let tokens = grown(
            tokens.max(FEWEST.min(self.longest)),
            self.tokens,
            self.longest,
        );
        let shape = (slots, self.kv_heads, tokens, self.head_dim);
        // One after the other: the old memory is free again before the next is asked for.
        for index in 0..2 * self.layers.len() {
            let fresh = Tensor::zeros(shape, self.dtype, &self.device)
                .map_err(|e| self.full(slots, tokens, &e))?;
            let part = &mut self.layers[index / 2][index % 2];
            if self.slots > 0 {
                fresh.narrow(0, 0, self.slots)?.slice_set(part, 2, 0)?;
            }
            *part = fresh;
        }
        (self.slots, self.tokens) = (slots, tokens);
        Ok(())
    }

    /// The keys and values of neighbouring slots, tokens `from` to `to`: `[slots, kv_heads, to −
    /// from, D]`.
    pub fn part(
        &self,
        layer: usize,
        slots: [usize; 2],
        [from, to]: [usize; 2],
    ) -> Result<[Tensor; 2]> {
        let [keys, values] = &self.layers[layer];
        let part = |t: &Tensor| {
            t.narrow(0, slots[0], slots[1] - slots[0])?
                .narrow(2, from, to - from)
        };
        Ok([part(keys)?, part(values)?])
    }

    /// Writes keys and values `[kv_heads, n, D]` of a slot, from token `at`.
    pub fn write(&self, layer: usize, slot: usize, at: usize, new: [&Tensor; 2]) -> Result<()> {
        for (part, new) in self.layers[layer].iter().zip(new) {
            let new = new.contiguous()?.unsqueeze(0)?;
            part.narrow(0, slot, 1)?.slice_set(&new, 2, at)?;
        }
        Ok(())
    }

    /// Writes a key and a value `[slots, kv_heads, 1, D]` into each of the slots from `first`, at the
    /// token that `at` says, of the same shape; `u32::MAX` is nowhere.
    pub fn write_each(
        &self,
        layer: usize,
        first: usize,
        at: &Tensor,
        new: [&Tensor; 2],
    ) -> Result<()> {
        let slots = at.dim(0)?;
        for (part, new) in self.layers[layer].iter().zip(new) {
            let part = part.narrow(0, first, slots)?;
            part.scatter_set(at, &new.contiguous()?, 2)?;
        }
        Ok(())
    }

    /// Copies the first tokens of a slot to another.
    pub fn copy(&self, from: usize, to: usize, tokens: usize) -> Result<()> {
        for part in self.layers.iter().flatten() {
            let old = part.narrow(0, from, 1)?.narrow(2, 0, tokens)?;
            part.narrow(0, to, 1)?
                .slice_set(&old.force_contiguous()?, 2, 0)?;
        }
        Ok(())
    }

    fn full(&self, slots: usize, tokens: usize, error: &candle_core::Error) -> Error {
        let numbers = 2 * self.layers.len() * slots * tokens * self.kv_heads * self.head_dim;
        let bytes = (numbers * self.dtype.size_in_bytes()) as f64 / 1e9;
        Error::invalid(
            "generation",
            format!(
                "keys and values of {slots} sequences of {tokens} tokens take {bytes:.1} GB: {error}"
            ),
            "run fewer sequences at once (--batch, in training --generation-batch), or give a smaller --max-new-tokens",
        )
    }
}
