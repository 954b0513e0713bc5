//! All integration tests, in one crate so that they link once.

mod certificates;
#[cfg(not(mutants))]
mod cli;
mod common;
mod golden;
#[cfg(feature = "llm")]
mod parity;
