//! Attention of new tokens over those before them.

use candle_core::{D, DType, Device, Result as Candle, Tensor};

use crate::llm::tensor::ops::Attention;

/// `softmax(scale q kᵀ + mask) v` of every slot and key head: queries `[S, kv_heads, M, D]`, keys and
/// values `[S, kv_heads, L, D]`, and a mask of 0 and −∞ that is broadcast to `[S, kv_heads, M, L]`.
/// The softmax is in f32 at least. Keys and values may be parts of larger tensors: neither is copied.
pub(super) fn attend(
    q: &Tensor,
    [k, v]: &[Tensor; 2],
    mask: &Tensor,
    scale: f64,
) -> Candle<Tensor> {
    let scores = q.matmul(&k.t()?)?.to_dtype(mask.dtype())?;
    let scores = (scores * scale)?.broadcast_add(mask)?;
    let top = scores.max_keepdim(D::Minus1)?;
    let weights = scores.broadcast_sub(&top)?.exp()?;
    let total = weights.sum_keepdim(D::Minus1)?;
    (weights.broadcast_div(&total)?.to_dtype(q.dtype())?).matmul(v)
}

/// The precision of its mask.
pub(super) fn mask_type(dtype: DType) -> DType {
    match dtype {
        DType::F64 => DType::F64,
        _ => DType::F32,
    }
}

/// The mask of queries at those positions over the tokens `from` to `to`: `[queries, to − from]`. A
/// query sees the tokens up to its own, and of those the last `window`; without a position, all.
pub(super) fn mask(
    positions: impl ExactSizeIterator<Item = Option<usize>>,
    [from, to]: [usize; 2],
    window: Option<usize>,
    (dtype, device): (DType, &Device),
) -> Candle<Tensor> {
    let shape = (positions.len(), to - from);
    let hidden = positions.flat_map(|position| {
        let seen = match position {
            None => from..to,
            Some(p) => first(p, window)..p + 1,
        };
        (from..to).map(move |token| {
            if seen.contains(&token) {
                0.0
            } else {
                f32::NEG_INFINITY
            }
        })
    });
    let hidden: Vec<f32> = hidden.collect();
    Tensor::from_vec(hidden, shape, device)?.to_dtype(mask_type(dtype))
}

/// A mask `[queries, L]` of tokens from `from` on with, for each head, what its slope takes off with distance (ALiBi):
/// `[queries, kv_heads, group, L]`. A query without a position sees all alike.
pub(super) fn sloped(
    mask: &Tensor,
    positions: impl Iterator<Item = Option<usize>>,
    from: usize,
    form: &Attention,
    slopes: &[f64],
) -> Candle<Tensor> {
    let (queries, length) = mask.dims2()?;
    let (dtype, device) = (mask.dtype(), mask.device());
    let behind = positions.flat_map(|position| {
        (from..from + length).map(move |token| match position {
            Some(p) => p as f32 - token as f32,
            None => 0.0,
        })
    });
    let behind = Tensor::from_iter(behind, device)?.to_dtype(dtype)?;
    let behind = behind.reshape((queries, 1, 1, length))?;
    let heads = (1, form.kv_heads, form.heads / form.kv_heads, 1);
    let slopes = Tensor::from_slice(slopes, heads, device)?.to_dtype(dtype)?;
    let mask = mask.reshape((queries, 1, 1, length))?;
    mask.broadcast_sub(&behind.broadcast_mul(&slopes)?)
}

/// The first token that a query at that position sees.
pub(super) fn first(position: usize, window: Option<usize>) -> usize {
    window.map_or(0, |w| (position + 1).saturating_sub(w))
}
