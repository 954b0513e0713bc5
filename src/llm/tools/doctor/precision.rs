//! Precisions, and how finely each tells numbers apart.

use candle_core::{DType, Device};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::llm::files::named::named;
use crate::llm::tensor::ops::Units;

named! {
    /// Precision of stored numbers and of matrix products.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
    pub enum Precision {
        /// 53 bits
        F64 = "f64",
        /// 24 bits
        F32 = "f32",
        /// 24 bits, of which matrix products on a GPU see the first 11
        Tf32 = "tf32",
        /// 8 bits; sums, norms' statistics, softmax and log-probabilities in f32
        Bf16 = "bf16",
    }
}

impl Precision {
    /// Type of tensors.
    pub fn dtype(self) -> DType {
        match self {
            Self::F64 => DType::F64,
            Self::F32 | Self::Tf32 => DType::F32,
            Self::Bf16 => DType::BF16,
        }
    }

    /// Its largest relative errors of one rounding.
    pub fn units(self) -> Units {
        let [double, single] = [2f64.powi(-53), 2f64.powi(-24)];
        let (stored, summed, operand) = match self {
            Self::F64 => (double, double, 0.0),
            Self::F32 => (single, single, 0.0),
            Self::Tf32 => (single, single, 2f64.powi(-11)),
            Self::Bf16 => (2f64.powi(-8), single, 0.0),
        };
        Units {
            stored,
            summed,
            operand,
        }
    }

    /// Those that a device is examined in unless one is named.
    pub fn all(device: &Device) -> Vec<Self> {
        if device.is_cpu() {
            vec![Self::F64, Self::F32, Self::Bf16]
        } else {
            vec![Self::F32, Self::Bf16]
        }
    }

    /// The one that a device trains in unless one is named.
    pub fn usual(device: &Device) -> Self {
        if device.is_cpu() {
            Self::F32
        } else {
            Self::Bf16
        }
    }

    /// An error unless the device has it.
    ///
    /// # Errors
    /// TF32 on a CPU.
    pub fn check(self, device: &Device) -> Result<()> {
        if self == Self::Tf32 && !device.is_cuda() {
            Err(Error::invalid(
                "--dtype",
                "it is `tf32`, which only CUDA devices have",
                "give f32, f64 or bf16, or --device cuda",
            ))
        } else {
            Ok(())
        }
    }

    /// Runs `f` with TF32 in matrix products as this precision has it, and as it was again after.
    pub fn within<T>(self, f: impl FnOnce() -> T) -> T {
        let restore = Restore(candle_core::cuda::gemm_reduced_precision_f32());
        candle_core::cuda::set_gemm_reduced_precision_f32(self == Self::Tf32);
        let result = f();
        drop(restore);
        result
    }
}

/// Puts TF32 back, whatever happens.
struct Restore(bool);

impl Drop for Restore {
    fn drop(&mut self) {
        candle_core::cuda::set_gemm_reduced_precision_f32(self.0);
    }
}
