//! Random weights.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use ndarray_rand::rand_distr::{Distribution, StandardNormal};

use super::Decoder;
use crate::error::Result;
use crate::llm::model::architecture::{Architecture, Norm};
use crate::llm::model::config::{Config, Family};
use crate::random::{Purpose, Stream};

impl Decoder {
    /// Random weights: matrices normal with that standard deviation, norms at their identity,
    /// biases 0. The same seed gives the same weights.
    ///
    /// # Errors
    /// A failing device.
    pub fn random(
        architecture: Architecture,
        deviation: f64,
        seed: u64,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let mut initial = Initial {
            deviation,
            residual: deviation,
            padding: None,
            norm: identity(&architecture),
            seed,
            index: 0,
        };
        Self::new(architecture, dtype, device, &mut |name, shape| {
            initial.tensor(name, shape)
        })
    }

    /// Random weights for a `config.json`, distributed as in `transformers`: matrices normal with
    /// standard deviation `initializer_range`, norms at their identity, biases 0, the embedding of
    /// `pad_token_id` 0; GPT-2's projections into the residual stream divided by √(2 · layers).
    /// The same seed gives the same weights.
    ///
    /// # Errors
    /// A configuration that is not supported, or a failing device.
    pub fn from_config(
        path: impl AsRef<Path>,
        seed: u64,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let config = Config::read(path)?;
        let a = config.architecture.clone();
        let mut initial = Initial {
            deviation: config.deviation,
            residual: match config.family {
                Family::Gpt2 => config.deviation / (2.0 * a.layers as f64).sqrt(),
                _ => config.deviation,
            },
            padding: config.padding.filter(|_| config.family != Family::Gpt2),
            norm: identity(&a),
            seed,
            index: 0,
        };
        let mut decoder = Self::new(a, dtype, device, &mut |name, shape| {
            initial.tensor(name, shape)
        })?;
        decoder.config = Some(config);
        Ok(decoder)
    }
}

/// The scale at which a norm only normalises.
fn identity(a: &Architecture) -> f64 {
    match a.norm {
        Norm::Rms { offset } => 1.0 - offset,
        Norm::Layer => 1.0,
    }
}

/// Numbers to begin with; one stream a tensor, in the order of asking.
struct Initial {
    deviation: f64,
    /// The deviation of projections into the residual stream.
    residual: f64,
    padding: Option<usize>,
    norm: f64,
    seed: u64,
    index: u64,
}

impl Initial {
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.index += 1;
        let mut stream = Stream::new(self.seed, Purpose::Start, self.index);
        let count: usize = shape.iter().product();
        let residual = ["o_proj.weight", "down_proj.weight"];
        let deviation = if residual.iter().any(|r| name.ends_with(r)) {
            self.residual
        } else {
            self.deviation
        };
        let mut numbers: Vec<f64> = match shape {
            [_] if name.ends_with("bias") => vec![0.0; count],
            [_] => vec![self.norm; count],
            _ => (0..count)
                .map(|_| -> f64 { StandardNormal.sample(stream.rng()) })
                .map(|z| deviation * z)
                .collect(),
        };
        if let (Some(row), "model.embed_tokens.weight", &[_, width]) = (self.padding, name, shape) {
            numbers[row * width..][..width].fill(0.0);
        }
        Ok(Tensor::from_vec(numbers, shape, &Device::Cpu)?)
    }
}
