//! Tensors and automatic differentiation: the tape, its operations, parameters, the optimizer, the device.

pub mod device;
pub mod machine;
pub mod memory;
pub mod ops;
pub mod optimizer;
pub mod parameters;
pub mod tape;

use candle_core::{DType, Tensor};

use crate::error::Result;

/// True if two tensors are equal in the second's precision.
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
