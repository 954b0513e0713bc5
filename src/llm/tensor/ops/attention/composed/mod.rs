//! [`attention`](super::attention) composed: the scores of a block of queries at a time.
//!
//! Sequences of like length go through the products together, the shorter ones with zeros behind,
//! which no token sees and whose rows are dropped: packs of many short sequences would be
//! a launch of everything for each one otherwise. One selection of rows brings them into the
//! products' order, `[sequence · key head, token · query head of the group, width]`, and one brings
//! results back; keys and values are not repeated for the query heads that share them. A prompt that
//! several go on from is there with each, so that their gradients of its keys are added up; its own
//! queries count with the first.

mod backward;
pub(super) mod fall;
mod forward;
mod plan;

use candle_core::Tensor;

use super::Attention;
use super::cpu::check;
use super::groups::SCORES;
use crate::error::Result;
use crate::llm::tensor::ops::Starts;
use crate::llm::tensor::ops::composed::{scaled, wide};
use crate::llm::tensor::tape::{Node, Tape};

pub(in crate::llm::tensor::ops) use plan::Plan;
use plan::{Block, Group};

/// Backward, with `P` the probabilities: `dV = Pᵀ dO`, `dP = dO Vᵀ`, `dS = P (dP − rowsum(dO O))`,
/// `dQ = scale · dS K`, `dK = scale · dSᵀ Q`. What is kept: the inputs, the output, and each row's
/// `ln Σ exp` in f32. In bf16 `scale · Q`, P, `dP − rowsum` and dS are rounded before they are
/// multiplied, as in every fused attention; the scores are not.
pub fn attention(tape: &Tape, qkv: [&Node; 3], form: &Attention, starts: &Starts) -> Result<Node> {
    attention_within(tape, qkv, form, starts, SCORES)
}

/// [`attention`] on at most so many scores at once.
pub fn attention_within(
    tape: &Tape,
    [q, k, v]: [&Node; 3],
    form: &Attention,
    starts: &Starts,
    most: usize,
) -> Result<Node> {
    check([q, k, v], form, starts)?;
    let plan = starts.pack().plan(starts, form, most, q.value())?;
    let inputs = [q.value(), k.value(), v.value()].map(Tensor::contiguous);
    let [q_value, k_value, v_value] = inputs;
    let values = [q_value?, k_value?, v_value?];
    let width = form.heads * form.head_dim;
    let (mut outs, mut lses) = (Vec::new(), Vec::new());
    for group in &plan.groups {
        let parts = Parts::new(group, &values, form)?;
        let (out, lse) = forward::forward(&plan, group, &parts)?;
        outs.push(group.to_rows(&out)?);
        lses.push(lse);
    }
    let out = plan.back(outs, width)?;
    let saved = out.clone();
    Ok(tape.record(out, &[q, k, v], || {
        let targets = [q, k, v].map(Node::target);
        let (form, prepared) = (form.clone(), plan.prepare());
        Box::new(move |gradient, sums| {
            prepared?;
            let gradient = gradient.contiguous()?;
            let pulls = pulls(&gradient, &saved, form.head_dim)?;
            drop(saved);
            let mut all = [Vec::new(), Vec::new(), Vec::new()];
            for (group, lse) in plan.groups.iter().zip(lses) {
                let parts = Parts::new(group, &values, &form)?;
                let outer = backward::Outer {
                    lse,
                    gradient: group.asked(&gradient, form.head_dim)?,
                    pull: group.asked(&pulls, 1)?,
                };
                let gradients = backward::backward(&plan, group, parts, outer)?;
                for (all, gradient) in all.iter_mut().zip(gradients) {
                    all.push(group.to_rows(&gradient)?);
                }
            }
            let kv_width = form.kv_heads * form.head_dim;
            let [dq, dk, dv] = all;
            let dq = scaled(&plan.back(dq, width)?, form.scale)?;
            let gradients = [dq, plan.summed(dk, kv_width)?, plan.summed(dv, kv_width)?];
            (targets.iter().zip(gradients)).try_for_each(|(to, gradient)| sums.add(to, gradient))
        })
    }))
}

/// Each query's `dO · O`, in the precision of statistics: `[N, heads]`.
fn pulls(gradient: &Tensor, out: &Tensor, head_dim: usize) -> Result<Tensor> {
    let (n, width) = out.dims2()?;
    let product = (wide(gradient)? * wide(out)?)?;
    let product = product.reshape((n, width / head_dim, head_dim))?;
    Ok(product.sum(2)?)
}

/// A group's inputs: queries `[Z, L · G, D]`, scaled, and keys and values `[Z, L, D]` for
/// Z sequences and key heads, L tokens, and G queries' heads a key head. With slopes queries and keys
/// have columns besides, whose products are `−slope · (i − j)`.
struct Parts {
    q: Tensor,
    k: Tensor,
    v: Tensor,
}

impl Parts {
    fn new(group: &Group, [q, k, v]: &[Tensor; 3], form: &Attention) -> Result<Self> {
        let d = form.head_dim;
        let q = scaled(&group.queries(q, d)?, form.scale)?;
        let k = group.keys(k, d)?;
        let (q, k) = match &group.fall {
            None => (q, k),
            Some(fall) => (fall.of_queries(q)?, fall.of_keys(k)?),
        };
        let v = group.keys(v, d)?;
        Ok(Self { q, k, v })
    }

    /// Some of the sequences and key heads.
    fn slice(&self, from: usize, size: usize) -> Result<Self> {
        Ok(Self {
            q: self.q.narrow(0, from, size)?,
            k: self.k.narrow(0, from, size)?,
            v: self.v.narrow(0, from, size)?,
        })
    }
}
