//! The model of a folder, or random weights of its shape.

use std::path::Path;

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use ndarray_rand::rand_distr::{Distribution, StandardNormal};
use pistar::llm::model::config::Config;
use pistar::llm::model::decoder::Decoder;
use pistar::random::{Purpose, Stream};
use rayon::prelude::*;

/// Numbers drawn by one task.
const CHUNK: usize = 1 << 20;
const DEVIATION: f32 = 0.02;

/// The weights of a folder; where it has only a `config.json`, matrices are normal with standard
/// deviation 0.02 and norms 1.
pub fn load(folder: &str, dtype: DType, device: &Device) -> Result<Decoder> {
    let folder = Path::new(folder);
    if folder.join("model.safetensors").exists() {
        return Ok(Decoder::load(folder, dtype, device)?);
    }
    let config = Config::read(folder.join("config.json"))?;
    let mut chunks = 0;
    let decoder = Decoder::of_config(config, dtype, device, &mut |_, shape| {
        let mut numbers = vec![1.0_f32; shape.iter().product()];
        if shape.len() > 1 {
            let first = chunks;
            chunks += numbers.len().div_ceil(CHUNK) as u64;
            (numbers.par_chunks_mut(CHUNK).enumerate()).for_each(|(index, chunk)| {
                let mut stream = Stream::new(0, Purpose::Start, first + index as u64);
                chunk.iter_mut().for_each(|x| {
                    let z: f32 = StandardNormal.sample(stream.rng());
                    *x = DEVIATION * z;
                });
            });
        }
        Ok(Tensor::from_vec(numbers, shape, &Device::Cpu)?)
    })?;
    Ok(decoder)
}
