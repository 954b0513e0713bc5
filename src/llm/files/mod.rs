//! Files of a model or a run: JSON read with its place, settings and their names, hashes, folders that appear whole or
//! not at all.

pub mod checkpoint;
pub(in crate::llm) mod fields;
pub mod finite;
pub(in crate::llm) mod hash;
pub mod json;
pub mod named;
pub(in crate::llm) mod quiet;
pub mod settings;
