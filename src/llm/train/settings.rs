//! What a run depends on.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use candle_core::Device;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::llm::data;
use crate::llm::device::device;
use crate::llm::objective::{Numbers, TextObjective, TokenReduction};
use crate::llm::optimizer::Config;
use crate::llm::schedule::{Schedule, Shape};
use crate::loss::Parameters;

/// Precision of weights and activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32 bits
    F32,
    /// 64 bits
    F64,
}

impl Precision {
    /// candle's name.
    pub fn dtype(self) -> candle_core::DType {
        match self {
            Self::F32 => candle_core::DType::F32,
            Self::F64 => candle_core::DType::F64,
        }
    }
}

/// Which network gives V(x).
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ValueNetwork {
    /// Another copy of the model with a head
    Separate,
    /// A head on the policy itself
    Shared,
}

/// Where the reference's log-probabilities come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
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

impl FromStr for ReferenceSource {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        Ok(text.to_string().into())
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

/// Everything a run depends on: the flags of `pistar train`, and the fields of its `config.toml`.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// What to train: `pistar train --list` names them
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objective: Option<String>,

    /// Folder of the model to start from
    #[arg(long, value_name = "DIR", help_heading = "Input and output")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<PathBuf>,
    /// Examples, one JSON object a line
    #[arg(long, value_name = "FILE", help_heading = "Input and output")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    /// Folder to write to [default: out/OBJECTIVE]
    #[arg(long, value_name = "DIR", help_heading = "Input and output")]
    #[serde(skip_serializing)]
    pub out: Option<PathBuf>,
    /// Go on from the run's last checkpoint, or from the one in this folder
    #[arg(
        long,
        value_name = "DIR",
        num_args = 0..=1,
        default_missing_value = "latest",
        help_heading = "Input and output"
    )]
    #[serde(skip_serializing)]
    pub resume: Option<PathBuf>,
    /// Replace another run in the folder
    #[arg(long, help_heading = "Input and output")]
    #[serde(skip_serializing)]
    pub overwrite: bool,

    /// β, the temperature of the KL penalty
    #[arg(long, default_value_t = 0.1, help_heading = "Objective")]
    pub beta: f64,
    /// m of the Advantage Model
    #[arg(long, help_heading = "Objective")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
    /// The number b of `pg`
    #[arg(long, allow_negative_numbers = true, help_heading = "Objective")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<f64>,
    /// Weight of KTO's desirable examples
    #[arg(
        long,
        value_name = "WEIGHT",
        default_value_t = 1.0,
        help_heading = "Objective"
    )]
    pub desirable_weight: f64,
    /// Weight of KTO's undesirable examples
    #[arg(
        long,
        value_name = "WEIGHT",
        default_value_t = 1.0,
        help_heading = "Objective"
    )]
    pub undesirable_weight: f64,
    /// How log-probabilities are made of tokens', policy's and reference's alike [default: sum; of
    /// sft: batch]
    #[arg(long, value_name = "HOW", value_enum, help_heading = "Objective")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_reduction: Option<TokenReduction>,
    /// `precomputed` or `live` by the model as given, or the folder of another model
    #[arg(long, value_name = "WHICH", default_value_t = ReferenceSource::Precomputed, help_heading = "Objective")]
    pub reference: ReferenceSource,
    /// Which network gives V(x) in dro-v
    #[arg(long, value_name = "WHICH", value_enum, default_value_t = ValueNetwork::Separate, help_heading = "Objective")]
    pub value: ValueNetwork,

    /// Learning rate [default: 1e-6; of sft and reward models: 2e-5]
    #[arg(long, help_heading = "Optimiser")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr: Option<f64>,
    /// Learning rate of the separate value network [default: that of the policy]
    #[arg(long, value_name = "LR", help_heading = "Optimiser")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_lr: Option<f64>,
    /// How the learning rate goes on after warm-up
    #[arg(
        long,
        value_name = "SHAPE",
        value_enum,
        default_value_t,
        help_heading = "Optimiser"
    )]
    pub schedule: Shape,
    /// Steps in which the learning rate rises from 0; below 1, the share of all steps
    #[arg(
        long,
        value_name = "STEPS|SHARE",
        default_value_t = 0.0,
        help_heading = "Optimiser"
    )]
    pub warmup: f64,
    /// Decoupled weight decay of matrices (norms and biases never decay)
    #[arg(
        long,
        value_name = "DECAY",
        default_value_t = 0.0,
        help_heading = "Optimiser"
    )]
    pub weight_decay: f64,
    /// Decay of AdamW's first moment
    #[arg(
        long,
        value_name = "BETA",
        default_value_t = 0.9,
        help_heading = "Optimiser"
    )]
    pub adam_beta1: f64,
    /// Decay of AdamW's second moment
    #[arg(
        long,
        value_name = "BETA",
        default_value_t = 0.999,
        help_heading = "Optimiser"
    )]
    pub adam_beta2: f64,
    /// Added to the root of AdamW's second moment
    #[arg(
        long,
        value_name = "EPSILON",
        default_value = "1e-8",
        help_heading = "Optimiser"
    )]
    pub adam_epsilon: f64,
    /// Longest gradient; a longer one is shortened to it; 0 for none
    #[arg(
        long,
        value_name = "NORM",
        default_value_t = 1.0,
        help_heading = "Optimiser"
    )]
    pub clip: f64,

    /// Passes over the data; a fraction ends within a pass
    #[arg(long, default_value_t = 1.0, help_heading = "Batches")]
    pub epochs: f64,
    /// Steps, whatever `epochs` says
    #[arg(long, help_heading = "Batches")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Examples in a batch
    #[arg(long, default_value_t = 8, help_heading = "Batches")]
    pub batch: usize,
    /// Batches in a step; exactly the same as so many times the batch
    #[arg(long, default_value_t = 1, help_heading = "Batches")]
    pub accumulation: usize,
    /// Most tokens in memory at once; changes no number but for rounding
    #[arg(
        long,
        value_name = "TOKENS",
        default_value_t = 8192,
        help_heading = "Batches"
    )]
    pub micro_batch_tokens: usize,
    /// Longest example in tokens [default: the model's context]
    #[arg(long, value_name = "TOKENS", help_heading = "Batches")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_length: Option<usize>,
    /// Longest prompt in tokens
    #[arg(long, value_name = "TOKENS", help_heading = "Batches")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_prompt_length: Option<usize>,
    /// Take completions without text, whose only token is EOS
    #[arg(long, help_heading = "Batches")]
    pub allow_empty: bool,
    /// Refuse prompts whose tokens change when the completion follows
    #[arg(long, help_heading = "Batches")]
    pub strict_boundaries: bool,
    /// Rows of similar length in a batch: sorted within windows of so many batches
    #[arg(long, value_name = "BATCHES", help_heading = "Batches")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length_buckets: Option<usize>,
    /// Whether every epoch has its own random order
    #[arg(
        long,
        value_name = "BOOL",
        default_value_t = true,
        action = clap::ArgAction::Set,
        help_heading = "Batches"
    )]
    pub shuffle: bool,
    /// Drop the last step of an epoch where it is smaller
    #[arg(long, help_heading = "Batches")]
    pub drop_last: bool,
    /// Key of all random streams
    #[arg(long, default_value_t = 0, help_heading = "Batches")]
    pub seed: u64,

    /// Train low-rank adapters of this rank instead of all weights; 0 for all weights
    #[arg(long, value_name = "RANK", default_value_t = 0, help_heading = "LoRA")]
    pub lora_rank: usize,
    /// α: adapters are scaled by α/rank [default: twice the rank]
    #[arg(long, value_name = "ALPHA", help_heading = "LoRA")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora_alpha: Option<f64>,
    /// Linear layers that get one, such as q_proj,v_proj [default: all but the head]
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        help_heading = "LoRA"
    )]
    pub lora_targets: Vec<String>,

    /// Precision of weights and activations
    #[arg(long, value_enum, default_value_t = Precision::F32, help_heading = "Machine")]
    pub dtype: Precision,
    /// `cpu`, `cuda` or `cuda:N`
    #[arg(long, default_value = "cpu", help_heading = "Machine")]
    pub device: String,

    /// A row of metrics every so many steps, the mean over them
    #[arg(
        long,
        value_name = "STEPS",
        default_value_t = 1,
        help_heading = "Records"
    )]
    pub log_every: u64,
    /// A checkpoint every so many steps, and one at the end; 0 for none at all
    #[arg(
        long,
        value_name = "STEPS",
        default_value_t = 500,
        help_heading = "Records"
    )]
    pub checkpoint_every: u64,
    /// Checkpoints that are kept, the newest; 0 for all
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 2,
        help_heading = "Records"
    )]
    pub keep: usize,
}

/// The defaults of the flags.
impl Default for Settings {
    fn default() -> Self {
        #[derive(clap::Parser)]
        struct Flags {
            #[command(flatten)]
            settings: Settings,
        }
        <Flags as clap::Parser>::parse_from([""]).settings
    }
}

/// Fields that may change when a run goes on.
const FREE: [&str; 2] = ["checkpoint_every", "keep"];

impl Settings {
    /// The settings of a TOML file.
    ///
    /// # Errors
    /// An unknown field, or a value of another type: with file, line and column.
    pub fn parse(text: &str, origin: &str) -> Result<Self> {
        toml::from_str(text).map_err(|e| Error::Format {
            origin: origin.into(),
            message: e.to_string().trim_end().to_string(),
            remedy: "its fields are the flags of `pistar train`, with _ for -".into(),
        })
    }

    /// These settings, with those fields of the TOML file that `keep` does not hold on to.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn with_file(&self, text: &str, origin: &str, keep: impl Fn(&str) -> bool) -> Result<Self> {
        Self::parse(text, origin)?;
        let failed = |e: &dyn fmt::Display| Error::Format {
            origin: origin.into(),
            message: e.to_string(),
            remedy: "its fields are the flags of `pistar train`, with _ for -".into(),
        };
        let file: toml::Table = toml::from_str(text).map_err(|e| failed(&e))?;
        let mut all = toml::Table::try_from(self).map_err(|e| failed(&e))?;
        for (name, value) in file {
            if !keep(&name) {
                all.insert(name, value);
            }
        }
        let merged: Self = all.try_into().map_err(|e| failed(&e))?;
        Ok(Self {
            out: merged.out.or_else(|| self.out.clone()),
            resume: merged.resume.or_else(|| self.resume.clone()),
            overwrite: merged.overwrite || self.overwrite,
            ..merged
        })
    }

    /// The text of a `config.toml` that runs the same again.
    ///
    /// # Errors
    /// A path that is not UTF-8.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|e| Error::Format {
            origin: "config.toml".into(),
            message: e.to_string(),
            remedy: "use paths in UTF-8".into(),
        })
    }

    /// The objective with its numbers.
    ///
    /// # Errors
    /// None, one that cannot be trained on text, or numbers that do not suit it.
    pub fn objective(&self) -> Result<TextObjective> {
        let Some(name) = &self.objective else {
            let known: Vec<_> = TextObjective::names().collect();
            let remedy = format!("name one of {}", known.join(", "));
            return Err(Error::invalid("objective", "it is missing", remedy));
        };
        let numbers = Numbers {
            parameters: Parameters {
                beta: self.beta,
                margin: self.margin,
            },
            baseline: self.baseline,
            weights: [self.desirable_weight, self.undesirable_weight],
            token_reduction: self.token_reduction,
        };
        TextObjective::new(name, numbers)
    }

    /// With the defaults that depend on the objective filled in, so that `config.toml` says them.
    ///
    /// # Errors
    /// Those of [`objective`](Self::objective), or a number that is out of range or has no use.
    pub fn resolve(mut self) -> Result<Self> {
        let objective = self.objective()?;
        let lr = match objective.reference() {
            true => 1e-6,
            false => 2e-5,
        };
        self.lr.get_or_insert(lr);
        if !objective.scores() {
            self.token_reduction
                .get_or_insert(objective.token_reduction());
        }
        if objective.value() && self.value == ValueNetwork::Separate {
            self.value_lr = self.value_lr.or(self.lr);
        }
        if self.lora_rank > 0 {
            self.lora_alpha.get_or_insert(2.0 * self.lora_rank as f64);
        }
        self.check(&objective)?;
        Ok(self)
    }

    fn check(&self, objective: &TextObjective) -> Result<()> {
        let finite = |place: &str, number: Option<f64>| match number {
            Some(n) if !n.is_finite() || n < 0.0 => Err(Error::invalid(
                place,
                format!("it is {n}"),
                "give a finite number, at least 0",
            )),
            _ => Ok(()),
        };
        let positive = |place: &str, number: u64| match number {
            0 => Err(Error::invalid(place, "it is 0", "give 1 or more")),
            _ => Ok(()),
        };
        let useless = |place: &str, given: bool, remedy: &str| match given {
            true => Err(Error::invalid(place, "nothing has a use for it", remedy)),
            false => Ok(()),
        };
        finite("lr", self.lr)?;
        finite("value_lr", self.value_lr)?;
        finite("clip", Some(self.clip))?;
        finite("epochs", Some(self.epochs))?;
        positive("epochs", self.epochs.ceil() as u64)?;
        positive("steps", self.steps.unwrap_or(1))?;
        positive("batch", self.batch as u64)?;
        positive("accumulation", self.accumulation as u64)?;
        positive("micro_batch_tokens", self.micro_batch_tokens as u64)?;
        positive("length_buckets", self.length_buckets.unwrap_or(1) as u64)?;
        positive("log_every", self.log_every)?;
        Schedule::new(self.schedule, self.warmup, 1)?;
        let (alone, another) = (
            self.value == ValueNetwork::Shared,
            matches!(self.reference, ReferenceSource::Model(_)),
        );
        let only_value = "only dro-v has a value network";
        useless("value", alone && !objective.value(), only_value)?;
        let separate = objective.value() && !alone;
        let only_separate = "only dro-v with a separate value network has one";
        useless(
            "value_lr",
            self.value_lr.is_some() && !separate,
            only_separate,
        )?;
        let no_reference = "the objective looks at no reference; leave it out";
        useless("reference", another && !objective.reference(), no_reference)?;
        let full = self.lora_rank == 0;
        let only_lora = "give a lora_rank too, or leave it out";
        useless("lora_alpha", full && self.lora_alpha.is_some(), only_lora)?;
        useless(
            "lora_targets",
            full && !self.lora_targets.is_empty(),
            only_lora,
        )
    }

    /// What is done with rows that are not as they should be.
    pub fn rows(&self) -> data::Settings {
        data::Settings {
            max_length: self.max_length,
            max_prompt_length: self.max_prompt_length,
            allow_empty: self.allow_empty,
            strict_boundaries: self.strict_boundaries,
        }
    }

    /// Where it runs.
    ///
    /// # Errors
    /// A device that is not known, or that this machine or this build does not have.
    pub fn device(&self) -> Result<Device> {
        device(&self.device)
    }

    /// What AdamW runs with.
    pub fn adamw(&self) -> Config {
        Config {
            beta1: self.adam_beta1,
            beta2: self.adam_beta2,
            epsilon: self.adam_epsilon,
            weight_decay: self.weight_decay,
            decay_vectors: false,
        }
    }

    /// Refuses to go on from a run with other settings.
    ///
    /// # Errors
    /// The first field that differs, but for those that change nothing that is computed.
    pub fn same(&self, old: &Self) -> Result<()> {
        let table = |settings: &Self| {
            let text = settings.to_toml()?;
            toml::from_str::<toml::Table>(&text).map_err(|e| Error::Format {
                origin: "config.toml".into(),
                message: e.to_string(),
                remedy: "start the run anew".into(),
            })
        };
        let (new, old) = (table(self)?, table(old)?);
        for name in new.keys().chain(old.keys()) {
            if new.get(name) != old.get(name) && !FREE.contains(&name.as_str()) {
                let said = |table: &toml::Table| match table.get(name) {
                    Some(value) => value.to_string(),
                    None => "not given".into(),
                };
                return Err(Error::invalid(
                    name,
                    format!(
                        "the run was started with {} and this is {}",
                        said(&old),
                        said(&new)
                    ),
                    "go on with the old value, or start a new run in another --out",
                ));
            }
        }
        Ok(())
    }
}
