//! The decoder-only transformer.

mod build;
mod cached;
mod forward;
mod initial;
mod rope;
mod sharing;
mod tensors;

use std::path::{Path, PathBuf};

use super::architecture::Architecture;
use super::config::Config;
use super::lora::{Adapter, Lora};
use crate::llm::tensor::parameters::{Id, Parameters};

pub use build::Source;
pub(in crate::llm) use cached::New;
use rope::Rotary;
pub(in crate::llm) use tensors::{Dense, Layer};

/// `x Wᵀ + b`.
#[derive(Debug, Clone, Copy)]
struct Linear {
    weight: Id,
    bias: Option<Id>,
    lora: Option<Lora>,
}

#[derive(Debug, Clone, Copy)]
struct NormWeights {
    weight: Id,
    bias: Option<Id>,
}

#[derive(Debug, Clone)]
struct Block {
    attention_norm: NormWeights,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    mlp_norm: NormWeights,
    gate: Option<Linear>,
    up: Linear,
    down: Linear,
}

/// A decoder with its weights.
#[derive(Debug)]
pub struct Decoder {
    architecture: Architecture,
    parameters: Parameters,
    embedding: Id,
    positions: Option<Id>,
    blocks: Vec<Block>,
    norm: NormWeights,
    /// None in a reward or value network of its own.
    head: Option<Linear>,
    rope: Option<Rotary>,
    /// None if it was made from an architecture.
    config: Option<Config>,
    /// The folder it was loaded from.
    origin: Option<PathBuf>,
    pub(in crate::llm) adapter: Option<Adapter>,
    recompute: bool,
}

impl Decoder {
    /// Its architecture.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// Its weights.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Its weights, to change what is trained.
    pub fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    /// The configuration it was made from, if it was.
    pub fn config(&self) -> Option<&Config> {
        self.config.as_ref()
    }

    /// The folder it was loaded from, if it was.
    pub fn origin(&self) -> Option<&Path> {
        self.origin.as_deref()
    }

    /// True if it has an output head.
    pub fn has_head(&self) -> bool {
        self.head.is_some()
    }

    /// Switches activation recomputation (gradient checkpointing) on or off: a backward then runs each block again,
    /// keeping only its input, instead of all that was computed in it. Changes no number.
    pub fn set_recompute(&mut self, recompute: bool) {
        self.recompute = recompute;
    }

    /// Where it comes from.
    pub(in crate::llm) fn config_mut(&mut self) -> Option<&mut Config> {
        self.config.as_mut()
    }

    pub(in crate::llm) fn set_folder(&mut self, config: Config, origin: Option<PathBuf>) {
        self.config = Some(config);
        self.origin = origin;
    }
}
