//! Weights on disk: safetensors files, one or several (shards).

mod finite;
mod layout;
mod loader;
mod reader;
mod writer;

pub use finite::{broken, not_finite, refusal};
pub use layout::{Entry, layout};
pub use loader::Loader;
pub use reader::Checkpoint;
pub use writer::{Item, after, before, file, is_weights, stage};

use std::path::{Path, PathBuf};

use candle_core::{DType, Tensor};

use crate::error::Result;

/// The files that hold a model's weights.
///
/// # Errors
/// As [`Checkpoint::open`].
pub fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    Ok(Checkpoint::open(dir)?.files())
}

/// Whether two tensors are equal in the second's precision.
///
/// # Errors
/// A failing device.
pub fn same(a: &Tensor, b: &Tensor) -> Result<bool> {
    if a.dims() != b.dims() {
        return Ok(false);
    }
    let a = a.to_dtype(b.dtype())?.to_device(b.device())?;
    let differ = a.ne(b)?.to_dtype(DType::U32)?.flatten_all()?;
    Ok(differ.max(0)?.to_scalar::<u32>()? == 0)
}
