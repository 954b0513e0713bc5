//! The LLM half: one file a subject. Apart from `tests/main.rs`, so that either builds alone.

#[global_allocator]
static HEAP: pistar::llm::internals::tensor::memory::Counting =
    pistar::llm::internals::tensor::memory::Counting;

mod adapters;
mod beside;
mod bf16;
mod boundary;
mod candle_nn;
#[path = "../common/cases.rs"]
mod cases;
mod chat;
mod checks;
mod compare;
mod configurations;
mod data;
mod device;
mod doctor;
mod doors;
mod ends;
mod evaluation;
mod events;
mod families;
mod faults;
mod finite;
mod fixtures;
mod flags;
mod folders;
mod foreign;
mod formats;
mod fuzz;
mod generate;
mod half;
mod identity;
mod interrupt;
mod kills;
mod language;
mod logprobs;
mod lora;
mod mapping;
mod memory;
mod micro_batches;
mod observer;
mod ops;
mod optimizer;
mod order;
mod orphans;
mod own_loss;
mod parity;
mod place;
mod plan;
mod recipes;
mod reference;
mod resume;
mod rewards;
mod runs;
mod saved;
mod schedule;
mod sizes;
mod smoke;
mod special;
mod sweep;
mod texts;
mod tokenizer;
mod traces;
mod train;
mod written;
