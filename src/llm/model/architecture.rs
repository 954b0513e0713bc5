//! Architecture of a decoder: its sizes, and the variants of its parts.

use crate::llm::tensor::ops::Activation;

/// The most of everything that is read: far above any model, and so little that no product or sum of
/// numbers, or of their bytes, overflows.
pub mod most {
    /// Blocks.
    pub const LAYERS: usize = 10_000;
    /// Heads of a block, of queries or of keys.
    pub const HEADS: usize = 10_000;
    /// Width of the residual stream.
    pub const WIDTH: usize = 1 << 18;
    /// Width of all heads together, and of the MLP.
    pub const INNER: usize = 1 << 20;
    /// Rows of the embedding.
    pub const VOCABULARY: usize = 1 << 24;
    /// Tokens of a sequence, and of a window.
    pub const CONTEXT: usize = 1 << 30;
    /// Rank of an adapter.
    pub const RANK: usize = 1 << 16;
}

/// The normalisation before and after blocks.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Norm {
    /// Root mean square, scaled by w + `offset`.
    Rms {
        /// 1 for Gemma, else 0.
        offset: f64,
    },
    /// Mean and variance, with a bias.
    Layer,
}

/// Kind of position encoding.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Positions {
    /// Rotary: inverse frequencies of the pairs of a head, `[D/2]`, any scaling included, and what
    /// cosines and sines are multiplied by (1 but for some scalings).
    Rotary {
        /// Angle per position.
        frequencies: Vec<f64>,
        /// Factor of cosines and sines.
        factor: f64,
    },
    /// A learned table.
    Learned,
}

/// Every number that decides a decoder's arithmetic.
#[derive(Debug, Clone, PartialEq)]
pub struct Architecture {
    /// Rows of the embedding.
    pub vocabulary: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Width of the MLP.
    pub intermediate: usize,
    /// Longest sequence.
    pub context: usize,
    /// Normalisation.
    pub norm: Norm,
    /// ε in it.
    pub epsilon: f64,
    /// Nonlinearity of the MLP.
    pub activation: Activation,
    /// True if the MLP is gated.
    pub gated: bool,
    /// Position encoding.
    pub positions: Positions,
    /// Sliding window of attention.
    pub window: Option<usize>,
    /// Biases of query, key and value.
    pub qkv_bias: bool,
    /// Bias of the attention's output.
    pub output_bias: bool,
    /// Biases of the MLP.
    pub mlp_bias: bool,
    /// Factor of the token embeddings.
    pub embedding_scale: f64,
    /// True if the output head is the embedding (tied weights).
    pub tied: bool,
}
