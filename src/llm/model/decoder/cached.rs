//! A forward of tokens that continue sequences, whose attention is someone else's.

use std::rc::Rc;

use candle_core::{D, DType, Tensor};

use super::Decoder;
use crate::error::Result;
use crate::llm::tensor::ops;
use crate::llm::tensor::tape::{Node, Tape};

/// Tokens that continue sequences, those of one sequence next to each other.
pub(in crate::llm) struct New {
    pub tokens: Rc<[u32]>,
    /// The index of each in its sequence.
    pub positions: Rc<[u32]>,
    /// The rows whose hidden states are wanted.
    pub wanted: Rc<[u32]>,
}

/// The attention of a layer: queries `[N, heads · D]`, keys and values `[N, kv_heads · D]`, rotated,
/// to `[N, heads · D]`.
pub(in crate::llm) type Attend<'a> = dyn FnMut(usize, [&Tensor; 3]) -> Result<Tensor> + 'a;

impl Decoder {
    /// The last block's output, normalised, of the wanted rows: `[M, width]`. The tokens are below
    /// the vocabulary, their positions below the context.
    ///
    /// # Errors
    /// Those of `attend`, or a failing device.
    pub(in crate::llm) fn cached(&self, new: &New, attend: &mut Attend) -> Result<Tensor> {
        let a = &self.architecture;
        let tape = &Tape::idle();
        let mut x = ops::embedding(tape, &self.node(tape, self.embedding), &new.tokens)?;
        if a.embedding_scale != 1.0 {
            x = ops::scale(tape, &x, a.embedding_scale)?;
        }
        if let Some(table) = self.positions {
            let p = ops::embedding(tape, &self.node(tape, table), &new.positions)?;
            x = ops::add(tape, &x, &p)?;
        }
        let turns = self.turns(&new.positions)?;
        for (index, block) in self.blocks.iter().enumerate() {
            let h = self.normalise(tape, block.attention_norm, &x)?;
            let [q, k, v] = [block.query, block.key, block.value].map(|l| self.linear(tape, l, &h));
            let (mut q, mut k) = (q?.value().clone(), k?.value().clone());
            if let Some(turns) = &turns {
                q = turned(&q, a.heads, turns)?;
                k = turned(&k, a.kv_heads, turns)?;
            }
            let mixed = Node::constant(attend(index, [&q, &k, v?.value()])?);
            x = ops::add(tape, &x, &self.linear(tape, block.output, &mixed)?)?;
            x = ops::add(tape, &x, &self.mix(tape, block, &x)?)?;
        }
        let x = ops::rows(tape, &x, &new.wanted)?;
        Ok(self.normalise(tape, self.norm, &x)?.value().clone())
    }

    /// Cosines and sines of those positions, `[N, 1, D/2]`, if positions are rotary.
    fn turns(&self, positions: &Rc<[u32]>) -> Result<Option<[Tensor; 2]>> {
        let Some(rope) = &self.rope else {
            return Ok(None);
        };
        let longest = positions.iter().max().map_or(0, |&p| p as usize + 1);
        let table = rope.table(longest)?;
        let rows = Tensor::from_slice(positions, positions.len(), self.parameters.device())?;
        let pick = |t: &Tensor| wide(t)?.index_select(&rows, 0)?.unsqueeze(1);
        Ok(Some([pick(&table.cos)?, pick(&table.sin)?]))
    }
}

/// Every head of `x` rotated, as [`ops::rope`] does; in f32 where `x` has fewer bits.
fn turned(x: &Tensor, heads: usize, [cos, sin]: &[Tensor; 2]) -> candle_core::Result<Tensor> {
    let (n, width) = x.dims2()?;
    let half = width / heads / 2;
    let heads = wide(x)?.reshape((n, heads, 2 * half))?;
    let (a, b) = (heads.narrow(2, 0, half)?, heads.narrow(2, half, half)?);
    let first = (a.broadcast_mul(cos)? - b.broadcast_mul(sin)?)?;
    let second = (b.broadcast_mul(cos)? + a.broadcast_mul(sin)?)?;
    Tensor::cat(&[first, second], D::Minus1)?
        .reshape((n, width))?
        .to_dtype(x.dtype())
}

/// In f32 if it has fewer bits.
fn wide(x: &Tensor) -> candle_core::Result<Tensor> {
    match x.dtype() {
        DType::F64 => Ok(x.clone()),
        _ => x.to_dtype(DType::F32),
    }
}
