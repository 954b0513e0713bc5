//! A language model: a graph with its weights.

mod build;
mod cached;
mod forward;
mod initial;
mod on_tape;
mod rope;
mod sharing;
mod teaching;
mod tensors;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::architecture::Architecture;
use super::config::Config;
use super::graph::{Graph, Sizes, Weight};
use super::lora::{Adapter, Lora};
use crate::llm::tensor::parameters::{Id, Parameters};

pub use build::Source;
pub(in crate::llm) use cached::New;
use rope::Rotary;
pub use teaching::Distance;
pub(in crate::llm) use tensors::{Dense, Layer};

/// A decoder with its weights.
#[derive(Debug)]
pub struct Decoder {
    graph: Arc<Graph>,
    parameters: Parameters,
    /// The parameter of each weight of the graph; none of an output head that is not there.
    ids: Vec<Option<Id>>,
    /// The adapter of each linear layer of the graph.
    adapters: Vec<Option<Lora>>,
    /// False in a reward or value network of its own.
    with_head: bool,
    /// Cosines and sines of each rotation of the graph.
    rotations: Vec<Rotary>,
    /// None if it was made from an architecture.
    config: Option<Config>,
    /// The folder it was loaded from.
    origin: Option<PathBuf>,
    pub(in crate::llm) adapter: Option<Adapter>,
    recompute: bool,
    temperature: f64,
}

impl Decoder {
    /// Its sizes.
    pub fn sizes(&self) -> Sizes {
        self.graph.sizes
    }

    /// Its operations.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Its operations, to keep.
    pub(in crate::llm) fn shared_graph(&self) -> Arc<Graph> {
        self.graph.clone()
    }

    /// Every number that decides the arithmetic, if its blocks are those of a plain decoder.
    pub fn architecture(&self) -> Option<&Architecture> {
        self.graph.plain.as_ref()
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
        self.with_head
    }

    /// Switches activation recomputation (gradient checkpointing) on or off: a backward then runs each block again,
    /// keeping only its input, instead of all that was computed in it. Changes no number.
    pub fn set_recompute(&mut self, recompute: bool) {
        self.recompute = recompute;
    }

    /// Has log-probabilities be those of the policy at a temperature, `ln softmax(logits / τ)`; it is 1 unless it is set.
    pub fn set_temperature(&mut self, temperature: f64) {
        self.temperature = temperature;
    }

    /// Where it comes from.
    pub(in crate::llm) fn config_mut(&mut self) -> Option<&mut Config> {
        self.config.as_mut()
    }

    pub(in crate::llm) fn set_folder(&mut self, config: Config, origin: Option<PathBuf>) {
        self.config = Some(config);
        self.origin = origin;
    }

    /// The parameter of a weight, which is there unless it is an output head's.
    fn id(&self, weight: Weight) -> Id {
        self.ids[weight.index()].expect("only an output head may be without weights")
    }
}
