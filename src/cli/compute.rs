//! Flags of what models run on, for the commands that run some.

use crate::llm::tensor::device;
use crate::llm::train::Precision;
use crate::{Error, Result};
use candle_core::{DType, Device};

use super::flags::named;

/// Flags for the device of tensors, and their precision.
#[derive(clap::Args)]
pub struct Compute {
    /// `cpu`, `cuda` (the first GPU) or `cuda:N`
    #[arg(long, value_name = "NAME", default_value = "cpu")]
    device: String,
    /// Precision of weights and activations
    #[arg(long, value_parser = named::<Precision>(), default_value = Precision::F32.name())]
    dtype: Precision,
    /// Round the factors of f32 matrix products on a GPU to TF32: faster, and less precise
    #[arg(long)]
    tf32: bool,
}

impl Compute {
    /// The device, ready.
    ///
    /// # Errors
    /// A device that is not there, or TF32 where it means nothing.
    pub fn device(&self) -> Result<Device> {
        let fail = |problem: String, remedy| Err(Error::invalid("--tf32", problem, remedy));
        if self.tf32 && self.dtype() != DType::F32 {
            let problem = format!("products are in {}", self.dtype().as_str());
            return fail(problem, "leave it out, or give --dtype f32");
        }
        let found = device::device(&self.device)?;
        if self.tf32 && found.is_cpu() {
            let problem = "the CPU has no TF32".into();
            return fail(problem, "leave it out, or give --device cuda");
        }
        device::tf32(self.tf32);
        Ok(found)
    }

    /// candle's name of the precision.
    pub fn dtype(&self) -> DType {
        self.dtype.dtype()
    }
}
