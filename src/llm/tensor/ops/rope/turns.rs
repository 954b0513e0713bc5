//! Rotations of a pack's tokens on a device.

use candle_core::{Result as Candle, Tensor};

use super::Rope;
use crate::llm::tensor::ops::Starts;
use crate::llm::tensor::ops::composed::{NONE, wider};

/// The rotations of a pack's tokens, in the precision of statistics: D wide for heads of D.
pub struct Turns {
    /// Cosines of each number, 1 of what is not turned: `[N, 1, D]`.
    pub cos: Tensor,
    /// Sines, of the first of each pair with the other sign, 0 of what is not turned: `[N, 1, D]`.
    pub sin: Tensor,
    /// Indices that swap the two of each pair, and select zeros for the rest: `[D]`.
    pub swap: Tensor,
}

impl Turns {
    /// Of the tokens of sequences, in heads of that width, for `x`.
    pub fn new(starts: &Starts, table: &Rope, head_dim: usize, x: &Tensor) -> Candle<Self> {
        let (n, device) = (x.dim(0)?, x.device());
        let half = table.cos.dim(1)? as u32;
        let positions: Vec<u32> = starts.positions().collect();
        let positions = Tensor::from_vec(positions, n, device)?;
        let rows = |table: &Tensor| {
            (table.contiguous()?.index_select(&positions, 0)?).to_dtype(wider(x.dtype()))
        };
        let (cos, sin) = (rows(&table.cos)?, rows(&table.sin)?);
        let mut swap: Vec<u32> = if table.interleaved {
            (0..2 * half).map(|i| i ^ 1).collect()
        } else {
            (half..2 * half).chain(0..half).collect()
        };
        swap.resize(head_dim, NONE);
        let rest = head_dim - 2 * half as usize;
        // Of both numbers of each pair, `[N, 1, D]`.
        let spread = |first: &Tensor, second: &Tensor, of_rest: f64| {
            let pairs = if table.interleaved {
                Tensor::stack(&[first, second], 2)?.flatten(1, 2)?
            } else {
                Tensor::cat(&[first, second], 1)?
            };
            let all = if rest > 0 {
                let rest = Tensor::full(of_rest, (n, rest), device)?;
                Tensor::cat(&[&pairs, &rest.to_dtype(pairs.dtype())?], 1)?
            } else {
                pairs
            };
            all.unsqueeze(1)
        };
        Ok(Self {
            cos: spread(&cos, &cos, 1.0)?,
            sin: spread(&sin.neg()?, &sin, 0.0)?,
            swap: Tensor::from_vec(swap, head_dim, device)?,
        })
    }
}
