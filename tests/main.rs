//! All integration tests, in one crate so that they link once.

mod common;
mod golden;
#[cfg(feature = "llm")]
mod parity;
