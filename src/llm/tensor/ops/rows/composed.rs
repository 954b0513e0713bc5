//! [`rows`](super::rows) and [`embedding`](super::embedding) composed.

use std::rc::Rc;

use candle_core::{Device, Result as Candle, Tensor};

use crate::error::Result;
use crate::llm::tensor::ops::composed::{NONE, wide};
use crate::llm::tensor::ops::kernel::below;
use crate::llm::tensor::tape::{Node, Tape};

/// Backward: row `i` of the gradient is added to row `indices[i]`.
///
/// Not by candle's `index_add`: on a GPU one thread adds a whole column there, one row after
/// another, and rounds to bf16 after each: hundreds of a frequent token's gradients would be lost.
/// Here rows of one index are summed in pairs, in f32 and in an order that depends on the indices
/// only, rounded once, and put into place by one selection.
pub fn rows(tape: &Tape, x: &Node, indices: &Rc<[u32]>) -> Result<Node> {
    let (height, _) = x.value().dims2()?;
    below("rows", indices, height)?;
    let value = x.value().contiguous()?;
    let out = value.index_select(&index(indices, value.device())?, 0)?;
    Ok(tape.record(out, &[x], || {
        // Uploaded now: in the backward it might wait for the device.
        let (x, spread) = (x.target(), Spread::new(indices, height, value.device()));
        Box::new(move |gradient, sums| sums.add(&x, spread?.apply(&gradient)?))
    }))
}

fn index(indices: &[u32], device: &Device) -> Candle<Tensor> {
    Tensor::from_slice(indices, indices.len(), device)
}

/// Sums of rows of equal index ([`Pairs`]) on a device.
pub(in crate::llm::tensor::ops) struct Spread {
    levels: Vec<[Tensor; 2]>,
    places: Tensor,
}

impl Spread {
    /// Of rows with those indices, which are below `height`.
    pub fn new(indices: &[u32], height: usize, device: &Device) -> Candle<Self> {
        let pairs = Pairs::new(indices, height);
        let levels = pairs.levels.iter().map(|[left, right]| {
            let [left, right] = [left, right].map(|side| index(side, device));
            Ok([left?, right?])
        });
        Ok(Self {
            levels: levels.collect::<Candle<_>>()?,
            places: index(&pairs.places, device)?,
        })
    }

    /// For each index the sum of its rows of `gradient`, or zeros.
    pub fn apply(&self, gradient: &Tensor) -> Candle<Tensor> {
        let gradient = gradient.contiguous()?;
        let mut sum = if self.levels.is_empty() {
            gradient.clone()
        } else {
            wide(&gradient)?
        };
        for [left, right] in &self.levels {
            sum = (sum.index_select(left, 0)? + sum.index_select(right, 0)?)?;
        }
        (sum.to_dtype(gradient.dtype())?).index_select(&self.places, 0)
    }
}

/// How rows of equal index are summed.
struct Pairs {
    /// Of each level, the two rows of the level before that make each row.
    levels: Vec<[Vec<u32>; 2]>,
    /// Where the sum of each index is, after the last level.
    places: Vec<u32>,
}

impl Pairs {
    fn new(indices: &[u32], height: usize) -> Self {
        let mut rows: Vec<u32> = (0..indices.len() as u32).collect();
        // Stable: rows of one index stay in order.
        rows.sort_by_key(|&row| indices[row as usize]);
        let mut counts: Vec<usize> = (rows
            .chunk_by(|&a, &b| indices[a as usize] == indices[b as usize]))
        .map(<[u32]>::len)
        .collect();
        let mut used: Vec<u32> = rows.iter().map(|&row| indices[row as usize]).collect();
        used.dedup();
        let mut levels = Vec::new();
        while counts.iter().any(|&count| count > 1) {
            let [mut left, mut right] = [Vec::new(), Vec::new()];
            let mut rest = &rows[..];
            for count in &mut counts {
                let (mine, others) = rest.split_at(*count);
                for pair in mine.chunks(2) {
                    left.push(pair[0]);
                    right.push(pair.get(1).copied().unwrap_or(NONE));
                }
                (rest, *count) = (others, count.div_ceil(2));
            }
            rows = (0..left.len() as u32).collect();
            levels.push([left, right]);
        }
        let mut places = vec![NONE; height];
        for (index, row) in used.into_iter().zip(rows) {
            places[index as usize] = row;
        }
        Self { levels, places }
    }
}
