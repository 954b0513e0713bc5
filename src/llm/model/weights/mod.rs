//! Weights on disk: safetensors files, one or several (shards).

mod loader;
mod reader;
mod writer;

pub use super::families::Entry;
pub use loader::Loader;
pub use reader::Checkpoint;
pub use writer::{Item, after, before, file, is_weights, stage};

use std::path::{Path, PathBuf};

use crate::error::Result;

/// The files that hold a model's weights.
///
/// # Errors
/// As [`Checkpoint::open`].
pub fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    Ok(Checkpoint::open(dir)?.files())
}
