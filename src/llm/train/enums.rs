//! Settings that are one of a few.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use candle_core::Device;

use crate::error::{Error, Result};
use crate::llm::files::named::named;
use crate::llm::files::settings::{Given, Kind, Single};
use crate::llm::model::network::ValueRows;
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
    /// Optimiser of the weights.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
    #[non_exhaustive]
    pub enum OptimizerKind {
        /// AdamW
        AdamW = "adamw",
        /// Gradient descent without momentum
        Sgd = "sgd",
    }
}

named! {
    /// What the members of an ensemble of adapters make together.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
    #[non_exhaustive]
    pub enum Merge {
        /// The mean of their products BA
        Mean = "mean",
        /// The sum of their products BA
        Sum = "sum",
    }
}

named! {
    /// Way in which one of two completions becomes the preferred one.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
    #[non_exhaustive]
    pub enum Annotator {
        /// The one with the greater reward
        Greater = "greater",
        /// A draw, with the probability σ(r₁ − r₂) of Bradley and Terry for the first
        BradleyTerry = "bradley-terry",
        /// The demonstration, whatever the rewards (SPIN)
        Demonstration = "demonstration",
    }
}

named! {
    /// Where ln π_old of completions that the policy wrote comes from.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
    #[non_exhaustive]
    pub enum OldNumbers {
        /// The training forward, once when a phase begins: ratios are 1 at its first step
        Recomputed = "recomputed",
        /// The sampler: no forward pass, and ratios of 1 up to the rounding between the two
        Sampled = "sampled",
    }
}

named! {
    /// What is taken off the rewards of completions, over those of their prompt or their step, before the loss.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
    #[non_exhaustive]
    pub enum Advantage {
        /// Nothing
        Reward = "reward",
        /// The mean of the prompt's other completions (RLOO)
        LeaveOneOut = "leave-one-out",
        /// The mean of the prompt's completions (Dr. GRPO)
        GroupMean = "group-mean",
        /// That mean, and the rest is divided by their standard deviation plus 1e-4 (GRPO)
        GroupNormalised = "group-normalised",
        /// The mean of the step's completions
        BatchMean = "batch-mean",
        /// That mean, and the rest is divided by their standard deviation plus 1e-4
        BatchNormalised = "batch-normalised",
    }
}

impl Advantage {
    /// True if it compares the completions of a prompt.
    pub fn is_of_group(self) -> bool {
        matches!(
            self,
            Self::LeaveOneOut | Self::GroupMean | Self::GroupNormalised
        )
    }
}

named! {
    /// Weight of a completion by its length, in objectives of single responses.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
    #[non_exhaustive]
    pub enum LengthWeight {
        /// 1: the gradient is that of the expectation over whole completions
        Sum = "sum",
        /// One over its tokens: every completion counts by its mean token (GRPO)
        Response = "response",
        /// One over the mean tokens of the step's: every token counts alike (DAPO)
        Tokens = "tokens",
        /// One over max_new_tokens (Dr. GRPO)
        Constant = "constant",
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
    /// What each value of dro-v's V is of.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
    #[non_exhaustive]
    pub enum ValuePer {
        /// A prompt: V(x), read at its last token
        Prompt = "prompt",
        /// A step: the mean of V(x) over its responses, one number for all of them
        Batch = "batch",
        /// A token: V(x, y_<t), read where y_t is predicted; a response's value is the mean over its tokens
        Token = "token",
    }
}

impl ValuePer {
    /// Rows that the head is read at.
    pub fn rows(self) -> ValueRows {
        match self {
            Self::Prompt | Self::Batch => ValueRows::Prompt,
            Self::Token => ValueRows::Completion,
        }
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
    /// The policy that wrote a phase's completions.
    Behaviour,
    /// The moving average of the policy's weights, `θ′ ← τθ + (1 − τ)θ′` after every step; as it was written.
    Ema(String),
}

/// What begins the name of a moving average.
const EMA: &str = "ema:";

impl ReferenceSource {
    /// τ of a moving average, if it is one.
    ///
    /// # Errors
    /// No number from 0 to 1.
    pub fn rate(&self) -> Result<Option<f64>> {
        let Self::Ema(text) = self else {
            return Ok(None);
        };
        let rate = text.trim_start_matches(EMA).parse().ok();
        match rate.filter(|rate| (0.0..=1.0).contains(rate)) {
            Some(rate) => Ok(Some(rate)),
            None => Err(Error::invalid(
                "reference",
                format!("`{text}` has no rate"),
                "give ema:τ with a number from 0 (it stays as given) to 1 (it is the policy)",
            )),
        }
    }
}

impl From<String> for ReferenceSource {
    fn from(text: String) -> Self {
        match text.as_str() {
            "precomputed" => Self::Precomputed,
            "live" => Self::Live,
            "initial" => Self::Precomputed,
            "behaviour" | "behavior" => Self::Behaviour,
            _ if text.starts_with(EMA) => Self::Ema(text),
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
            Self::Behaviour => f.write_str("behaviour"),
            Self::Ema(text) => f.write_str(text),
        }
    }
}
