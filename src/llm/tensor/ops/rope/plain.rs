//! [`rope`](super::rope) by candle's graph.

use candle_core::Tensor;

use super::Rope;
use crate::error::Result;
use crate::llm::tensor::ops::Starts;
use crate::llm::tensor::ops::plain::by_graph;
use crate::llm::tensor::tape::{Node, Tape};

/// `rope`
pub fn rope(tape: &Tape, x: &Node, heads: usize, table: &Rope, starts: &Starts) -> Result<Node> {
    let positions: Vec<u32> = starts.positions().collect();
    let positions = Tensor::from_vec(positions, x.value().dim(0)?, x.value().device())?;
    let pick = |t: &Tensor| {
        t.to_dtype(x.value().dtype())?
            .index_select(&positions, 0)?
            .unsqueeze(1)
    };
    let (cos, sin) = (pick(&table.cos)?, pick(&table.sin)?);
    by_graph(tape, &[x], |t| {
        let (n, width) = t[0].dims2()?;
        let (half, head_dim) = (cos.dim(2)?, width / heads);
        let x = t[0].reshape((n, heads, head_dim))?;
        let (pairs, rest) = (x.narrow(2, 0, 2 * half)?, head_dim - 2 * half);
        let (a, b) = if table.interleaved {
            let pairs = pairs.reshape((n, heads, half, 2))?;
            let side = |i| pairs.narrow(3, i, 1)?.reshape((n, heads, half));
            (side(0)?, side(1)?)
        } else {
            (pairs.narrow(2, 0, half)?, pairs.narrow(2, half, half)?)
        };
        let first = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
        let second = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
        let mut parts = if table.interleaved {
            let both = [first.unsqueeze(3)?, second.unsqueeze(3)?];
            vec![Tensor::cat(&both, 3)?.reshape((n, heads, 2 * half))?]
        } else {
            vec![first, second]
        };
        if rest > 0 {
            parts.push(x.narrow(2, 2 * half, rest)?);
        }
        Tensor::cat(&parts, 2)?.reshape((n, width))
    })
}
