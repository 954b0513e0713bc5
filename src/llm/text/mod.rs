//! From files of text to batches of tokens: tokenizers, chat templates, data.

pub mod batch;
pub(crate) mod chat;
pub mod data;
pub mod example;
pub mod objective;
pub mod tokenizer;
