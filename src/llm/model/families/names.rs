//! Names and layouts of parameters in a family's files.

use candle_core::Tensor;

use crate::error::Result;
use crate::llm::model::graph::{BLOCKS, Graph, Place, Purpose};

/// Names of a family's files, where they are not Llama's.
#[derive(Debug, Clone, Copy)]
pub struct Names {
    /// What names in blocks begin with, before the block's index.
    pub blocks: &'static str,
    /// Llama's names of modules (in a block without what they begin with), and the family's. Several of ours with one
    /// name lie one after the other there.
    pub modules: &'static [(&'static str, &'static str)],
    /// True if matrices of blocks are stored transposed, `[in, out]` (GPT-2).
    pub transposed: bool,
    /// True if modules with one name take turns there by head, `[heads, modules, D]` (BLOOM).
    pub by_head: bool,
}

impl Names {
    /// Llama's.
    pub const LLAMA: Self = Self {
        blocks: BLOCKS,
        modules: &[],
        transposed: false,
        by_head: false,
    };

    /// A weight's name in files.
    pub fn of(&self, ours: &str) -> String {
        let (module, kind) = ours.rsplit_once('.').unwrap_or((ours, ""));
        let theirs = |module: &str| -> String {
            let found = self.modules.iter().find(|(ours, _)| *ours == module);
            found.map_or(module, |(_, theirs)| *theirs).into()
        };
        let inside =
            (module.strip_prefix(BLOCKS)).and_then(|rest| rest.strip_prefix('.')?.split_once('.'));
        let module = match inside {
            Some((index, module)) => format!("{}.{index}.{}", self.blocks, theirs(module)),
            None => theirs(module),
        };
        format!("{module}.{kind}")
    }

    /// All tensors of files, in their order. With `head`, the output head's too, unless it is the embedding.
    pub fn layout(&self, graph: &Graph, head: bool) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::new();
        for weight in &graph.weights {
            if weight.place == Place::Head && !head {
                continue;
            }
            let (name, part) = (self.of(&weight.name), weight.name.clone());
            let part = (part, weight.shape.clone());
            // Those of one name are near.
            match entries.iter_mut().rev().take(8).find(|e| e.name == name) {
                Some(entry) => entry.parts.push(part),
                None => {
                    let is_matrix = matches!(weight.purpose, Purpose::Matrix | Purpose::Residual);
                    let inside = matches!(weight.place, Place::Block(_));
                    entries.push(Entry {
                        name,
                        parts: vec![part],
                        transposed: self.transposed && inside && is_matrix,
                        turns: if self.by_head {
                            graph.sizes.head_dim
                        } else {
                            0
                        },
                        of_layer: is_matrix,
                    });
                }
            }
        }
        entries
    }
}

/// One tensor of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its name there.
    pub name: String,
    /// The parameters it holds along the first axis, and their shapes.
    pub parts: Vec<(String, Vec<usize>)>,
    /// True if the file holds the transpose.
    pub transposed: bool,
    /// Rows that its parts give in turn; 0 if each gives all of its own at once.
    pub turns: usize,
    /// True if it is the matrix of a linear layer.
    pub of_layer: bool,
}

impl Entry {
    /// The shape in the file.
    pub fn shape(&self) -> Vec<usize> {
        let mut shape = self.parts[0].1.clone();
        shape[0] = self.parts.iter().map(|(_, shape)| shape[0]).sum();
        if self.transposed {
            shape.reverse();
        }
        shape
    }

    /// The file's tensor, of its parts.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn join(&self, parts: &[Tensor]) -> Result<Tensor> {
        let whole = join(parts, self.turns)?;
        Ok(if self.transposed {
            whole.t()?.contiguous()?
        } else {
            whole
        })
    }

    /// The parts of the file's tensor.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn split(&self, whole: Tensor) -> Result<Vec<Tensor>> {
        let whole = if self.transposed { whole.t()? } else { whole };
        let rows: Vec<usize> = self.parts.iter().map(|(_, shape)| shape[0]).collect();
        split(&whole, &rows, self.turns)
    }
}

/// Tensors one after the other along the first axis, or in turn.
///
/// # Errors
/// Shapes that do not fit.
pub fn join(parts: &[Tensor], turns: usize) -> Result<Tensor> {
    let [only] = parts else {
        if turns == 0 {
            return Ok(Tensor::cat(parts, 0)?);
        }
        let mut shape = parts[0].dims().to_vec();
        shape[0] *= parts.len();
        let groups = (parts.iter())
            .map(|part| part.reshape((part.dim(0)? / turns, turns, ())))
            .collect::<candle_core::Result<Vec<_>>>()?;
        return Ok(Tensor::stack(&groups, 1)?.reshape(shape)?);
    };
    Ok(only.clone())
}

/// The tensors of so many rows each that [`join`] gave.
///
/// # Errors
/// Shapes that do not fit.
pub fn split(whole: &Tensor, rows: &[usize], turns: usize) -> Result<Vec<Tensor>> {
    if rows.len() > 1 && turns > 0 {
        let mut shape = whole.dims().to_vec();
        shape[0] /= rows.len();
        let groups = whole.reshape((shape[0] / turns, rows.len(), turns, ()))?;
        return (0..rows.len())
            .map(|part| {
                let part = groups.narrow(1, part, 1)?.contiguous()?;
                Ok(part.reshape(shape.clone())?)
            })
            .collect();
    }
    let mut start = 0;
    (rows.iter())
        .map(|&rows| {
            let part = whole.narrow(0, start, rows)?.contiguous()?;
            start += rows;
            Ok(part)
        })
        .collect()
}
