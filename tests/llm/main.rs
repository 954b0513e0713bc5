//! The LLM half: one file a subject. Apart from `tests/main.rs`, so that either builds alone.

mod fixtures;
mod micro_batches;
mod parity;
mod smoke;
mod tokenizer;
