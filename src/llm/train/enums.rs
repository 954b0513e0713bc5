//! Settings that are one of a few.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use candle_core::Device;

use crate::llm::files::named::named;
use crate::llm::files::settings::{Given, Kind, Single};
use crate::loss::Batch;

named! {
    /// Precision of weights and activations.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
    #[non_exhaustive]
    pub enum Precision {
        /// bfloat16: sums, norms and softmax in f32; trained by f32 master weights and moments
        Bf16 = "bf16",
        /// 32 bits
        F32 = "f32",
        /// 64 bits
        F64 = "f64",
    }
}

impl Precision {
    /// candle's name.
    pub fn dtype(self) -> candle_core::DType {
        match self {
            Self::Bf16 => candle_core::DType::BF16,
            Self::F32 => candle_core::DType::F32,
            Self::F64 => candle_core::DType::F64,
        }
    }
}

named! {
    /// Backend that the loss is run on; both give the same numbers but for rounding.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
    #[non_exhaustive]
    pub enum LossBackend {
        /// The host; from 65,536 numbers on the model's device, if that is another
        Auto = "auto",
        /// ndarray in f64 on the host
        Host = "host",
        /// candle in f64 on the model's device
        Device = "device",
    }
}

/// Numbers of a batch from which a loss is run on the model's device.
const MANY: usize = 1 << 16;

impl LossBackend {
    /// True if a batch's loss is run on the model's device.
    pub fn is_device(self, batch: &Batch, device: &Device) -> bool {
        match self {
            Self::Host => false,
            Self::Device => true,
            Self::Auto => {
                let numbers: usize = batch.log_policy.iter().map(Vec::len).sum();
                !device.is_cpu() && numbers >= MANY
            }
        }
    }
}

named! {
    /// Which network gives V(x).
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
    #[non_exhaustive]
    pub enum ValueNetwork {
        /// Another copy of the model with a head
        Separate = "separate",
        /// A head on the policy itself
        Shared = "shared",
    }
}

named! {
    /// Which values of a metric are the better ones.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
    pub enum Better {
        /// Low ones
        Min = "min",
        /// High ones
        Max = "max",
    }
}

impl Better {
    /// What is known of a metric by its name.
    pub fn of(metric: &str) -> Option<Self> {
        let name = metric.rsplit(['/', '_']).next().unwrap_or(metric);
        match name {
            "loss" | "kl" => Some(Self::Min),
            "accuracies" | "accuracy" | "margins" | "margin" | "reward" | "scores" => {
                Some(Self::Max)
            }
            _ => None,
        }
    }
}

/// Where the reference's log-probabilities come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
#[non_exhaustive]
pub enum ReferenceSource {
    /// Computed once by the model as given, and kept in a file.
    Precomputed,
    /// Computed at every step by the model as given, which stays in memory.
    Live,
    /// Computed once by the model in this folder, and kept in a file.
    Model(PathBuf),
}

impl From<String> for ReferenceSource {
    fn from(text: String) -> Self {
        match text.as_str() {
            "precomputed" => Self::Precomputed,
            "live" => Self::Live,
            _ => Self::Model(text.into()),
        }
    }
}

impl Single for ReferenceSource {
    const KIND: Kind = Kind::Text;

    fn of(given: Given) -> Option<Self> {
        String::of(given).map(Self::from)
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl From<ReferenceSource> for String {
    fn from(source: ReferenceSource) -> Self {
        source.to_string()
    }
}

impl fmt::Display for ReferenceSource {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Precomputed => f.write_str("precomputed"),
            Self::Live => f.write_str("live"),
            Self::Model(dir) => write!(f, "{}", dir.display()),
        }
    }
}
