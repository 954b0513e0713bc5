//! The LLM half: one file a subject. Apart from `tests/main.rs`, so that either builds alone.

mod ops;
mod optimizer;
mod smoke;
