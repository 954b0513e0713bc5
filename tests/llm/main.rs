//! The LLM half: one file a subject. Apart from `tests/main.rs`, so that either builds alone.

mod data;
mod fixtures;
mod micro_batches;
mod ops;
mod optimizer;
mod parity;
mod smoke;
mod texts;
mod tokenizer;
