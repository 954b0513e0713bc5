//! Any graph, a few rows at a time: its linear layers laid out as panels, so that a row's numbers depend on nothing
//! else in the batch.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use candle_core::Tensor;

use super::engine::{Input, Piece, Weights, attend_rows, turn};
use super::layers::{Norm, panels};
use crate::error::{Error, Result};
use crate::llm::model::decoder::Decoder;
use crate::llm::model::graph::{Graph, Instruction, Op, Reader, Weight};
use crate::llm::tensor::ops::float::Float;
use crate::llm::tensor::ops::matmul::Threads;
use crate::llm::tensor::ops::panels::Panels;
use crate::llm::tensor::ops::simd::{add, vectorised};
use crate::llm::tensor::ops::slice::Slice;
use crate::llm::tensor::ops::{Rope, pointwise};

/// A graph's weights, each of them once, an adapter's product added.
pub(super) struct Laid<T> {
    graph: Arc<Graph>,
    linears: Vec<Option<Panels<T>>>,
    /// Tables of tokens and positions, by weight.
    tables: Vec<Option<Tensor>>,
    /// Norms by their scale's weight.
    norms: Vec<Option<Norm<T>>>,
    /// Cosines and sines, `[positions, pairs]`, of each rotation.
    turns: Vec<[Vec<T>; 2]>,
}

impl<T: Float> Laid<T> {
    /// Lays a model's graph out for sequences of at most `longest` tokens.
    ///
    /// # Errors
    /// Numbers that are not on the CPU.
    pub fn new(model: &Decoder, longest: usize) -> Result<Self> {
        let graph = model.shared_graph();
        let count = graph.weights.len();
        let mut laid = Self {
            linears: (0..graph.linears.len()).map(|_| None).collect(),
            tables: vec![None; count],
            norms: (0..count).map(|_| None).collect(),
            turns: Vec::new(),
            graph: graph.clone(),
        };
        for instruction in graph.instructions() {
            match &instruction.op {
                Op::Tokens(table) | Op::Positions { table, .. } => {
                    let tensor = model.weight_tensor(*table).contiguous()?;
                    laid.tables[table.index()] = Some(tensor);
                }
                Op::Linear(layer) => {
                    let [inputs, _] = graph.linear(*layer).shape;
                    let dense = model.dense(*layer)?;
                    laid.linears[layer.index()] = Some(panels(inputs, &[dense])?);
                }
                Op::Norm(norm) => {
                    let bias = norm.bias.map(|bias| model.weight_tensor(bias));
                    let weight = model.weight_tensor(norm.weight);
                    let norm = (norm.weight.index(), Norm::of(norm, weight, bias)?);
                    laid.norms[norm.0] = Some(norm.1);
                }
                _ => {}
            }
        }
        for Rope { cos, sin, .. } in model.tables(longest.min(graph.sizes.context))? {
            laid.turns.push([
                Slice::<T>::new(&cos)?.to_vec(),
                Slice::<T>::new(&sin)?.to_vec(),
            ]);
        }
        Ok(laid)
    }

    /// Bytes of the matrices that every token is multiplied with.
    pub fn bytes(&self) -> usize {
        self.linears.iter().flatten().map(Panels::bytes).sum()
    }

    /// What the last block gives of some rows.
    pub fn body(
        &self,
        inputs: &mut [Input<T>],
        pieces: &[Piece],
        threads: Threads,
    ) -> Result<Rc<Vec<T>>> {
        let rows = Rows {
            laid: self,
            inputs: RefCell::new(inputs),
            pieces,
            threads,
            weights: RefCell::default(),
        };
        self.graph.body(&rows)
    }

    /// What heads read, of some rows of the last block.
    pub fn tail(&self, x: Vec<T>, threads: Threads) -> Result<Rc<Vec<T>>> {
        let rows = Rows {
            laid: self,
            inputs: RefCell::new(&mut []),
            pieces: &[],
            threads,
            weights: RefCell::default(),
        };
        self.graph.tail(&rows, Rc::new(x))
    }

    fn table(&self, table: Weight) -> Result<Slice<'_, T>> {
        match &self.tables[table.index()] {
            Some(tensor) => Slice::new(tensor),
            None => Err(lost()),
        }
    }
}

fn lost() -> Error {
    Error::Backend {
        backend: "engine",
        message: "a weight that was not laid out".into(),
    }
}

/// Rows of a chunk on their way through a graph: a value is `[rows, width]`, row by row.
struct Rows<'r, 'i, 'm, T> {
    laid: &'m Laid<T>,
    inputs: RefCell<&'r mut [Input<'i, T>]>,
    pieces: &'r [Piece],
    threads: Threads,
    weights: RefCell<Weights<T>>,
}

impl<T: Float> Rows<'_, '_, '_, T> {
    /// The position of each row.
    fn positions(&self) -> impl Iterator<Item = usize> {
        (self.pieces.iter()).flat_map(|piece| (piece.position..).take(piece.tokens.len()))
    }

    fn gather(
        &self,
        table: Weight,
        width: usize,
        rows: impl Iterator<Item = usize>,
    ) -> Result<Vec<T>> {
        let table = self.laid.table(table)?;
        Ok(rows
            .flat_map(|row| table[row * width..][..width].iter().copied())
            .collect())
    }
}

impl<'m, T: Float> Reader<'m> for Rows<'_, '_, 'm, T> {
    type Value = Rc<Vec<T>>;

    fn apply(&self, instruction: &'m Instruction, values: &[&Rc<Vec<T>>]) -> Result<Rc<Vec<T>>> {
        let (laid, width) = (self.laid, instruction.width);
        let mut out = Vec::new();
        match (&instruction.op, values) {
            (Op::Tokens(table), []) => {
                let inputs = self.inputs.borrow();
                let tokens = self.pieces.iter().flat_map(|piece| {
                    let tokens = &inputs[piece.input].tokens[piece.tokens.clone()];
                    tokens.iter().map(|&token| token as usize)
                });
                out = self.gather(*table, width, tokens)?;
            }
            (Op::Positions { table, offset }, []) => {
                out = self.gather(*table, width, self.positions().map(|p| p + offset))?;
            }
            (Op::Scale(factor), [x]) => {
                let factor = T::of(*factor);
                out.extend(x.iter().map(|&x| factor * x));
            }
            (Op::Linear(layer), [x]) => {
                let panels = laid.linears[layer.index()].as_ref().ok_or_else(lost)?;
                panels.product(x, &mut out, self.threads);
                let stride = panels.stride();
                if stride != width {
                    let rows = out.len() / stride;
                    (0..rows).for_each(|row| {
                        out.copy_within(row * stride..row * stride + width, row * width);
                    });
                    out.truncate(rows * width);
                }
            }
            (Op::Norm(norm), [x]) => {
                let norm = laid.norms[norm.weight.index()].as_ref();
                norm.ok_or_else(lost)?.rows(x, &mut out);
            }
            (Op::Rope { rotation, heads }, [x]) => {
                out.extend_from_slice(x);
                let [cos, sin] = &laid.turns[*rotation];
                let rotation = &laid.graph.rotations[*rotation];
                let half = rotation.frequencies.len();
                for (row, position) in out.chunks_exact_mut(width).zip(self.positions()) {
                    let at = position * half;
                    let turns = [&cos[at..][..half], &sin[at..][..half]];
                    vectorised(
                        #[inline(always)]
                        || {
                            for head in row.chunks_exact_mut(width / heads) {
                                if rotation.interleaved {
                                    turn_pairs(&mut head[..2 * half], turns);
                                } else {
                                    turn(&mut head[..2 * half], turns);
                                }
                            }
                        },
                    );
                }
            }
            (Op::Attention { form, slot }, [q, k, v]) => {
                let mut inputs = self.inputs.borrow_mut();
                let kv = form.kv_heads * form.head_dim;
                for piece in self.pieces {
                    let cache = &mut *inputs[piece.input].cache;
                    for i in 0..piece.tokens.len() {
                        let at = (piece.row + i) * kv;
                        let (key, value) = (&k[at..][..kv], &v[at..][..kv]);
                        cache.write(*slot, piece.position + i, key, value);
                    }
                }
                let queries = (&q[..], width);
                let memory = (&mut out, &mut *self.weights.borrow_mut());
                let threads = self.threads;
                attend_rows(form, *slot, &inputs, self.pieces, queries, memory, threads);
            }
            (Op::Gated(f), [gate, up]) => {
                out.resize(up.len(), T::zero());
                pointwise::gate(*f, &mut out, gate, up);
            }
            (Op::Activation(f), [x]) => {
                out.resize(x.len(), T::zero());
                pointwise::activate(*f, &mut out, x);
            }
            (Op::Add, [a, b]) => {
                out.extend_from_slice(a);
                vectorised(
                    #[inline(always)]
                    || add(&mut out, b),
                );
            }
            (op, values) => {
                return Err(Error::Backend {
                    backend: "engine",
                    message: format!("{op:?} of {} values", values.len()),
                });
            }
        }
        Ok(Rc::new(out))
    }
}

/// Rotates neighbouring numbers.
#[inline(always)]
fn turn_pairs<T: Float>(x: &mut [T], [cos, sin]: [&[T]; 2]) {
    for ((pair, &cos), &sin) in x.chunks_exact_mut(2).zip(cos).zip(sin) {
        let (a, b) = (pair[0], pair[1]);
        pair[0] = a * cos - b * sin;
        pair[1] = b * cos + a * sin;
    }
}
