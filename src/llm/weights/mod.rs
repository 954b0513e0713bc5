//! Weights on disk: safetensors files, one or several (shards).

mod layout;
mod loader;
mod reader;

pub use layout::{Entry, layout};
pub use loader::Loader;
pub use reader::Checkpoint;
