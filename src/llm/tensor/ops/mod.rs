//! Every differentiable operation of a transformer, each singly replaceable, in a folder with its facts.
//!
//! Activations are ragged: the tokens of all sequences of a micro-batch lie end to end in one
//! `[N, D]` tensor, so that there is no padding to attend to, to mask or to pay for.
//!
//! On a CPU in f32 and f64 an operation is fused, with its own backward (`cpu`); elsewhere it is composed of
//! candle's, with a backward written by hand ([`composed`]). The twin that tests compare both with
//! is composed of candle's and takes candle's gradient ([`plain`]). What it takes and gives, what it costs, how far it
//! may be off, the memory that it needs and the shapes that it is examined on are an [`Operation`]; the [`REGISTRY`]
//! has them all.

pub mod activation;
pub mod add;
pub mod attention;
mod bound;
mod cases;
pub mod composed;
mod cost;
pub(crate) mod float;
pub mod gated;
mod kernel;
pub mod layer_norm;
pub mod linear;
pub mod logits;
pub(crate) mod matmul;
pub(crate) mod memory;
mod needs;
mod norms;
mod operation;
mod pack;
pub(crate) mod panels;
pub mod plain;
pub(crate) mod pointwise;
pub mod rms_norm;
pub mod rope;
pub mod rows;
pub mod scale;
pub(crate) mod simd;
pub(crate) mod slice;
mod starts;

pub use activation::{Activation, activation};
pub use add::{add, add_in_place};
pub use attention::{Attention, attention};
pub use bound::{Bound, Units};
pub use cases::Shapes;
pub use cost::Cost;
pub use gated::gated;
pub use layer_norm::layer_norm;
pub use linear::linear;
pub use logits::{Teacher, cross_entropy, logit_difference, token_log_probs};
pub use needs::{Form, How, Memory, Needs};
pub use operation::{Case, Constant, Entry, Input, Operation, Same};
pub use rms_norm::rms_norm;
pub use rope::{Rope, rope};
pub use rows::{embedding, rows};
pub use scale::scale;
pub use starts::{Span, Starts};

/// Every operation.
pub const REGISTRY: [Entry; 11] = [
    linear::ENTRY,
    rows::ENTRY,
    rms_norm::ENTRY,
    layer_norm::ENTRY,
    rope::ENTRY,
    attention::ENTRY,
    gated::ENTRY,
    activation::ENTRY,
    add::ENTRY,
    scale::ENTRY,
    logits::ENTRY,
];
