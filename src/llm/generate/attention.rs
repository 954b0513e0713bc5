//! Attention of one token over those before it.

use super::cache::{Cache, TILE};
use crate::llm::architecture::Architecture;
use crate::llm::ops::float::Float;
use crate::llm::ops::simd::{exponentials, fold, max};

/// Rows of values whose sums are in registers at once.
const ROWS: usize = 4;

/// A token's place.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub layer: usize,
    /// How many tokens are before it.
    pub position: usize,
}

/// The output of all heads, `[heads · D]`, for a query `[heads · D]` whose own key and value are in
/// the cache. Its numbers depend on the tokens before it and on nothing else. Meant to be inlined
/// into [`vectorised`](crate::llm::ops::simd::vectorised).
#[inline(always)]
pub(super) fn attend<T: Float>(
    a: &Architecture,
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
    let scale = T::of((dim as f64).sqrt().recip());
    for head in 0..a.heads {
        let query = &query[head * dim..][..dim];
        let out = &mut out[head * dim..][..dim];
        for (tile, scores) in tiles.clone().zip(weights.iter_mut()) {
            *scores = dots(query, cache.tile(tile, at.layer, 0, head / group, dim));
        }
        let flat = weights.as_flattened_mut();
        flat[..seen.start].fill(T::zero());
        flat[seen.end..].fill(T::zero());
        let scores = &mut flat[seen.clone()];
        let top = scale * max(scores, scores[0]);
        let sum = exponentials(scores, scale, top);
        let factor = T::one() / sum;
        let mut from = 0;
        while from < dim {
            let some = ROWS.min(dim - from);
            let values = tiles
                .clone()
                .map(|tile| &cache.tile(tile, at.layer, 1, head / group, dim)[from..from + some]);
            let out = &mut out[from..from + some];
            match some {
                ROWS => mix::<T, ROWS>(weights, values, factor, out),
                3 => mix::<T, 3>(weights, values, factor, out),
                2 => mix::<T, 2>(weights, values, factor, out),
                _ => mix::<T, 1>(weights, values, factor, out),
            }
            from += some;
        }
    }
}

/// `Σ_d q_d K_d` of every token of a tile.
#[inline(always)]
fn dots<T: Float>(query: &[T], keys: &[[T; TILE]]) -> [T; TILE] {
    let n = query.len();
    let keys = &keys[..n];
    let mut sums = [T::zero(); TILE];
    for i in 0..n {
        for lane in 0..TILE {
            sums[lane] = query[i].mul_add(keys[i][lane], sums[lane]);
        }
    }
    sums
}

/// `factor Σ_t w_t V_d,t` for R rows of the values.
#[inline(always)]
fn mix<'v, T: Float, const R: usize>(
    weights: &[[T; TILE]],
    values: impl Iterator<Item = &'v [[T; TILE]]>,
    factor: T,
    out: &mut [T],
) {
    let mut sums = [[T::zero(); TILE]; R];
    for (w, values) in weights.iter().zip(values) {
        let values = &values[..R];
        for r in 0..R {
            for lane in 0..TILE {
                sums[r][lane] = w[lane].mul_add(values[r][lane], sums[r][lane]);
            }
        }
    }
    for r in 0..R {
        let sum = fold(
            sums[r],
            #[inline(always)]
            |x, y| x + y,
        );
        out[r] = factor * sum;
    }
}
