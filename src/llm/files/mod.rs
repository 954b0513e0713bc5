//! Files of a model or a run: JSON objects and their fields, settings and their names, hashes, finite numbers,
//! checkpoints, and foreign parsers whose panics are caught.

pub mod checkpoint;
pub(in crate::llm) mod fields;
pub mod finite;
pub(in crate::llm) mod hash;
pub mod json;
// What flags are made of is asked for by the command alone.
#[cfg_attr(not(feature = "cli"), allow(dead_code))]
pub mod named;
pub(in crate::llm) mod quiet;
#[cfg_attr(not(feature = "cli"), allow(dead_code))]
pub mod settings;
