//! The LLM half: one file a subject. Apart from `tests/main.rs`, so that either builds alone.

mod data;
mod micro_batches;
mod optimizer;
mod smoke;
mod texts;
