//! Graph of a network: its operations in order, with the weights that they read.
//!
//! A family's file writes it down once ([`Builder`]); everything else goes through it as a [`Reader`]: the tape in
//! training, the cache in generation, the books of `pistar plan`, the calls that `pistar doctor` times.

mod builder;
#[cfg(test)]
mod mutants;
mod reader;

use super::architecture::Architecture;
use crate::llm::tensor::ops::{Activation, Attention};

pub use builder::{Builder, Value};
pub use reader::Reader;

/// What names of weights in blocks begin with, before the block's index.
pub const BLOCKS: &str = "model.layers";

/// The embedding's name.
pub const EMBEDDING: &str = "model.embed_tokens.weight";

/// Index of a weight in [`Graph::weights`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Weight(usize);

impl Weight {
    /// The index.
    pub fn index(self) -> usize {
        self.0
    }
}

/// Purpose of a weight, which decides how it begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Purpose {
    /// The embedding of tokens.
    Tokens,
    /// The embedding of positions.
    Positions,
    /// A linear layer's matrix `[O, I]`.
    Matrix,
    /// The matrix of a projection into the residual stream.
    Residual,
    /// A bias of a linear layer.
    Bias,
    /// A bias of a norm.
    Shift,
    /// A norm's scale, to which `offset` is added.
    Scale {
        /// 1 for Gemma, else 0.
        offset: f64,
    },
}

/// Section of a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Before the blocks.
    Stem,
    /// A block.
    Block(usize),
    /// After them.
    Tail,
    /// The output head.
    Head,
}

impl Place {
    /// A name in a block, or outside, in full.
    fn path(self, name: &str) -> String {
        match self {
            Self::Block(index) => format!("{BLOCKS}.{index}.{name}"),
            _ => name.into(),
        }
    }
}

/// A weight: name, shape, purpose.
#[derive(Debug, Clone, PartialEq)]
pub struct Declared {
    /// Its name: Llama's, whatever the family; a family's [`Names`](super::families::Names) know those of files.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its purpose.
    pub purpose: Purpose,
    /// The section that reads it first.
    pub place: Place,
}

/// Index of a linear layer in [`Graph::linears`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Linear(usize);

impl Linear {
    /// The index.
    pub fn index(self) -> usize {
        self.0
    }
}

/// A linear layer's weights, `x Wᵀ + b`.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearWeights {
    /// Its name, that of its weight without `.weight`.
    pub name: String,
    /// W `[O, I]`.
    pub weight: Weight,
    /// b `[O]`.
    pub bias: Option<Weight>,
    /// I and O.
    pub shape: [usize; 2],
}

/// A norm over runs of `width` numbers: root mean square, or with a bias mean and variance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Norm {
    /// Scale.
    pub weight: Weight,
    /// Bias of a layer norm; none for root mean square.
    pub bias: Option<Weight>,
    /// Numbers of a run.
    pub width: usize,
    /// ε.
    pub epsilon: f64,
    /// Added to the scale (root mean square only).
    pub offset: f64,
}

/// Rotary angles of the first numbers of each head.
#[derive(Debug, Clone, PartialEq)]
pub struct Rotation {
    /// Angle per position of each pair.
    pub frequencies: Vec<f64>,
    /// Factor of cosines and sines.
    pub factor: f64,
    /// True if pairs are neighbours, (2i, 2i + 1), as in GPT-J; else they are halves apart.
    pub interleaved: bool,
}

/// An operation, with the weights it reads.
#[derive(Debug, Clone)]
pub enum Op {
    /// Rows of a table, by tokens.
    Tokens(Weight),
    /// Rows of a table, by positions counted from `offset`.
    Positions {
        /// The table.
        table: Weight,
        /// Row of the first position (2 in OPT).
        offset: usize,
    },
    /// A number times x.
    Scale(f64),
    /// A linear layer.
    Linear(Linear),
    /// A norm.
    Norm(Norm),
    /// Rotary positions of each head.
    Rope {
        /// Index in [`Graph::rotations`].
        rotation: usize,
        /// Heads of x.
        heads: usize,
    },
    /// Causal attention of queries, keys and values.
    Attention {
        /// Heads, scale, window.
        form: Attention,
        /// Index among the attentions: whose keys and values a cache keeps.
        slot: usize,
    },
    /// `f(gate) · up`.
    Gated(Activation),
    /// `f(x)`.
    Activation(Activation),
    /// `a + b`.
    Add,
}

/// An operation on values that are there already.
#[derive(Debug, Clone)]
pub struct Instruction {
    /// The operation.
    pub op: Op,
    /// Width of the result.
    pub width: usize,
    /// Values of the section: 0 is what enters it, i + 1 what instruction i gives.
    inputs: Vec<usize>,
    /// Values that nothing after it reads.
    last_of: Vec<usize>,
}

/// Instructions, the last of which gives the result.
#[derive(Debug, Clone, Default)]
pub struct Section {
    instructions: Vec<Instruction>,
}

impl Section {
    /// The instructions in order.
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }
}

/// Sizes of a network that code outside it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Rows of the embedding: tokens there are.
    pub vocabulary: usize,
    /// Width of what heads read.
    pub width: usize,
    /// Blocks.
    pub layers: usize,
    /// Key and value heads of an attention.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Longest sequence.
    pub context: usize,
    /// True if the output head is the embedding (tied weights).
    pub tied: bool,
}

/// The operations of a network, from tokens to what heads read, and its weights.
#[derive(Debug, Clone)]
pub struct Graph {
    /// Sizes.
    pub sizes: Sizes,
    /// Weights, in the order in which files hold them.
    pub weights: Vec<Declared>,
    /// Linear layers.
    pub linears: Vec<LinearWeights>,
    /// Rotary angles.
    pub rotations: Vec<Rotation>,
    /// Number of attentions.
    pub attentions: usize,
    /// The output head.
    pub head: Linear,
    /// The architecture, if the blocks are those of a plain decoder.
    pub plain: Option<Architecture>,
    stem: Section,
    blocks: Vec<Section>,
    tail: Section,
}

impl Graph {
    /// Weights in the order of parameters: section by section, and in a block the norms behind the matrices, which is
    /// the order of the optimiser, of checkpoints, and of random numbers.
    pub fn in_order(&self) -> Vec<Weight> {
        let mut order: Vec<Weight> = (0..self.weights.len()).map(Weight).collect();
        let is_norm = |purpose| matches!(purpose, Purpose::Scale { .. } | Purpose::Shift);
        order.sort_by_key(|&Weight(i)| {
            let declared = &self.weights[i];
            match declared.place {
                Place::Stem => (0, 0, false),
                Place::Block(block) => (1, block, is_norm(declared.purpose)),
                Place::Tail => (2, 0, false),
                Place::Head => (3, 0, false),
            }
        });
        order
    }

    /// A weight.
    pub fn weight(&self, weight: Weight) -> &Declared {
        &self.weights[weight.0]
    }

    /// A linear layer.
    pub fn linear(&self, linear: Linear) -> &LinearWeights {
        &self.linears[linear.0]
    }

    /// A linear layer by its name.
    pub fn linear_named(&self, name: &str) -> Option<Linear> {
        let found = self.linears.iter().position(|l| l.name == name);
        found.map(Linear)
    }

    /// A weight by its name.
    pub fn weight_named(&self, name: &str) -> Option<Weight> {
        self.weights.iter().position(|w| w.name == name).map(Weight)
    }

    /// All instructions, section by section.
    pub fn instructions(&self) -> impl Iterator<Item = &Instruction> {
        let sections = std::iter::once(&self.stem).chain(&self.blocks);
        sections
            .chain([&self.tail])
            .flat_map(|section| &section.instructions)
    }
}
