//! Transformers under the very same losses: models, text data, training.
//!
//! A loss never sees a model: [`step`] turns a batch of token sequences into numbers per response,
//! which [`loss`](crate::loss) gets in f64, and the cotangents it returns are pushed back through
//! the [`decoder`].

pub mod architecture;
pub mod batch;
pub mod budget;
pub mod chat;
pub mod checkpoint;
pub mod config;
pub mod data;
pub mod decoder;
pub mod device;
pub mod doctor;
pub mod evaluate;
pub mod example;
mod fields;
mod folder;
pub mod generate;
mod hash;
pub mod heads;
pub mod identity;
pub mod json;
pub mod language;
pub mod logprobs;
pub mod lora;
pub mod memory;
pub mod model_folder;
pub mod network;
pub mod objective;
pub mod ops;
pub mod optimizer;
pub mod parameters;
mod quiet;
pub mod reference;
pub mod reward;
pub mod runs;
pub mod saving;
pub mod schedule;
pub mod sequence;
pub mod staged;
pub mod step;
pub mod tape;
pub mod tokenizer;
pub mod train;
pub mod weights;
