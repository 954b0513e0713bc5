//! Keys and values of the tokens so far.

use std::sync::Arc;

use crate::llm::architecture::Architecture;
use crate::llm::ops::float::Float;
use crate::llm::ops::simd::LANES;

/// Tokens of a tile.
pub(super) const TILE: usize = LANES;

/// Where the numbers of a layer are in a tile.
#[derive(Debug, Clone, Copy)]
struct Form {
    layers: usize,
    /// Numbers of a token's keys, and of its values, in a layer.
    width: usize,
}

/// The keys and values of a sequence, in tiles of 32 tokens: `[layers, 2, width, 32]` each, so that
/// sums over tokens run over neighbours. A copy shares the tiles until one of the two writes to the
/// last: samples of a prompt keep its tokens once.
#[derive(Debug, Clone)]
pub(super) struct Cache<T> {
    form: Form,
    tiles: Vec<Arc<Vec<T>>>,
    length: usize,
}

impl<T: Float> Cache<T> {
    /// Of no tokens.
    pub fn new(a: &Architecture) -> Self {
        Self {
            form: Form {
                layers: a.layers,
                width: a.kv_heads * a.head_dim,
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
        for (part, numbers) in [key, value].into_iter().enumerate() {
            let to = &mut tile[form.at(layer, part, 0)..][..form.width * TILE];
            for (to, &x) in to.chunks_exact_mut(TILE).zip(numbers) {
                to[lane] = x;
            }
        }
    }

    /// Keys (`part` 0) or values (1) of a head in a tile: `[D, 32]`.
    #[inline(always)]
    pub fn tile(
        &self,
        tile: usize,
        layer: usize,
        part: usize,
        head: usize,
        dim: usize,
    ) -> &[[T; TILE]] {
        let from = self.form.at(layer, part, head * dim);
        self.tiles[tile][from..][..dim * TILE].as_chunks().0
    }
}

impl Form {
    #[inline(always)]
    fn at(self, layer: usize, part: usize, row: usize) -> usize {
        ((layer * 2 + part) * self.width + row) * TILE
    }
}
