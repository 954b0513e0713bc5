//! Attention of one token over those before it.

use super::cache::{Cache, TILE};
use crate::llm::tensor::ops::Attention;
use crate::llm::tensor::ops::float::Float;
use crate::llm::tensor::ops::simd::{exponentials, max};

/// A token's place.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub layer: usize,
    /// Number of tokens before it.
    pub position: usize,
}

/// The output of all heads, `[heads · D]`, for a query `[heads · D]` whose own key and value are in
/// the cache. Its numbers depend on the tokens before it and on nothing else. Meant to be inlined
/// into [`vectorised`](crate::llm::tensor::ops::simd::vectorised).
#[inline(always)]
pub(super) fn attend<T: Float>(
    a: &Attention,
    cache: &Cache<T>,
    at: Place,
    query: &[T],
    out: &mut [T],
    weights: &mut Vec<[T; TILE]>,
) {
    let dim = a.head_dim;
    let group = a.heads / a.kv_heads;
    let end = at.position + 1;
    let first = end.saturating_sub(a.window.unwrap_or(end));
    let tiles = first / TILE..end.div_ceil(TILE);
    let seen = first - tiles.start * TILE..end - tiles.start * TILE;
    weights.resize(tiles.len(), [T::zero(); TILE]);
    let scale = T::of(a.scale);
    for head in 0..a.heads {
        let query = &query[head * dim..][..dim];
        let out = &mut out[head * dim..][..dim];
        for (tile, scores) in tiles.clone().zip(weights.iter_mut()) {
            *scores = dots(query, cache.keys(tile, at.layer, head / group));
        }
        let flat = weights.as_flattened_mut();
        // Whole tiles are looked through: what is not seen has weight 0.
        flat[..seen.start].fill(T::of(f64::NEG_INFINITY));
        flat[seen.end..].fill(T::of(f64::NEG_INFINITY));
        if let Some(slopes) = &a.slopes {
            // Of the scores before they are scaled.
            let slope = T::of(slopes[head] / a.scale);
            for (back, score) in flat[seen.clone()].iter_mut().rev().enumerate() {
                *score -= slope * T::of(back as f64);
            }
        }
        let top = scale * max(flat, flat[seen.start]);
        let sum = exponentials(flat, scale, top);
        let values = tiles
            .clone()
            .map(|tile| cache.values(tile, at.layer, head / group));
        mix_all(weights, values, out);
        let factor = T::one() / sum;
        out.iter_mut().for_each(|x| *x *= factor);
    }
}

/// Sums that run at once, so that none waits for the last: even and odd terms.
const SUMS: usize = 2;

/// `Σ_d q_d K_d` of every token of a tile.
#[expect(
    clippy::needless_range_loop,
    reason = "the library's iterators are not always inlined"
)]
#[inline(always)]
fn dots<T: Float>(query: &[T], keys: &[[T; TILE]]) -> [T; TILE] {
    let n = query.len();
    let keys = &keys[..n];
    let mut sums = [[T::zero(); TILE]; SUMS];
    let mut i = 0;
    while i + SUMS <= n {
        for s in 0..SUMS {
            // SAFETY: i + s < n, of which there are as many of both.
            let (x, keys) = unsafe { (*query.get_unchecked(i + s), keys.get_unchecked(i + s)) };
            for lane in 0..TILE {
                sums[s][lane] = x.mul_add(keys[lane], sums[s][lane]);
            }
        }
        i += SUMS;
    }
    while i < n {
        for lane in 0..TILE {
            sums[0][lane] = query[i].mul_add(keys[i][lane], sums[0][lane]);
        }
        i += 1;
    }
    for lane in 0..TILE {
        sums[0][lane] += sums[1][lane];
    }
    sums[0]
}

/// `Σ_t w_t V_t`, as many columns at once as registers like.
#[inline(always)]
fn mix_all<'v, T: Float>(
    weights: &[[T; TILE]],
    values: impl Iterator<Item = &'v [T]> + Clone,
    out: &mut [T],
) {
    let dim = out.len();
    let mut from = 0;
    while from < dim {
        let values = values.clone();
        from += match dim - from {
            32.. => mix::<T, 32>(weights, values, from, out),
            16.. => mix::<T, 16>(weights, values, from, out),
            8.. => mix::<T, 8>(weights, values, from, out),
            4.. => mix::<T, 4>(weights, values, from, out),
            2.. => mix::<T, 2>(weights, values, from, out),
            _ => mix::<T, 1>(weights, values, from, out),
        };
    }
}

/// W columns of it; gives W.
#[expect(
    clippy::needless_range_loop,
    reason = "the library's iterators are not always inlined"
)]
#[inline(always)]
fn mix<'v, T: Float, const W: usize>(
    weights: &[[T; TILE]],
    values: impl Iterator<Item = &'v [T]>,
    from: usize,
    out: &mut [T],
) -> usize {
    let dim = out.len();
    assert!(from + W <= dim, "columns of a head");
    let mut sums = [[T::zero(); W]; SUMS];
    for (weights, values) in weights.iter().zip(values) {
        let values = &values[..TILE * dim];
        let mut t = 0;
        while t < TILE {
            for s in 0..SUMS {
                let w = weights[t + s];
                for lane in 0..W {
                    // SAFETY: t + s < TILE and from + lane < dim, and there are TILE · dim values.
                    let value = unsafe { *values.get_unchecked((t + s) * dim + from + lane) };
                    sums[s][lane] = w.mul_add(value, sums[s][lane]);
                }
            }
            t += SUMS;
        }
    }
    let out = &mut out[from..from + W];
    for lane in 0..W {
        out[lane] = sums[0][lane] + sums[1][lane];
    }
    W
}
