//! Random weights.

use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use ndarray_rand::rand_distr::{Distribution, StandardNormal};

use super::Decoder;
use crate::error::Result;
use crate::llm::model::architecture::Architecture;
use crate::llm::model::config::Config;
use crate::llm::model::graph::{Declared, Purpose as Role};
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
            seed,
            index: 0,
        };
        let graph = Arc::new(architecture.graph());
        Self::build(graph, true, dtype, device, &mut |weight| {
            initial.tensor(weight)
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
        let (graph, family) = (config.graph.clone(), config.family);
        let mut initial = Initial {
            deviation: config.deviation,
            residual: if family.small_residual {
                config.deviation / (2.0 * graph.sizes.layers as f64).sqrt()
            } else {
                config.deviation
            },
            padding: config.padding.filter(|_| family.zero_padding),
            seed,
            index: 0,
        };
        let mut decoder = Self::build(graph, true, dtype, device, &mut |weight| {
            initial.tensor(weight)
        })?;
        decoder.config = Some(config);
        Ok(decoder)
    }
}

/// Numbers to begin with; one stream a tensor, in the order of asking.
struct Initial {
    deviation: f64,
    /// The deviation of projections into the residual stream.
    residual: f64,
    padding: Option<usize>,
    seed: u64,
    index: u64,
}

impl Initial {
    fn tensor(&mut self, weight: &Declared) -> Result<Tensor> {
        self.index += 1;
        let mut stream = Stream::new(self.seed, Purpose::Start, self.index);
        let count: usize = weight.shape.iter().product();
        let mut normal = |deviation: f64| -> Vec<f64> {
            (0..count)
                .map(|_| -> f64 { StandardNormal.sample(stream.rng()) })
                .map(|z| deviation * z)
                .collect()
        };
        let numbers: Vec<f64> = match weight.purpose {
            Role::Bias | Role::Shift => vec![0.0; count],
            // At which a norm only normalises.
            Role::Scale { offset } => vec![1.0 - offset; count],
            Role::Residual => normal(self.residual),
            Role::Matrix | Role::Positions => normal(self.deviation),
            Role::Tokens => {
                let mut numbers = normal(self.deviation);
                let width = count / weight.shape[0].max(1);
                if let Some(row) = self.padding {
                    numbers[row * width..][..width].fill(0.0);
                }
                numbers
            }
        };
        Ok(Tensor::from_vec(
            numbers,
            weight.shape.clone(),
            &Device::Cpu,
        )?)
    }
}
