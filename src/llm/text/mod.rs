//! Text to tokens: tokenizers, chat templates, data, batches.

pub mod batch;
pub(crate) mod chat;
pub mod data;
pub mod example;
pub mod objective;
pub mod tokenizer;
