//! A model laid out for a token a sequence: no tape, no tensors, the same kernels.

use std::rc::Rc;

use candle_core::Tensor;
use rayon::prelude::*;

use super::attention::{Place, attend};
use super::cache::Cache;
use super::graph::Laid;
use super::layers::{Block, Norm, rows};
use crate::error::Result;
use crate::llm::model::architecture::Architecture;
use crate::llm::model::decoder::Decoder;
use crate::llm::model::graph::{Op, Sizes};
use crate::llm::tensor::ops::Attention;
use crate::llm::tensor::ops::float::Float;
use crate::llm::tensor::ops::matmul::Threads;
use crate::llm::tensor::ops::panels::Panels;
use crate::llm::tensor::ops::simd::{add, vectorised};
use crate::llm::tensor::ops::slice::Slice;

/// Most tokens that go through a layer at once.
pub(super) const CHUNK: usize = 256;

/// Attention over so many numbers is worth a second thread.
const SHARED: usize = 1 << 16;

/// A model's weights, each of them once, an adapter's product added.
pub(super) struct Engine<T> {
    sizes: Sizes,
    /// The attention of each slot of the graph.
    forms: Vec<Attention>,
    body: Body<T>,
    head: Panels<T>,
}

/// All before the output head.
enum Body<T> {
    Plain(Plain<T>),
    Graph(Laid<T>),
}

/// The blocks of a plain decoder (Llama, Mistral, Qwen 2, Gemma, GPT-2), query, key and value in one product, gate and
/// up in another: the same as its graph, and faster.
struct Plain<T> {
    architecture: Architecture,
    embedding: Tensor,
    positions: Option<Tensor>,
    /// Cosines and sines, `[positions, D/2]`.
    turns: Option<[Vec<T>; 2]>,
    blocks: Vec<Block<T>>,
    norm: Norm<T>,
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
    weights: Weights<T>,
}

/// Attention's weights of one row, in tiles.
pub(super) type Weights<T> = Vec<[T; super::cache::TILE]>;

/// Tokens of one input in a chunk.
pub(super) struct Piece {
    pub input: usize,
    /// Its first token's row.
    pub row: usize,
    pub position: usize,
    pub tokens: std::ops::Range<usize>,
}

impl<T: Float> Engine<T> {
    /// Lays a model out for sequences of at most `longest` tokens.
    ///
    /// # Errors
    /// A model without output head, or numbers that are not on the CPU.
    pub fn new(model: &Decoder, longest: usize) -> Result<Self> {
        let graph = model.graph();
        let forms = graph.instructions().filter_map(|i| match &i.op {
            Op::Attention { form, .. } => Some(form.clone()),
            _ => None,
        });
        let head = model.head_tensor()?.contiguous()?;
        let bias = match model.head_bias() {
            Some(bias) => Some(bias.contiguous()?),
            None => None,
        };
        let bias = bias.as_ref().map(Slice::<T>::new).transpose()?;
        let head = (&*Slice::<T>::new(&head)?, bias.as_deref());
        Ok(Self {
            sizes: graph.sizes,
            forms: forms.collect(),
            body: match model.architecture() {
                Some(a) => Body::Plain(Plain::new(model, a, longest)?),
                None => Body::Graph(Laid::new(model, longest)?),
            },
            head: Panels::new(graph.sizes.width, &[head]),
        })
    }

    /// Sizes of the model.
    pub fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// A cache of no tokens.
    pub fn cache(&self) -> Cache<T> {
        Cache::new(self.forms.len(), self.sizes)
    }

    /// Bytes of the weights that every token is multiplied with.
    pub fn bytes(&self) -> usize {
        let body = match &self.body {
            Body::Plain(plain) => plain.blocks.iter().map(Block::bytes).sum::<usize>(),
            Body::Graph(laid) => laid.bytes(),
        };
        body + self.head.bytes()
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
        let total = inputs.iter().map(|i| i.tokens.len()).sum::<usize>();
        for input in inputs.iter_mut() {
            input.cache.reserve(input.tokens.len());
        }
        let mut at = (0, 0);
        let mut left = total;
        while left > 0 {
            let pieces = next(inputs, &mut at);
            let rows = pieces.iter().map(|p| p.tokens.len()).sum::<usize>();
            match &self.body {
                Body::Plain(plain) => plain.chunk(self, inputs, &pieces, scratch, threads)?,
                Body::Graph(laid) => {
                    let x = laid.body(inputs, &pieces, threads)?;
                    scratch.x = Rc::try_unwrap(x).unwrap_or_else(|x| x.to_vec());
                }
            }
            let width = scratch.x.len() / rows;
            scratch.last.resize(inputs.len() * width, T::zero());
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
        match &self.body {
            Body::Plain(plain) => plain.norm.rows(&scratch.last, &mut scratch.h),
            Body::Graph(laid) => {
                let h = laid.tail(std::mem::take(&mut scratch.last), threads)?;
                scratch.h = Rc::try_unwrap(h).unwrap_or_else(|h| h.to_vec());
            }
        }
        self.head.product(&scratch.h, &mut scratch.logits, threads);
        Ok(())
    }
}

impl<T: Float> Plain<T> {
    fn new(model: &Decoder, a: &Architecture, longest: usize) -> Result<Self> {
        let turns = match model.rotary_table(longest.min(a.context))? {
            None => None,
            Some(table) => Some([
                Slice::<T>::new(&table.cos)?.to_vec(),
                Slice::<T>::new(&table.sin)?.to_vec(),
            ]),
        };
        let blocks = (0..a.layers)
            .map(|index| Block::new(a, model.layer(index)?))
            .collect::<Result<_>>()?;
        Ok(Self {
            embedding: model.embedding_tensor()?.contiguous()?,
            positions: match model.position_tensor() {
                Some(table) => Some(table.contiguous()?),
                None => None,
            },
            turns,
            blocks,
            norm: Norm::new(a, model.last_norm()?)?,
            architecture: a.clone(),
        })
    }

    /// All blocks for some rows, whose residual stream is then in `scratch.x`.
    fn chunk(
        &self,
        engine: &Engine<T>,
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
            let queries = (&wide[..], block.qkv.stride());
            let form = &engine.forms[layer];
            let memory = (&mut *inner, &mut *weights);
            attend_rows(form, layer, inputs, pieces, queries, memory, threads);
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
}

/// Attention of every row, `[N, heads · D]`, into `out`; of queries in rows that begin so far apart.
pub(super) fn attend_rows<T: Float>(
    form: &Attention,
    slot: usize,
    inputs: &[Input<T>],
    pieces: &[Piece],
    (queries, stride): (&[T], usize),
    (out, weights): (&mut Vec<T>, &mut Weights<T>),
    threads: Threads,
) {
    let width = form.heads * form.head_dim;
    let rows: Vec<(&Cache<T>, usize)> = (pieces.iter())
        .flat_map(|p| {
            let cache = &*inputs[p.input].cache;
            (0..p.tokens.len()).map(move |i| (cache, p.position + i))
        })
        .collect();
    out.resize(rows.len() * width, T::zero());
    let one = |out: &mut [T], row: usize, weights: &mut Vec<_>| {
        let (cache, position) = rows[row];
        let query = &queries[row * stride..][..width];
        let place = Place {
            layer: slot,
            position,
        };
        vectorised(
            #[inline(always)]
            || attend(form, cache, place, query, out, weights),
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
pub(super) fn turn<T: Float>(x: &mut [T], [cos, sin]: [&[T]; 2]) {
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
