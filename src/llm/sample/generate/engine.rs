//! A decoder laid out for a token a sequence: no tape, no tensors, the same kernels.

use candle_core::Tensor;
use rayon::prelude::*;

use super::attention::{Place, attend};
use super::cache::Cache;
use super::layers::{Block, Norm, rows};
use crate::error::{Error, Result};
use crate::llm::model::architecture::Architecture;
use crate::llm::model::decoder::Decoder;
use crate::llm::tensor::ops::float::Float;
use crate::llm::tensor::ops::matmul::Threads;
use crate::llm::tensor::ops::panels::Panels;
use crate::llm::tensor::ops::simd::{add, vectorised};
use crate::llm::tensor::ops::slice::Slice;

/// Most tokens that go through a layer at once.
const CHUNK: usize = 256;

/// Attention over so many numbers is worth a second thread.
const SHARED: usize = 1 << 16;

/// A decoder's weights, each of them once, an adapter's product added.
pub(super) struct Engine<T> {
    architecture: Architecture,
    embedding: Tensor,
    positions: Option<Tensor>,
    /// Cosines and sines, `[positions, D/2]`.
    turns: Option<[Vec<T>; 2]>,
    blocks: Vec<Block<T>>,
    norm: Norm<T>,
    head: Panels<T>,
}

/// Tokens that continue a sequence.
pub(super) struct Input<'a, T> {
    pub cache: &'a mut Cache<T>,
    pub tokens: &'a [u32],
}

/// Memory that is used again.
#[derive(Default)]
pub(super) struct Scratch<T> {
    x: Vec<T>,
    h: Vec<T>,
    wide: Vec<T>,
    inner: Vec<T>,
    narrow: Vec<T>,
    last: Vec<T>,
    logits: Vec<T>,
    weights: Vec<[T; super::cache::TILE]>,
}

/// Tokens of one input in a chunk.
struct Piece {
    input: usize,
    /// Its first token's row.
    row: usize,
    position: usize,
    tokens: std::ops::Range<usize>,
}

impl<T: Float> Engine<T> {
    /// The architecture of a model, if it is one that the engine takes: a plain decoder. All others are run from
    /// their graph.
    pub fn takes(model: &Decoder) -> Option<&Architecture> {
        model.architecture()
    }

    /// Lays a model out for sequences of at most `longest` tokens.
    ///
    /// # Errors
    /// A model without output head, or numbers that are not on the CPU.
    pub fn new(model: &Decoder, longest: usize) -> Result<Self> {
        let a = Self::takes(model).cloned().ok_or_else(|| {
            let problem = "its blocks are not those of a plain decoder";
            Error::invalid("engine", problem, "this is a bug of pistar")
        })?;
        let turns = match model.rotary_table(longest.min(a.context))? {
            None => None,
            Some(table) => Some([
                Slice::<T>::new(&table.cos)?.to_vec(),
                Slice::<T>::new(&table.sin)?.to_vec(),
            ]),
        };
        let blocks = (0..a.layers)
            .map(|index| Block::new(&a, model.layer(index)?))
            .collect::<Result<_>>()?;
        let head = model.head_tensor()?.contiguous()?;
        Ok(Self {
            embedding: model.embedding_tensor()?.contiguous()?,
            positions: match model.position_tensor() {
                Some(table) => Some(table.contiguous()?),
                None => None,
            },
            turns,
            blocks,
            norm: Norm::new(&a, model.last_norm()?)?,
            head: Panels::new(a.width, &[(&Slice::<T>::new(&head)?, None)]),
            architecture: a,
        })
    }

    /// Architecture of the model.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// Bytes of the weights that every token is multiplied with.
    pub fn bytes(&self) -> usize {
        self.blocks.iter().map(Block::bytes).sum::<usize>() + self.head.bytes()
    }

    /// Logits of input `i` after [`forward`](Self::forward).
    pub fn logits<'s>(&self, scratch: &'s Scratch<T>, i: usize) -> &'s [T] {
        &scratch.logits[i * self.head.stride()..][..self.head.outputs()]
    }

    /// Feeds tokens, at least one an input: their keys and values are added to the caches, and the
    /// logits of the token after each input's last are in `scratch`. Tokens are below the
    /// vocabulary, positions below what it was laid out for.
    ///
    /// # Errors
    /// Numbers that are not on the CPU.
    pub fn forward(
        &self,
        inputs: &mut [Input<T>],
        scratch: &mut Scratch<T>,
        threads: Threads,
    ) -> Result<()> {
        let width = self.architecture.width;
        let total = inputs.iter().map(|i| i.tokens.len()).sum::<usize>();
        for input in inputs.iter_mut() {
            input.cache.reserve(input.tokens.len());
        }
        scratch.last.resize(inputs.len() * width, T::zero());
        let mut at = (0, 0);
        let mut left = total;
        while left > 0 {
            let pieces = next(inputs, &mut at);
            let rows = pieces.iter().map(|p| p.tokens.len()).sum::<usize>();
            self.chunk(inputs, &pieces, scratch, threads)?;
            for piece in &pieces {
                let input = &mut inputs[piece.input];
                input.cache.grow(piece.tokens.len());
                if piece.tokens.end == input.tokens.len() {
                    let row = piece.row + piece.tokens.len() - 1;
                    scratch.last[piece.input * width..][..width]
                        .copy_from_slice(&scratch.x[row * width..][..width]);
                }
            }
            left -= rows;
        }
        self.norm.rows(&scratch.last, &mut scratch.h);
        self.head.product(&scratch.h, &mut scratch.logits, threads);
        Ok(())
    }

    /// All blocks for some rows, whose residual stream is then in `scratch.x`.
    fn chunk(
        &self,
        inputs: &mut [Input<T>],
        pieces: &[Piece],
        scratch: &mut Scratch<T>,
        threads: Threads,
    ) -> Result<()> {
        let a = &self.architecture;
        self.embed(inputs, pieces, &mut scratch.x)?;
        let Scratch {
            x,
            h,
            wide,
            inner,
            narrow,
            weights,
            ..
        } = scratch;
        for (layer, block) in self.blocks.iter().enumerate() {
            block.attention_norm.rows(x, h);
            block.qkv.product(h, wide, threads);
            self.remember(inputs, pieces, layer, wide);
            self.attention(inputs, pieces, layer, wide, inner, weights, threads);
            block.output.product(inner, narrow, threads);
            residual(x, narrow, a.width, block.output.stride());
            block.mlp_norm.rows(x, h);
            block.up.product(h, wide, threads);
            block.activate(a, wide, inner);
            block.down.product(inner, narrow, threads);
            residual(x, narrow, a.width, block.down.stride());
        }
        Ok(())
    }

    fn embed(&self, inputs: &[Input<T>], pieces: &[Piece], x: &mut Vec<T>) -> Result<()> {
        let a = &self.architecture;
        let table = Slice::<T>::new(&self.embedding)?;
        let positions = match &self.positions {
            Some(table) => Some(Slice::<T>::new(table)?),
            None => None,
        };
        let scale = T::of(a.embedding_scale);
        x.clear();
        for piece in pieces {
            let tokens = &inputs[piece.input].tokens[piece.tokens.clone()];
            for (i, &token) in tokens.iter().enumerate() {
                let row = &table[token as usize * a.width..][..a.width];
                let from = x.len();
                if a.embedding_scale == 1.0 {
                    x.extend_from_slice(row)
                } else {
                    x.extend(row.iter().map(|&e| e * scale))
                }
                if let Some(positions) = &positions {
                    let at = (piece.position + i) * a.width;
                    add(&mut x[from..], &positions[at..][..a.width]);
                }
            }
        }
        Ok(())
    }

    /// Rotates queries and keys, and writes keys and values to the caches.
    fn remember(&self, inputs: &mut [Input<T>], pieces: &[Piece], layer: usize, qkv: &mut [T]) {
        let a = &self.architecture;
        let (q, kv) = (a.heads * a.head_dim, a.kv_heads * a.head_dim);
        let stride = self.blocks[layer].qkv.stride();
        for piece in pieces {
            for i in 0..piece.tokens.len() {
                let (row, position) = (piece.row + i, piece.position + i);
                let row = &mut qkv[row * stride..][..stride];
                if let Some([cos, sin]) = &self.turns {
                    let half = a.head_dim / 2;
                    let at = position * half;
                    let turns = [&cos[at..][..half], &sin[at..][..half]];
                    vectorised(
                        #[inline(always)]
                        || turn(&mut row[..q + kv], turns),
                    );
                }
                let (key, value) = row[q..].split_at(kv);
                (inputs[piece.input].cache).write(layer, position, key, &value[..kv]);
            }
        }
    }

    /// Attention of every row, `[N, heads · D]`.
    #[allow(clippy::too_many_arguments)]
    fn attention(
        &self,
        inputs: &[Input<T>],
        pieces: &[Piece],
        layer: usize,
        qkv: &[T],
        out: &mut Vec<T>,
        weights: &mut Vec<[T; super::cache::TILE]>,
        threads: Threads,
    ) {
        let a = &self.architecture;
        let stride = self.blocks[layer].qkv.stride();
        let width = a.heads * a.head_dim;
        let rows: Vec<(&Cache<T>, usize)> = (pieces.iter())
            .flat_map(|p| {
                let cache = &*inputs[p.input].cache;
                (0..p.tokens.len()).map(move |i| (cache, p.position + i))
            })
            .collect();
        out.resize(rows.len() * width, T::zero());
        let one = |out: &mut [T], row: usize, weights: &mut Vec<_>| {
            let (cache, position) = rows[row];
            let query = &qkv[row * stride..][..width];
            vectorised(
                #[inline(always)]
                || attend(a, cache, Place { layer, position }, query, out, weights),
            );
        };
        let work: usize = rows.iter().map(|(_, position)| position * width).sum();
        if threads == Threads::All && work > SHARED && rows.len() > 1 {
            (out.par_chunks_exact_mut(width).enumerate())
                .for_each_init(Vec::new, |weights, (row, out)| one(out, row, weights));
        } else {
            (out.chunks_exact_mut(width).enumerate()).for_each(|(row, out)| one(out, row, weights));
        }
    }
}

/// The next tokens of the inputs, from input and token `at`; at most a chunk.
fn next<T: Float>(inputs: &[Input<T>], at: &mut (usize, usize)) -> Vec<Piece> {
    let (mut pieces, mut row) = (Vec::new(), 0);
    while row < CHUNK && at.0 < inputs.len() {
        let input = &inputs[at.0];
        let end = input.tokens.len().min(at.1 + CHUNK - row);
        pieces.push(Piece {
            input: at.0,
            row,
            position: input.cache.length(),
            tokens: at.1..end,
        });
        row += end - at.1;
        *at = if end == input.tokens.len() {
            (at.0 + 1, 0)
        } else {
            (at.0, end)
        };
    }
    pieces
}

/// Rotates every head of `x`.
#[inline(always)]
fn turn<T: Float>(x: &mut [T], [cos, sin]: [&[T]; 2]) {
    let n = cos.len();
    let sin = &sin[..n];
    for head in x.chunks_exact_mut(2 * n) {
        let (first, second) = head.split_at_mut(n);
        let second = &mut second[..n];
        for i in 0..n {
            let (a, b) = (first[i], second[i]);
            first[i] = a * cos[i] - b * sin[i];
            second[i] = b * cos[i] + a * sin[i];
        }
    }
}

/// `x += y`, whose rows begin `stride` apart.
fn residual<T: Float>(x: &mut [T], y: &[T], width: usize, stride: usize) {
    vectorised(
        #[inline(always)]
        || {
            for (x, y) in rows(x, width).zip(y.chunks_exact(stride)) {
                add(x, &y[..width]);
            }
        },
    );
}
