//! The networks of a run: a model's folder to what is trained, and to what stays.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use candle_core::{DType, Device};

use super::choices::ValueNetwork;
use super::learner::Model;
use super::settings::Settings;
use crate::error::{Error, Result};
use crate::llm::checkpoint;
use crate::llm::decoder::Decoder;
use crate::llm::heads::{PolicyWithValue, ScalarHead, Scorer};
use crate::llm::lora::{AdapterConfig, Target};
use crate::llm::objective::TextObjective;
use crate::llm::parameters::Parameters;
use crate::llm::saving::Saving;
use crate::llm::weights::Checkpoint;

/// Where a checkpoint has a value head whose decoder is kept as an adapter.
const VALUE_HEAD: &str = "value_head";

impl Model for Decoder {
    fn decoder(&self) -> &Decoder {
        self
    }

    fn parameters(&self) -> &Parameters {
        Self::parameters(self)
    }

    fn context(&self) -> usize {
        self.architecture().context
    }

    fn save(&self, dir: &Path, companions: Option<&Path>) -> Result<()> {
        save(self, dir, companions)
    }
}

impl Model for Scorer {
    fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    fn parameters(&self) -> &Parameters {
        self.decoder.parameters()
    }

    fn context(&self) -> usize {
        self.decoder.architecture().context
    }

    fn save(&self, dir: &Path, companions: Option<&Path>) -> Result<()> {
        save(&self.decoder, dir, companions)
    }
}

impl Model for PolicyWithValue {
    fn decoder(&self) -> &Decoder {
        &self.0
    }

    fn parameters(&self) -> &Parameters {
        self.0.parameters()
    }

    fn context(&self) -> usize {
        self.0.architecture().context
    }

    fn save(&self, dir: &Path, companions: Option<&Path>) -> Result<()> {
        save(&self.0, dir, companions)
    }
}

/// What a network is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Policy,
    PolicyWithValue,
    Score,
    Value,
}

impl Role {
    /// The role of what gives the objective its trained numbers.
    pub fn of(objective: &TextObjective, settings: &Settings) -> Self {
        match (objective.scores(), objective.value(), settings.value) {
            (true, _, _) => Self::Score,
            (_, true, ValueNetwork::Shared) => Self::PolicyWithValue,
            _ => Self::Policy,
        }
    }

    fn head(self) -> Option<ScalarHead> {
        match self {
            Self::Policy => None,
            Self::Score => Some(ScalarHead::Reward),
            Self::PolicyWithValue | Self::Value => Some(ScalarHead::Value),
        }
    }

    /// The decoder in a folder, with its output head if the role needs it.
    pub fn decoder(self, dir: &Path, dtype: DType, device: &Device) -> Result<Decoder> {
        match self {
            Self::Policy | Self::PolicyWithValue => Decoder::load(dir, dtype, device),
            Self::Score | Self::Value => Decoder::load_body(dir, dtype, device),
        }
    }

    /// What is trained, before its first step: a folder's decoder with the head that is kept there,
    /// or else a new one, and with a new adapter if the settings want one. `end` and `padding` are
    /// the tokenizer's.
    pub fn start(
        self,
        mut decoder: Decoder,
        dir: &Path,
        settings: &Settings,
        [end, padding]: [Option<u32>; 2],
    ) -> Result<Decoder> {
        let adapter = adapter(settings);
        if let Some(head) = self.head() {
            if Checkpoint::open(dir)?.has(head.names()[0]) {
                head.load(&mut decoder, dir)?;
            } else {
                head.add(&mut decoder, settings.seed)?;
                // An adapter's configuration is its base's, for everyone who loads it.
                if head == ScalarHead::Reward && adapter.is_none() {
                    decoder.read_end(end, padding);
                }
            }
        }
        if let Some(config) = adapter {
            decoder.add_adapter(config, settings.seed)?;
        }
        Ok(decoder)
    }

    /// What is trained, from a checkpoint of all weights.
    pub fn restored(self, dir: &Path, settings: &Settings) -> Result<Decoder> {
        let mut decoder = self.decoder(dir, settings.dtype.dtype(), &settings.device()?)?;
        if let Some(head) = self.head() {
            head.load(&mut decoder, dir)?;
        }
        Ok(decoder)
    }

    /// What is trained, from a checkpoint of an adapter, which is put on a folder's decoder. The
    /// head comes before it, as at the start: a norm is summed in the order of parameters.
    pub fn adapted(self, mut base: Decoder, dir: &Path, settings: &Settings) -> Result<Decoder> {
        match self.head() {
            None => {}
            Some(ScalarHead::Value) => ScalarHead::Value.load(&mut base, dir.join(VALUE_HEAD))?,
            Some(head) => head.add(&mut base, settings.seed)?,
        }
        base.load_adapter(dir)?;
        base.train_adapter()?;
        Ok(base)
    }

    /// The network of a decoder that [`start`](Self::start), [`restored`](Self::restored) or
    /// [`adapted`](Self::adapted) gave.
    pub fn network(self, decoder: Decoder) -> Box<dyn Model> {
        match self {
            Self::Policy => Box::new(decoder),
            Self::PolicyWithValue => Box::new(PolicyWithValue(decoder)),
            Self::Score => Box::new(Scorer {
                decoder,
                head: ScalarHead::Reward,
            }),
            Self::Value => Box::new(Scorer {
                decoder,
                head: ScalarHead::Value,
            }),
        }
    }
}

/// The adapter that is trained, if one is.
pub(in crate::llm) fn adapter(settings: &Settings) -> Option<AdapterConfig> {
    let rank = settings.lora_rank;
    let target = match settings.lora_targets.as_slice() {
        [] => Target::AllLinear,
        names => Target::Names(names.to_vec()),
    };
    let alpha = settings.lora_alpha.unwrap_or(rank as f64);
    (rank > 0).then(|| AdapterConfig::new(rank, alpha, target))
}

/// Writes a model, or its adapter, to a folder that is there.
fn save(decoder: &Decoder, dir: &Path, companions: Option<&Path>) -> Result<()> {
    if decoder.adapter().is_none() {
        let saving = Saving {
            companions,
            ..Saving::default()
        };
        return decoder.save(dir, &saving);
    }
    decoder.save_adapter(dir)?;
    if ScalarHead::of(decoder) != Some(ScalarHead::Value) {
        return Ok(());
    }
    // PEFT has no place for it.
    let dir = dir.join(VALUE_HEAD);
    fs::create_dir(&dir).map_err(Error::io(&dir, "create"))?;
    let names = ScalarHead::Value.names();
    let of_head = decoder
        .parameters()
        .iter()
        .filter(|p| names.contains(&p.name.as_str()));
    let tensors: HashMap<_, _> = of_head
        .map(|p| (p.name.clone(), p.tensor.clone()))
        .collect();
    checkpoint::write_tensors(&dir.join("model.safetensors"), &tensors)
}
