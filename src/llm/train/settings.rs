//! What a run depends on.

use std::collections::BTreeMap;
use std::path::PathBuf;

use candle_core::Device;
use serde::{Deserialize, Serialize};

use super::enums::{Better, Precision, ReferenceSource, ValueNetwork};
use crate::error::Result;
use crate::llm::tensor::device;
use crate::llm::tensor::optimizer::Config;
use crate::llm::text::data::{self, Reading};
use crate::llm::text::objective::TokenReduction;
use crate::llm::train::schedule::Shape;

/// Everything a run depends on: the flags of `pistar train`, and the fields of its `config.toml`.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// What to train: `pistar train --list` names them
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objective: Option<String>,

    /// Folder of a model, of an adapter (LoRA), which is trained further, or of a run
    #[arg(long, value_name = "DIR", help_heading = "Input and output")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<PathBuf>,
    /// Examples: JSON lines, a JSON array, parquet or text, gzip or not; or FOLDER/*.jsonl
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
    /// `precomputed` or `live` by the model as given, or the folder of another model, adapter or run
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

    /// Examples to evaluate on, one JSON object a line
    #[arg(long, value_name = "FILE", help_heading = "Evaluation")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_data: Option<PathBuf>,
    /// Rows of the data that are held out of training and evaluated on
    #[arg(long, value_name = "COUNT", help_heading = "Evaluation")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_rows: Option<usize>,
    /// The same as a share of the rows, rounded up
    #[arg(long, value_name = "SHARE", help_heading = "Evaluation")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_share: Option<f64>,
    /// Key of the choice of these rows, and of what is generated; apart from `seed`, so that runs of
    /// several seeds share it
    #[arg(
        long,
        value_name = "SEED",
        default_value_t = 0,
        help_heading = "Evaluation"
    )]
    pub eval_seed: u64,
    /// Evaluate every so many steps, and at the end; 0 for never [default: 500 if there is
    /// something to evaluate]
    #[arg(long, value_name = "STEPS", help_heading = "Evaluation")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_every: Option<u64>,
    /// Prompts, read as the data are, that the policy completes at every evaluation
    #[arg(long, value_name = "FILE", help_heading = "Evaluation")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_prompts: Option<PathBuf>,
    /// What scores the completions, as in `pistar score`: KIND:TEXT or FILE.toml; several are added
    #[arg(long, value_name = "REWARD", help_heading = "Evaluation")]
    pub eval_reward: Vec<String>,
    /// A file that a command among the rewards reads, and that the run therefore depends on
    #[arg(long, value_name = "FILE", help_heading = "Evaluation")]
    pub depends: Vec<PathBuf>,
    /// Completions of each prompt
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 1,
        help_heading = "Evaluation"
    )]
    pub eval_samples: usize,
    /// Most tokens of a completion, EOS included
    #[arg(
        long,
        value_name = "TOKENS",
        default_value_t = 128,
        help_heading = "Evaluation"
    )]
    pub eval_max_new_tokens: usize,
    /// Temperature that they are drawn at; 0 is greedy
    #[arg(
        long,
        value_name = "TEMPERATURE",
        default_value_t = 1.0,
        help_heading = "Evaluation"
    )]
    pub eval_temperature: f64,
    /// Evaluate before the first step too
    #[arg(long, help_heading = "Evaluation")]
    pub eval_on_start: bool,

    /// Precision of weights and activations
    #[arg(long, value_enum, default_value_t = Precision::F32, help_heading = "Machine")]
    pub dtype: Precision,
    /// `cpu`, `cuda` or `cuda:N`
    #[arg(long, default_value = "cpu", help_heading = "Machine")]
    pub device: String,
    /// Multiply f32 matrices on a GPU as TF32: faster, with 10 bits of fraction instead of 23
    #[arg(long, help_heading = "Machine")]
    pub tf32: bool,
    /// Keep only the input of each block and run it again in the backward: less memory, more time,
    /// the same numbers
    #[arg(long, help_heading = "Machine")]
    pub recompute: bool,
    /// Use each gradient as soon as it is final and keep none: less memory, the same numbers; needs
    /// clip = 0 and micro_batch_tokens for the largest step
    #[arg(long, help_heading = "Machine")]
    pub optimizer_in_backward: bool,

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

    // How data become rows: the flags of these fields are those of `data::Reading`.
    /// What the file is.
    #[arg(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<data::Format>,
    /// An expression: of each entry of its list one row is made.
    #[arg(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<String>,
    /// An expression: rows for which it is false are left out.
    #[arg(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#where: Option<String>,
    /// Where `chosen` and `rejected` hold their prompt.
    #[arg(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub implicit_prompt: Option<String>,
    /// What renders conversations, if not the model's own template.
    #[arg(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat_template: Option<PathBuf>,
    /// The day that a template is told.
    #[arg(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat_date: Option<String>,
    // A table comes after all fields.
    /// Columns by expressions over the file's.
    #[arg(skip)]
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, String>,
    /// Keep the checkpoint of the evaluation with the best of this metric too, such as eval_loss
    #[arg(long, value_name = "METRIC", help_heading = "Records")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_best: Option<String>,
    /// Which values of it are better [default: min of a loss or kl, max of an accuracy, margin or
    /// reward]
    #[arg(long, value_name = "WHICH", value_enum, help_heading = "Records")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_best_mode: Option<Better>,

    /// Fields with several values each: the settings of many runs.
    #[arg(skip)]
    #[serde(skip_serializing)]
    pub sweep: Option<toml::Table>,
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

impl Settings {
    /// What is done with rows that are not as they should be.
    pub fn rows(&self) -> data::Settings {
        data::Settings {
            max_length: self.max_length,
            max_prompt_length: self.max_prompt_length,
            allow_empty: self.allow_empty,
            strict_boundaries: self.strict_boundaries,
        }
    }

    /// How data become rows.
    pub fn reading(&self) -> Reading {
        Reading {
            format: self.format,
            columns: self.columns.clone().into_iter().collect(),
            rows: self.rows.clone(),
            r#where: self.r#where.clone(),
            implicit_prompt: self.implicit_prompt.clone(),
            chat_template: self.chat_template.clone(),
            chat_date: self.chat_date.clone(),
        }
    }

    /// With data that become rows in that way.
    #[must_use]
    pub fn with_reading(self, reading: Reading) -> Self {
        Self {
            format: reading.format,
            columns: reading.columns.into_iter().collect(),
            rows: reading.rows,
            r#where: reading.r#where,
            implicit_prompt: reading.implicit_prompt,
            chat_template: reading.chat_template,
            chat_date: reading.chat_date,
            ..self
        }
    }

    /// Where it runs, multiplying f32 matrices as `tf32` says.
    ///
    /// # Errors
    /// A device that is not known, or that this machine or this build does not have.
    pub fn device(&self) -> Result<Device> {
        let device = device::device(&self.device)?;
        device::tf32(self.tf32);
        Ok(device)
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
}
