//! Attention of one token over those before it.

use super::cache::{Cache, TILE};
use crate::llm::architecture::Architecture;
use crate::llm::ops::float::Float;
use crate::llm::ops::simd::{exponentials, fold, max};

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
        for (row, out) in out.iter_mut().enumerate() {
            let mut sums = [T::zero(); TILE];
            for (tile, w) in tiles.clone().zip(weights.iter()) {
                let values = &cache.tile(tile, at.layer, 1, head / group, dim)[row];
                for lane in 0..TILE {
                    sums[lane] = w[lane].mul_add(values[lane], sums[lane]);
                }
            }
            let sum = fold(
                sums,
                #[inline(always)]
                |x, y| x + y,
            );
            *out = factor * sum;
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
