//! Attention's gradients.

use candle_core::{Result as Candle, Tensor};

use super::forward::joined;
use super::{Group, Parts, Plan};
use crate::error::Result;
use crate::llm::tensor::ops::composed::{augmented, columns, product, wide, wider, with_ones};

/// Tensors that a group's gradients are made of besides its inputs.
pub struct Outer {
    /// `ln Σ exp` of the scores, `[Z, L · G, 1]`.
    pub lse: Tensor,
    /// `dO`, `[Z, L · G, D]`.
    pub gradient: Tensor,
    /// `rowsum(dO O)`, `[Z, L · G, 1]`.
    pub pull: Tensor,
}

/// The gradients of a group's scaled queries, keys and values.
pub fn backward(plan: &Plan, group: &Group, parts: Parts, outer: Outer) -> Result<[Tensor; 3]> {
    let dtype = parts.q.dtype();
    let (lse, pull) = (
        columns(&outer.lse.neg()?, dtype)?,
        columns(&outer.pull.neg()?, dtype)?,
    );
    let inner = Inner {
        q: augmented(&parts.q, &lse)?,
        k: with_ones(&parts.k, lse.len())?,
        v: with_ones(&parts.v, pull.len())?,
        gradient: augmented(&outer.gradient, &pull)?,
        width: parts.v.dim(2)?,
    };
    drop((parts, outer, lse, pull));
    let mut all = [Vec::new(), Vec::new(), Vec::new()];
    for (from, size) in group.slices() {
        let gradients = inner.slice(from, size)?.gradients(plan, group)?;
        for (all, gradient) in all.iter_mut().zip(gradients) {
            all.push(gradient);
        }
    }
    let [dq, dk, dv] = all;
    Ok([joined(dq, 0)?, joined(dk, 0)?, joined(dv, 0)?])
}

/// Inputs with columns, such that `q kᵀ` is the scores less their `ln Σ exp` and `gradient vᵀ` is
/// `dP − rowsum(dO O)`. Without columns they are `width` wide.
struct Inner {
    q: Tensor,
    k: Tensor,
    v: Tensor,
    gradient: Tensor,
    width: usize,
}

impl Inner {
    fn slice(&self, from: usize, size: usize) -> Candle<Self> {
        Ok(Self {
            q: self.q.narrow(0, from, size)?,
            k: self.k.narrow(0, from, size)?,
            v: self.v.narrow(0, from, size)?,
            gradient: self.gradient.narrow(0, from, size)?,
            width: self.width,
        })
    }

    fn gradients(&self, plan: &Plan, group: &Group) -> Candle<[Tensor; 3]> {
        let share = group.share;
        let mut dq = Vec::new();
        let [mut dk, mut dv] = [(); 2].map(|()| Sum::new(group.length, group.blocks.len()));
        // From the last block, which may see all keys.
        for block in group.blocks.iter().rev() {
            let queries = |x: &Tensor| x.narrow(1, block.from * share, block.queries() * share);
            let keys = |x: &Tensor| x.narrow(1, block.first, block.keys());
            let (q, gradient) = (queries(&self.q)?, queries(&self.gradient)?);
            let (k, v) = (keys(&self.k)?, keys(&self.v)?);
            let p = plan.masked(product(&q, &k.t()?)?, block, share)?.exp()?;
            let ds = (product(&gradient, &v.t()?)? * &p)?;
            dv.add(self.narrow(product(&p.t()?, &gradient)?)?, block.first)?;
            drop(p);
            dk.add(self.narrow(product(&ds.t()?, &q)?)?, block.first)?;
            dq.push(self.narrow(product(&ds, &k)?)?);
        }
        dq.reverse();
        let dtype = self.q.dtype();
        Ok([joined(dq, 1)?, dk.take(dtype)?, dv.take(dtype)?])
    }

    /// Without the columns that came of columns.
    fn narrow(&self, x: Tensor) -> Candle<Tensor> {
        x.narrow(2, 0, self.width)?.contiguous()
    }
}

/// A sum over blocks, each of which adds to some of the keys, in the precision of statistics.
struct Sum {
    sum: Option<Tensor>,
    length: usize,
    blocks: usize,
}

impl Sum {
    fn new(length: usize, blocks: usize) -> Self {
        Self {
            sum: None,
            length,
            blocks,
        }
    }

    /// Adds to the keys from `first` on.
    fn add(&mut self, part: Tensor, first: usize) -> Candle<()> {
        let (batch, keys, width) = part.dims3()?;
        if self.blocks == 1 {
            self.sum = Some(part);
            return Ok(());
        }
        let part = wide(&part)?;
        match &self.sum {
            None if keys == self.length => self.sum = Some(part),
            None => {
                let sum = Tensor::zeros(
                    (batch, self.length, width),
                    wider(part.dtype()),
                    part.device(),
                )?;
                sum.slice_set(&part, 1, first)?;
                self.sum = Some(sum);
            }
            Some(sum) => {
                let part = (sum.narrow(1, first, keys)? + part)?;
                sum.slice_set(&part, 1, first)?;
            }
        }
        Ok(())
    }

    fn take(self, dtype: candle_core::DType) -> Candle<Tensor> {
        match self.sum {
            Some(sum) => sum.to_dtype(dtype),
            None => candle_core::bail!("attention over no block"),
        }
    }
}
