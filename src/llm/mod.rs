//! Transformers under the very same losses: models, text data, training.
//!
//! A loss never sees a model: a batch of token sequences becomes numbers per response, which
//! [`loss`](crate::loss) gets in f64, and the cotangents it returns are pushed back through the
//! [`decoder`].

pub mod architecture;
pub mod decoder;
pub mod ops;
pub mod optimizer;
pub mod parameters;
pub mod sequence;
pub mod tape;
