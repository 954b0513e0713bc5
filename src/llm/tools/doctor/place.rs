//! Where tensors are, and in which precision.

use candle_core::{DType, Device, Tensor};

use crate::error::Result;
use crate::llm::tensor::ops::Constant;
use crate::llm::tensor::ops::composed::wider;

/// The precision and device of tensors.
#[derive(Debug, Clone)]
pub struct Place {
    /// Precision.
    pub dtype: DType,
    /// Device.
    pub device: Device,
}

impl Place {
    /// f64 on the CPU.
    pub fn reference() -> Self {
        Self {
            dtype: DType::F64,
            device: Device::Cpu,
        }
    }

    /// A tensor there.
    ///
    /// # Errors
    /// A failing device.
    pub fn put(&self, tensor: &Tensor) -> Result<Tensor> {
        Ok(tensor.to_dtype(self.dtype)?.to_device(&self.device)?)
    }

    /// What an operation reads beside its inputs, there; in f32 at least if it is wide.
    ///
    /// # Errors
    /// A failing device.
    pub fn constant(&self, constant: &Constant) -> Result<Constant> {
        let wide = Self {
            dtype: wider(self.dtype),
            device: self.device.clone(),
        };
        let place = if constant.wide { &wide } else { self };
        Ok(Constant {
            tensor: place.put(&constant.tensor)?,
            wide: constant.wide,
        })
    }
}
