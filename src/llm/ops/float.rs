//! The numbers that kernels are written for.

use candle_core::{CpuStorage, Result as Candle, WithDType};

/// f32 or f64.
pub trait Float: WithDType + std::ops::Neg<Output = Self> {
    /// √x
    fn sqrt(self) -> Self;

    /// A storage's numbers.
    ///
    /// # Errors
    /// Another precision.
    fn slice_mut(storage: &mut CpuStorage) -> Candle<&mut [Self]>;
}

macro_rules! float {
    ($t:ty, $variant:ident) => {
        impl Float for $t {
            #[inline(always)]
            fn sqrt(self) -> Self {
                self.sqrt()
            }

            fn slice_mut(storage: &mut CpuStorage) -> Candle<&mut [Self]> {
                match storage {
                    CpuStorage::$variant(numbers) => Ok(numbers),
                    _ => candle_core::bail!("numbers that are not {}", Self::DTYPE.as_str()),
                }
            }
        }
    };
}
float!(f32, F32);
float!(f64, F64);
