//! [`attention`](super::attention) by candle's graph.

use std::ops::Range;

use candle_core::{D, Result as Candle, Tensor};

use super::Attention;
use crate::error::Result;
use crate::llm::tensor::ops::plain::by_graph;
use crate::llm::tensor::ops::{Span, Starts};
use crate::llm::tensor::tape::{Node, Tape};

/// `attention`
pub fn attention(
    tape: &Tape,
    [q, k, v]: [&Node; 3],
    form: &Attention,
    starts: &Starts,
) -> Result<Node> {
    by_graph(tape, &[q, k, v], |t| {
        let outputs = (starts.filled())
            .map(|Span { prefix, own }| {
                let rows = |t: &Tensor, rows: &Range<usize>| t.narrow(0, rows.start, rows.len());
                let whole = |t: &Tensor| Tensor::cat(&[rows(t, &prefix)?, rows(t, &own)?], 0);
                let all = attend(&whole(&t[0])?, &whole(&t[1])?, &whole(&t[2])?, form)?;
                all.narrow(0, prefix.len(), own.len())
            })
            .collect::<Candle<Vec<_>>>()?;
        Tensor::cat(&outputs, 0)
    })
}

/// Attention in one sequence.
fn attend(q: &Tensor, k: &Tensor, v: &Tensor, form: &Attention) -> Candle<Tensor> {
    let length = q.dim(0)?;
    let Attention {
        heads,
        kv_heads,
        head_dim,
        ..
    } = *form;
    let split = |t: &Tensor, heads: usize| -> Candle<Tensor> {
        t.reshape((length, heads, head_dim))?
            .transpose(0, 1)?
            .contiguous()
    };
    let shared = |t: &Tensor| -> Candle<Tensor> {
        let group = heads / kv_heads;
        split(t, kv_heads)?
            .unsqueeze(1)?
            .broadcast_as((kv_heads, group, length, head_dim))?
            .reshape((heads, length, head_dim))
    };
    let (q, k, v) = (split(q, heads)?, shared(k)?, shared(v)?);
    let hidden: Vec<f32> = (0..length)
        .flat_map(|i| {
            let first = form.window.map_or(0, |w| (i + 1).saturating_sub(w));
            (0..length).map(move |j| {
                if (first..=i).contains(&j) {
                    0.0
                } else {
                    f32::NEG_INFINITY
                }
            })
        })
        .collect();
    let hidden = Tensor::from_vec(hidden, (length, length), q.device())?.to_dtype(q.dtype())?;
    let mut scores = (q.matmul(&k.t()?)? * form.scale)?.broadcast_add(&hidden)?;
    if let Some(slopes) = &form.slopes {
        let fall = slopes.iter().flat_map(|slope| {
            (0..length).flat_map(move |i| (0..length).map(move |j| slope * (j as f64 - i as f64)))
        });
        let fall = Tensor::from_iter(fall, q.device())?.reshape((heads, length, length))?;
        scores = (scores + fall.to_dtype(q.dtype())?)?;
    }
    let top = scores.max_keepdim(D::Minus1)?.detach();
    let weights = scores.broadcast_sub(&top)?.exp()?;
    let total = weights.sum_keepdim(D::Minus1)?;
    weights
        .broadcast_div(&total)?
        .matmul(&v)?
        .transpose(0, 1)?
        .reshape((length, heads * head_dim))
}
