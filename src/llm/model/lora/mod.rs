//! Low-rank adapters (LoRA): `W x + α/r · B A x` with a frozen W (Hu et al. 2021), in PEFT's
//! format.

mod config;
mod files;
mod merged;
mod modules;

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{Device, Tensor};

pub use config::{AdapterConfig, Target};
pub use files::CONFIG;
pub(in crate::llm) use files::{WEIGHTS, has_reward_head};
pub use merged::merge;

use super::decoder::Decoder;
use super::heads::ScalarHead;
use crate::error::{Error, Result};
use crate::llm::tensor::ops::add_in_place;
use crate::llm::tensor::parameters::{Id, Parameter};
use crate::llm::tensor::tape::{Node, Tape};
use crate::random::{Purpose, Stream};
pub(in crate::llm) use modules::{Module, b_name};

/// The output head's path.
const HEAD: &str = "lm_head";

/// Index of the first stream of an adapter's weights, after those of decoders and heads.
const STREAM: u64 = 1 << 33;

/// The adapter of one linear layer.
#[derive(Debug, Clone, Copy)]
pub(in crate::llm) struct Lora {
    /// A `[r, in]`.
    pub a: Id,
    /// B `[out, r]`.
    pub b: Id,
    /// Factor of `B A x`.
    pub scaling: f64,
}

/// The adapter of a decoder.
#[derive(Debug, Clone)]
pub struct Adapter {
    /// Configuration of the adapter.
    pub config: AdapterConfig,
    modules: Vec<Module>,
}

impl Decoder {
    /// Adds a new adapter and freezes everything else but a scalar head: A uniform on
    /// `±1/√in` (Kaiming's with a = √5), B 0, so that nothing changes yet. The same seed gives the
    /// same A.
    ///
    /// # Errors
    /// A model that has an adapter already or was not made from a configuration; a target that
    /// names no linear layer; dropout other than 0.
    pub fn add_adapter(&mut self, config: AdapterConfig, seed: u64) -> Result<()> {
        self.add_adapter_of(config, seed, 0)
    }

    /// The same for one of several adapters of a seed, each of which has an A of its own; member 0 has that of
    /// [`add_adapter`](Self::add_adapter).
    ///
    /// # Errors
    /// As there.
    pub fn add_adapter_of(&mut self, config: AdapterConfig, seed: u64, member: u64) -> Result<()> {
        no_dropout(&config)?;
        let modules = self.modules(&config, true)?;
        let mut index = STREAM * (1 + member);
        self.attach(config, modules, |shape, is_a| {
            index += 1;
            let bound = (shape[1] as f64).sqrt().recip();
            let mut stream = Stream::new(seed, Purpose::Start, index);
            let count = shape[0] * shape[1];
            let numbers: Vec<f64> = if is_a {
                (0..count)
                    .map(|_| bound * (2.0 * stream.uniform() - 1.0))
                    .collect()
            } else {
                vec![0.0; count]
            };
            Ok(Tensor::from_vec(numbers, shape, &Device::Cpu)?)
        })?;
        self.train_adapter()
    }

    /// The adapter, if there is one.
    pub fn adapter(&self) -> Option<&Adapter> {
        self.adapter.as_ref()
    }

    /// Trains the adapter and a scalar head, and nothing else.
    ///
    /// # Errors
    /// A model without adapter, or one whose adapter was made with dropout.
    pub fn train_adapter(&mut self) -> Result<()> {
        let Some(adapter) = &self.adapter else {
            let remedy = "add or load one";
            return Err(Error::invalid("adapter", "the model has none", remedy));
        };
        no_dropout(&adapter.config)?;
        for parameter in self.parameters_mut().iter_mut() {
            parameter.trainable = moves_beside_a_base(&parameter.name);
        }
        Ok(())
    }

    /// The base without the adapter, sharing its frozen weights: the reference of a policy trained
    /// by an adapter. It needs no further memory.
    ///
    /// # Errors
    /// A model without adapter, or whose base is trained.
    pub fn base(&self) -> Result<Self> {
        let fail = |problem: String, remedy| Err(Error::invalid("adapter", problem, remedy));
        if self.adapter.is_none() {
            return fail("the model has none".into(), "load the base apart");
        }
        let moving = |p: &&Parameter| p.trainable && !moves_beside_a_base(&p.name);
        if let Some(p) = self.parameters().iter().find(moving) {
            let problem = format!("{} of the base is trained too", p.name);
            return fail(problem, "load the reference apart");
        }
        self.without_adapter()
    }

    /// The model with the adapter added to its weights, `W + α/r · B A`: one without adapter, all
    /// of which is trained.
    ///
    /// # Errors
    /// An adapter on an output head that is also the embedding.
    pub fn merge(self) -> Result<Self> {
        let Some(adapter) = self.adapter.clone() else {
            return Ok(self);
        };
        let tied = self.sizes().tied;
        if tied && adapter.modules.iter().any(|m| m.path == HEAD) {
            let problem = "the output head it changes is also the embedding";
            let remedy = "keep the adapter apart, or untie the model";
            return Err(Error::invalid("adapter", problem, remedy));
        }
        let scaling = adapter.config.scaling();
        let mut deltas = HashMap::new();
        for module in &adapter.modules {
            for (part, _) in &module.parts {
                deltas.insert(format!("{part}.weight"), (module.a().0, b_name(part)));
            }
        }
        let heads: Vec<ScalarHead> = ScalarHead::all_of(&self).collect();
        let (graph, with_head) = (Arc::new(self.graph().clone()), self.has_head());
        let (dtype, device) = (
            self.parameters().dtype(),
            self.parameters().device().clone(),
        );
        let (config, origin) = (self.config().cloned(), self.origin().map(Into::into));
        let mut tensors: HashMap<String, Tensor> = self.into_tensors();
        let lost = |name: &str| Error::invalid(name, "it is missing", "this is a bug of pistar");
        let mut merged = Self::build(graph, with_head, dtype, &device, &mut |weight| {
            let name = weight.name.as_str();
            let weight = tensors.remove(name).ok_or_else(|| lost(name))?;
            if let Some((a, b)) = deltas.get(name) {
                let a = tensors.get(a).ok_or_else(|| lost(a))?;
                let b = tensors.get(b).ok_or_else(|| lost(b))?;
                add_in_place(&weight, &(b.matmul(a)? * scaling)?)?;
            }
            Ok(weight)
        })?;
        for name in heads.iter().flat_map(|head| head.names()) {
            let tensor = tensors.remove(*name).ok_or_else(|| lost(name))?;
            merged.parameters_mut().add(*name, &tensor)?;
        }
        if let Some(config) = config {
            merged.set_folder(config, origin);
        }
        Ok(merged)
    }

    /// Puts an adapter in, frozen.
    fn attach(
        &mut self,
        config: AdapterConfig,
        modules: Vec<Module>,
        mut tensor: impl FnMut(&[usize], bool) -> Result<Tensor>,
    ) -> Result<()> {
        if self.adapter.is_some() {
            let remedy = "merge it first";
            return Err(Error::invalid(
                "adapter",
                "the model has one already",
                remedy,
            ));
        }
        let (rank, scaling) = (config.rank, config.scaling());
        for module in &modules {
            let (name, [input]) = module.a();
            let a = (self.parameters_mut()).add(name, &tensor(&[rank, input], true)?)?;
            for (part, [output, _]) in &module.parts {
                let tensor = tensor(&[*output, rank], false)?;
                let b = self.parameters_mut().add(b_name(part), &tensor)?;
                self.adapt(part, Lora { a, b, scaling })?;
            }
        }
        for parameter in self.parameters_mut().iter_mut() {
            parameter.trainable &= !is_lora(&parameter.name);
        }
        self.adapter = Some(Adapter { config, modules });
        Ok(())
    }

    /// Whether the family's files store its matrices transposed.
    fn stores_transposed(&self) -> bool {
        self.config().is_some_and(|c| c.family.names.transposed)
    }
}

/// Whether a parameter of that name is trained where a base is frozen: the adapter's and a head's.
pub(in crate::llm) fn moves_beside_a_base(name: &str) -> bool {
    is_lora(name) || is_head(name)
}

fn is_lora(name: &str) -> bool {
    name.ends_with(".lora_A.weight") || name.ends_with(".lora_B.weight")
}

fn is_head(name: &str) -> bool {
    (ScalarHead::ALL.iter()).any(|head| head.names().contains(&name))
}

fn no_dropout(config: &AdapterConfig) -> Result<()> {
    match config.dropout {
        0.0 => Ok(()),
        p => {
            let remedy = "training with dropout is not supported: set it to 0";
            Err(Error::invalid("lora_dropout", format!("it is {p}"), remedy))
        }
    }
}

/// `W + s B A`, for a weight that is not used as a linear layer's.
pub(in crate::llm) fn adapted(tape: &Tape, w: &Node, a: &Node, b: &Node, s: f64) -> Result<Node> {
    let value = (w.value() + (b.value().matmul(a.value())? * s)?)?;
    Ok(tape.record(value, &[w, a, b], || {
        let (w, a, b) = (w.target(), a.clone(), b.clone());
        Box::new(move |gradient, sums| {
            if a.wanted() {
                sums.add(&a.target(), (b.value().t()?.matmul(&gradient)? * s)?)?;
            }
            if b.wanted() {
                sums.add(&b.target(), (gradient.matmul(&a.value().t()?)? * s)?)?;
            }
            sums.add_shared(&w, &gradient)
        })
    }))
}
