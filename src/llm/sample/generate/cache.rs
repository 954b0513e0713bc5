//! Keys and values of the tokens so far.

use std::sync::Arc;

use crate::llm::model::graph::Sizes;
use crate::llm::tensor::ops::float::Float;
use crate::llm::tensor::ops::simd::LANES;

/// Tokens of a tile.
pub(super) const TILE: usize = LANES;

/// Where the numbers of a layer are in a tile.
#[derive(Debug, Clone, Copy)]
struct Form {
    layers: usize,
    /// Numbers of a token's keys, and of its values, in a layer.
    width: usize,
    /// Width of a head.
    dim: usize,
}

/// The keys and values of a sequence, in tiles of 32 tokens: of each layer the keys `[width, 32]`, and
/// the values `[heads, 32, D]`, so that either's products run over neighbours. A copy shares the tiles until one of the two writes to the
/// last: samples of a prompt keep its tokens once.
#[derive(Debug, Clone)]
pub(super) struct Cache<T> {
    form: Form,
    tiles: Vec<Arc<Vec<T>>>,
    length: usize,
}

impl<T: Float> Cache<T> {
    /// A cache of no tokens, of so many attentions.
    pub fn new(layers: usize, a: Sizes) -> Self {
        Self {
            form: Form {
                layers,
                width: a.kv_heads * a.head_dim,
                dim: a.head_dim,
            },
            tiles: Vec::new(),
            length: 0,
        }
    }

    /// Tokens whose keys and values it has.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Makes room for that many more tokens.
    pub fn reserve(&mut self, more: usize) {
        let size = self.form.layers * 2 * self.form.width * TILE;
        while self.tiles.len() * TILE < self.length + more {
            self.tiles.push(Arc::new(vec![T::zero(); size]));
        }
    }

    /// Counts tokens that were written.
    pub fn grow(&mut self, more: usize) {
        self.length += more;
    }

    /// Writes a token's key and value, for which there is room.
    pub fn write(&mut self, layer: usize, position: usize, key: &[T], value: &[T]) {
        let form = self.form;
        let tile = Arc::make_mut(&mut self.tiles[position / TILE]);
        let lane = position % TILE;
        let keys = &mut tile[form.at(layer, 0, 0)..][..form.width * TILE];
        for (to, &x) in keys.chunks_exact_mut(TILE).zip(key) {
            to[lane] = x;
        }
        let values = &mut tile[form.at(layer, 1, 0)..][..form.width * TILE];
        let heads = values.chunks_exact_mut(form.dim * TILE);
        for (head, from) in heads.zip(value.chunks_exact(form.dim)) {
            head[lane * form.dim..][..form.dim].copy_from_slice(from);
        }
    }

    /// The keys of a head in a tile: `[D, 32]`.
    #[inline(always)]
    pub fn keys(&self, tile: usize, layer: usize, head: usize) -> &[[T; TILE]] {
        self.part(tile, layer, 0, head).as_chunks().0
    }

    /// The values of a head in a tile: `[32, D]`.
    #[inline(always)]
    pub fn values(&self, tile: usize, layer: usize, head: usize) -> &[T] {
        self.part(tile, layer, 1, head)
    }

    #[inline(always)]
    fn part(&self, tile: usize, layer: usize, part: usize, head: usize) -> &[T] {
        let form = self.form;
        let from = form.at(layer, part, head * form.dim);
        &self.tiles[tile][from..][..form.dim * TILE]
    }
}

impl Form {
    #[inline(always)]
    fn at(self, layer: usize, part: usize, row: usize) -> usize {
        ((layer * 2 + part) * self.width + row) * TILE
    }
}
