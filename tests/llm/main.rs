//! The LLM half: one file a subject. Apart from `tests/main.rs`, so that either builds alone.

mod boundary;
#[path = "../common/cases.rs"]
mod cases;
mod chat;
mod checks;
mod configurations;
mod data;
mod families;
mod faults;
mod fixtures;
mod folders;
mod formats;
mod language;
mod logprobs;
mod lora;
mod mapping;
mod micro_batches;
mod ops;
mod optimizer;
mod order;
mod parity;
mod place;
mod recipes;
mod reference;
mod resume;
mod runs;
mod saved;
mod schedule;
mod smoke;
mod texts;
mod tokenizer;
mod traces;
mod train;
