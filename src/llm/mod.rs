//! Transformers under the very same losses: models, text data, training.
//!
//! A loss never sees a model: [`step`](train::step) turns a batch of token sequences into numbers per response,
//! which [`loss`](crate::loss) gets in f64, and the cotangents it returns are pushed back through
//! the [`decoder`](model::decoder).

pub mod files;
pub mod language;
pub mod model;
pub mod sample;
pub mod tensor;
pub mod text;
pub mod tools;
pub mod train;
