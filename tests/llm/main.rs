//! The LLM half: one file a subject. Apart from `tests/main.rs`, so that either builds alone.

mod boundary;
#[path = "../common/cases.rs"]
mod cases;
mod configurations;
mod data;
mod families;
mod faults;
mod fixtures;
mod folders;
mod generate;
mod language;
mod logprobs;
mod lora;
mod micro_batches;
mod ops;
mod optimizer;
mod order;
mod parity;
mod place;
mod reference;
mod resume;
mod rewards;
mod runs;
mod saved;
mod schedule;
mod smoke;
mod texts;
mod tokenizer;
mod traces;
mod train;
