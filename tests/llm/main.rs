//! The LLM half: one file a subject. Apart from `tests/main.rs`, so that either builds alone.

mod boundary;
mod data;
mod families;
mod faults;
mod fixtures;
mod folders;
mod language;
mod logprobs;
mod lora;
mod micro_batches;
mod ops;
mod optimizer;
mod parity;
mod schedule;
mod smoke;
mod texts;
mod tokenizer;
mod train;
