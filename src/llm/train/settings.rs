//! What a run depends on.

use std::collections::BTreeMap;
use std::path::PathBuf;

use candle_core::Device;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::enums::{
    Advantage, Annotator, Better, LengthWeight, LossBackend, Merge, OldNumbers, OptimizerKind,
    Precision, ReferenceSource, ValueNetwork, ValuePer,
};
use crate::error::Result;
use crate::llm::files::settings::{Apart, Flag, Kind, settings};
use crate::llm::sample::reward::Resources;
use crate::llm::tensor::device;
use crate::llm::tensor::optimizer::Config;
use crate::llm::text::data::{self, Reading};
use crate::llm::text::objective::TokenReduction;
use crate::llm::train::schedule::Shape;
use crate::loss::Given;

settings! {
    /// Everything a run depends on: the flags of `pistar train`, and the fields of its `config.toml`.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields, remote = "Self")]
    pub struct Settings {
        given(Flag::Positional) {
            /// Objective to train with: `pistar train --list` names them
            objective: Option<String> = None;
        }
        heading("Input and output") {
            /// Folder of a model, of an adapter (LoRA), which is trained further, or of a run
            model: Option<PathBuf> = None, value_name: Some("DIR");
            /// Examples: JSON lines, a JSON array, parquet or text, gzip or not; or FOLDER/*.jsonl
            data: Option<PathBuf> = None, value_name: Some("FILE");
            /// Folder to write to [default: out/OBJECTIVE]
            [serde(skip_serializing)] out: Option<PathBuf> = None, value_name: Some("DIR");
            /// Go on from the run's last checkpoint, or from the one in this folder
            [serde(skip_serializing)] resume: Option<PathBuf> = None, value_name: Some("DIR"), missing: Some("latest");
            /// Replace another run in the folder
            [serde(skip_serializing)] overwrite: bool = false;
        }
        heading("Objective") {
            /// Reduction of a response's token log-probabilities to its one number, the same for policy and
            /// reference [default: sum; of sft: batch]
            token_reduction: Option<TokenReduction> = None, value_name: Some("HOW");
            /// Reference policy: `precomputed` (`initial`) or `live` by the model as given, or the folder of another
            /// model, adapter or run; with prompts also `behaviour`, the policy as it was when the phase began, and
            /// `ema:RATE`, a moving average of its weights
            reference: ReferenceSource = ReferenceSource::Precomputed, value_name: Some("WHICH");
            /// Network that gives V(x) in dro-v
            value: ValueNetwork = ValueNetwork::Separate, value_name: Some("WHICH");
            /// What has a value of its own in dro-v
            value_per: ValuePer = ValuePer::Prompt, value_name: Some("WHAT");
        }
        heading("Online training") {
            /// Prompts that the policy completes itself, in place of data: a file read as data are, with a column
            /// `prompt`
            prompts: Option<PathBuf> = None, value_name: Some("FILE");
            /// Reward of these completions, as in `pistar score`: KIND:TEXT or FILE.toml; several are added
            reward: Vec<String> = Vec::new(), value_name: Some("REWARD");
            /// A second source: the prompts' rows hold a completion too, as data of sft do, which joins those of the
            /// policy, and makes a pair with each
            demonstrations: bool = false;
            /// Completions of each prompt [default: 2, beside a demonstration 1; of groups and of sft: 4; of single
            /// and rated ones: 1]
            completions: Option<usize> = None, value_name: Some("COUNT");
            /// Maximum tokens of a completion, EOS included
            max_new_tokens: usize = 128, value_name: Some("TOKENS");
            /// Sampling temperature τ. Losses of rewards take ln π of softmax(logits/τ), those of preferences that of
            /// the model itself
            temperature: f64 = 1.0, value_name: Some("TEMPERATURE");
            /// Phases: at the beginning of each the policy writes all completions that it then learns from; 1 is
            /// offline [default: a phase a step, on-policy]
            phases: Option<u64> = None, value_name: Some("COUNT");
            /// Passes over a phase's completions
            phase_epochs: u64 = 1, value_name: Some("COUNT");
            /// Past phases whose completions are learned from too
            replay: usize = 0, value_name: Some("PHASES");
            /// Way in which one of two completions becomes the preferred one
            annotator: Annotator = Annotator::Greater, value_name: Some("WHICH");
            /// How often completions without a preference (the same text, or with one reward) are drawn again before
            /// their prompt is left out
            redraws: u64 = 4, value_name: Some("TIMES");
            /// What is taken off the rewards, in objectives of single responses [default: reward; of grpo:
            /// group-normalised]
            advantage: Option<Advantage> = None, value_name: Some("WHAT");
            /// Weight of a completion by its length, in objectives of single responses [default: sum; token by token:
            /// tokens]
            length_weight: Option<LengthWeight> = None, value_name: Some("WHICH");
            /// Take off every reward the mean of all so far, and divide by their standard deviation
            normalise_rewards: bool = false;
            /// Taken off the reward of a completion that did not end with EOS
            missing_eos_penalty: f64 = 0.0, value_name: Some("REWARD");
            /// Have β, the weight of KL in the reward, follow so that KL comes to this many nats a completion; of ppo
            /// and grpo
            kl_target: Option<f64> = None, value_name: Some("NATS");
            /// γ of advantages with a critic: what a reward a token later is worth
            discount: f64 = 1.0, value_name: Some("GAMMA");
            /// λ of advantages with a critic: 0 is temporal differences, 1 returns
            gae_lambda: f64 = 0.95, value_name: Some("LAMBDA");
            /// Whiten advantages with a critic over the tokens of a phase
            whiten_advantages: bool = true, value_name: Some("BOOL"), kind: Kind::Truth;
            /// Learn from every completion whose reward is above this, in place of the best one; of sft
            above: Option<f64> = None, value_name: Some("REWARD");
            /// Where ln π_old of completions comes from
            old: OldNumbers = OldNumbers::Recomputed, value_name: Some("WHICH");
        }
        heading("Rehearsal") {
            /// Responses whose likelihood every step is to raise too, beside its objective: a file read as data of sft
            rehearse: Option<PathBuf> = None, value_name: Some("FILE");
            /// γ, the weight of the mean of −ln π of these responses beside the loss
            rehearse_weight: f64 = 0.01, value_name: Some("GAMMA");
            /// Rows of the file in a step
            rehearse_batch: usize = 8, value_name: Some("COUNT");
        }
        heading("Optimiser") {
            /// Optimiser of the weights
            optimizer: OptimizerKind = OptimizerKind::AdamW, value_name: Some("WHICH");
            /// Learning rate [default: 1e-6; of sft and reward models: 2e-5]
            lr: Option<f64> = None;
            /// Learning rate of the separate value network [default: that of the policy]
            value_lr: Option<f64> = None, value_name: Some("LR");
            /// Shape of the learning rate schedule after warm-up
            schedule: Shape = Shape::Linear, value_name: Some("SHAPE");
            /// Warm-up: steps in which the learning rate rises from 0; below 1, the share of all steps
            warmup: f64 = 0.0, value_name: Some("STEPS|SHARE");
            /// Decoupled weight decay of matrices (norms and biases never decay)
            weight_decay: f64 = 0.0, value_name: Some("DECAY");
            /// Decay of AdamW's first moment
            adam_beta1: f64 = 0.9, value_name: Some("BETA");
            /// Decay of AdamW's second moment
            adam_beta2: f64 = 0.999, value_name: Some("BETA");
            /// Added to the root of AdamW's second moment
            adam_epsilon: f64 = 1e-8, value_name: Some("EPSILON");
            /// Maximum gradient norm; larger gradients are scaled down to it; 0 for no clipping
            clip: f64 = 1.0, value_name: Some("NORM");
        }
        heading("Batches") {
            /// Passes over the data; a fraction ends within a pass
            epochs: f64 = 1.0;
            /// Number of steps, in place of `epochs`
            steps: Option<u64> = None;
            /// Examples in a batch
            batch: usize = 8;
            /// Gradient accumulation: batches in a step; exactly the same as so many times the batch
            accumulation: usize = 1;
            /// Maximum tokens that are run at once; changes no number but for rounding
            micro_batch_tokens: usize = 8192, value_name: Some("TOKENS");
            /// Maximum tokens of prompt and completion [default: the model's context]
            max_length: Option<usize> = None, value_name: Some("TOKENS");
            /// Maximum tokens of a prompt
            max_prompt_length: Option<usize> = None, value_name: Some("TOKENS");
            /// Take completions without text, whose only token is EOS
            allow_empty: bool = false;
            /// Refuse prompts whose tokens change when the completion follows
            strict_boundaries: bool = false;
            /// Batches of similar lengths: rows are sorted by length within windows of so many batches
            length_buckets: Option<usize> = None, value_name: Some("BATCHES");
            /// Shuffle the rows anew in every epoch
            shuffle: bool = true, value_name: Some("BOOL"), kind: Kind::Truth;
            /// Drop the last step of an epoch where it is smaller
            drop_last: bool = false;
            /// Seed of all random streams
            seed: u64 = 0;
        }
        heading("LoRA") {
            /// Rank of low-rank adapters (LoRA) that are trained instead of all weights; 0 trains all weights
            lora_rank: usize = 0, value_name: Some("RANK");
            /// LoRA's α: adapters are scaled by α/rank [default: twice the rank]
            lora_alpha: Option<f64> = None, value_name: Some("ALPHA");
            /// Linear layers with an adapter, such as q_proj,v_proj [default: all but the head]
            lora_targets: Vec<String> = Vec::new(), value_name: Some("NAMES"), delimiter: Some(',');
            /// Number of adapters that are trained side by side, each by its own loss and optimiser; the policy that
            /// writes, is evaluated and is kept is what they make together
            members: usize = 1, value_name: Some("COUNT");
            /// What they make together
            merge: Merge = Merge::Mean, value_name: Some("HOW");
        }
        heading("Evaluation") {
            /// File of examples to evaluate on, one JSON object a line
            eval_data: Option<PathBuf> = None, value_name: Some("FILE");
            /// Number of rows that are held out of training and evaluated on
            eval_rows: Option<usize> = None, value_name: Some("COUNT");
            /// Share of rows that are held out and evaluated on, rounded up
            eval_share: Option<f64> = None, value_name: Some("SHARE");
            /// Seed of the choice of these rows, and of what is generated; apart from `seed`, so that runs of
            /// several seeds share it
            eval_seed: u64 = 0, value_name: Some("SEED");
            /// Evaluate every so many steps, and at the end; 0 for never [default: 500 if there is
            /// something to evaluate]
            eval_every: Option<u64> = None, value_name: Some("STEPS");
            /// File of prompts, read as the data are, that the policy completes at every evaluation
            eval_prompts: Option<PathBuf> = None, value_name: Some("FILE");
            /// Reward of these completions, as in `pistar score`: KIND:TEXT or FILE.toml; several are added
            eval_reward: Vec<String> = Vec::new(), value_name: Some("REWARD");
            /// A file that a command among the rewards reads, and that the run therefore depends on
            depends: Vec<PathBuf> = Vec::new(), value_name: Some("FILE");
            /// Completions sampled for each prompt
            eval_samples: usize = 1, value_name: Some("COUNT");
            /// Maximum tokens of a completion, EOS included
            eval_max_new_tokens: usize = 128, value_name: Some("TOKENS");
            /// Sampling temperature of these completions; 0 is greedy
            eval_temperature: f64 = 1.0, value_name: Some("TEMPERATURE");
            /// Evaluate before the first step too
            eval_on_start: bool = false;
        }
        heading("Machine") {
            /// Precision of weights and activations
            dtype: Precision = Precision::F32;
            /// `cpu`, `cuda` or `cuda:N`
            device: String = "cpu".into();
            /// Use TF32 for products of f32 matrices on a GPU: faster, with 10 bits of fraction instead of 23
            tf32: bool = false;
            /// Backend that the loss is run on
            loss_backend: LossBackend = LossBackend::Auto, value_name: Some("WHICH");
            /// Activation recomputation (gradient checkpointing): keep only the input of each block and run it
            /// again in the backward; less memory, more time, the same numbers
            recompute: bool = false;
            /// Sequences that are generated at once, in online training and evaluations: fewer take less memory, and more
            /// time; changes no number but for rounding on a GPU
            generation_batch: usize = 64, value_name: Some("COUNT");
            /// Use each gradient as soon as it is final and keep none: less memory, the same numbers; needs
            /// clip = 0 and micro_batch_tokens for the largest step
            optimizer_in_backward: bool = false;
        }
        heading("Records") {
            /// Steps per row of metrics; a row is the mean over them
            log_every: u64 = 1, value_name: Some("STEPS");
            /// Steps between checkpoints, with one at the end; 0 for none at all
            checkpoint_every: u64 = 500, value_name: Some("STEPS");
            /// Number of checkpoints that are kept, the newest; 0 for all
            keep: usize = 2, value_name: Some("COUNT");
        }
        of(Reading::FIELDS) {
            /// What the file is.
            format: Option<data::Format> = None;
            /// Columns by expressions over the file's.
            columns: BTreeMap<String, String> = BTreeMap::new();
            /// An expression: of each entry of its list one row is made.
            rows: Option<String> = None;
            /// An expression: rows for which it is false are left out.
            r#where: Option<String> = None;
            /// Where `chosen` and `rejected` hold their prompt.
            implicit_prompt: Option<String> = None;
            /// What renders conversations, if not the model's own template.
            chat_template: Option<PathBuf> = None;
            /// The day that a template is told.
            chat_date: Option<String> = None;
        }
        heading("Records") {
            /// Keep the checkpoint of the evaluation with the best of this metric too, such as eval_loss
            keep_best: Option<String> = None, value_name: Some("METRIC");
            /// Better values of that metric [default: min of a loss or kl, max of an accuracy, margin or reward]
            keep_best_mode: Option<Better> = None, value_name: Some("WHICH");
        }
        given(Flag::Numbers) {
            /// Numbers of the objective.
            numbers: Given = Given::new();
        }
        given(Flag::None) {
            /// Fields with several values each: the settings of many runs.
            [serde(skip_serializing)] sweep: Option<toml::Table> = None;
        }
    }
}

impl Serialize for Settings {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        Self::serialize(self, to)
    }
}

impl<'de> Deserialize<'de> for Settings {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        struct Table;
        impl<'de> Visitor<'de> for Table {
            type Value = Settings;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("a table of settings")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                entries: A,
            ) -> std::result::Result<Settings, A::Error> {
                let mut beside = Given::new();
                let entries = MapAccessDeserializer::new(Apart::new(entries, &mut beside));
                let settings = Settings::deserialize(entries)?;
                let numbers = settings.numbers.clone().over(&beside);
                Ok(Settings {
                    numbers,
                    ..settings
                })
            }
        }
        from.deserialize_map(Table)
    }
}

impl Settings {
    /// Rows of data, or prompts, in a step.
    pub fn rows_of_a_step(&self) -> usize {
        self.batch.saturating_mul(self.accumulation)
    }

    /// True if something is rehearsed: with γ = 0 there is nothing to add, nor a loss to tell.
    pub fn rehearses(&self) -> bool {
        self.rehearse.is_some() && self.rehearse_weight > 0.0
    }

    /// What is done with rows that are not as they should be.
    pub fn rows(&self) -> data::RowRules {
        data::RowRules {
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

    /// Where it runs, multiplying f32 matrices as `tf32` says.
    ///
    /// # Errors
    /// A device that is not known, or that this machine or this build does not have.
    pub fn device(&self) -> Result<Device> {
        let device = device::device(&self.device)?;
        device::tf32(self.tf32);
        Ok(device)
    }

    /// What rewards run on.
    ///
    /// # Errors
    /// As [`device`](Self::device).
    pub fn resources(&self) -> Result<Resources> {
        Ok(Resources {
            device: self.device()?,
            dtype: self.dtype.dtype(),
            batch_tokens: self.micro_batch_tokens,
            ..Resources::default()
        })
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
