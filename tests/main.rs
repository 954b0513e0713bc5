//! All integration tests, in one crate so that they link once.

mod certificates;
mod common;
mod golden;
#[cfg(feature = "llm")]
mod parity;
