//! The networks of a run: a model's folder to what is trained, and to what stays.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use candle_core::{DType, Device};

use super::ensemble;
use super::enums::ValueNetwork;
use super::learner::Model;
use super::settings::Settings;
use crate::error::{Error, Result};
use crate::file::Staged;
use crate::llm::files::checkpoint;
use crate::llm::model::decoder::Decoder;
use crate::llm::model::heads::{AdvantageScorer, PolicyWithValue, ScalarHead, Scorer, TokenValues};
use crate::llm::model::lora::{AdapterConfig, Module, Target};
use crate::llm::model::model_folder::ModelFolder;
use crate::llm::model::network::ValueRows;
use crate::llm::model::saving::{self, Saving};
use crate::llm::text::objective::TextObjective;

impl Model for Decoder {
    fn decoder(&self) -> &Decoder {
        self
    }
}

impl Model for Scorer {
    fn decoder(&self) -> &Decoder {
        &self.decoder
    }
}

impl Model for AdvantageScorer {
    fn decoder(&self) -> &Decoder {
        &self.0
    }
}

impl Model for PolicyWithValue {
    fn decoder(&self) -> &Decoder {
        &self.0
    }
}

impl Model for TokenValues {
    fn decoder(&self) -> &Decoder {
        &self.0
    }
}

/// What a network is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Policy,
    PolicyWithValue(ValueRows),
    Score,
    /// A score, and its expectation at the end of the prompt.
    Advantage,
    Value(ValueRows),
}

impl Role {
    /// The role of what gives the objective its trained numbers.
    pub fn of(objective: &TextObjective, settings: &Settings) -> Self {
        match (objective.scores(), objective.value(), settings.value) {
            (true, _, _) if objective.expects() => Self::Advantage,
            (true, _, _) => Self::Score,
            (_, true, ValueNetwork::Shared) => Self::PolicyWithValue(settings.value_per.rows()),
            _ => Self::Policy,
        }
    }

    /// The role of the separate value network.
    pub fn value(settings: &Settings) -> Self {
        Self::Value(settings.value_per.rows())
    }

    fn heads(self) -> &'static [ScalarHead] {
        match self {
            Self::Policy => &[],
            Self::Score => &[ScalarHead::Reward],
            Self::Advantage => &[ScalarHead::Reward, ScalarHead::Expected],
            Self::PolicyWithValue(_) | Self::Value(_) => &[ScalarHead::Value],
        }
    }

    /// The decoder of a model, with its output head if the role needs it.
    pub fn decoder(self, of: &ModelFolder, dtype: DType, device: &Device) -> Result<Decoder> {
        match self {
            Self::Policy | Self::PolicyWithValue(_) => of.decoder(dtype, device),
            Self::Score | Self::Advantage | Self::Value(_) => of.body(dtype, device),
        }
    }

    /// The network to be trained, before its first step: a model's decoder with the head that is kept there, or else
    /// a new one, and with its adapter, or a new one if the settings want one. `end` and `padding` are the
    /// tokenizer's.
    pub fn start(
        self,
        mut decoder: Decoder,
        of: &ModelFolder,
        settings: &Settings,
        [end, padding]: [Option<u32>; 2],
    ) -> Result<Decoder> {
        let adapter = adapter(settings, of)?;
        // An adapter brings its reward head along.
        for head in self.heads() {
            if head.is_on(&decoder) {
                continue;
            }
            match of.holding(*head)? {
                Some(dir) => head.load(&mut decoder, dir)?,
                None => {
                    head.add(&mut decoder, settings.seed)?;
                    // An adapter's configuration is its base's, for everyone who loads it.
                    if *head == ScalarHead::Reward && adapter.is_none() {
                        decoder.read_end(end, padding);
                    }
                }
            }
        }
        match adapter {
            Some(_) if decoder.adapter().is_some() => decoder.train_adapter()?,
            Some(config) => decoder.add_adapter(config, settings.seed)?,
            None => {}
        }
        Ok(decoder)
    }

    /// The network to be trained, from a checkpoint of all weights.
    pub fn restored(self, dir: &Path, settings: &Settings) -> Result<Decoder> {
        let (dtype, device) = (settings.dtype.dtype(), settings.device()?);
        let mut decoder = self.decoder(&ModelFolder::find(dir)?, dtype, &device)?;
        for head in self.heads() {
            head.load(&mut decoder, dir)?;
        }
        Ok(decoder)
    }

    /// The network to be trained, from a checkpoint of an adapter, which is put on a model's decoder in place of the
    /// adapter that was given, if one was.
    pub fn adapted(
        self,
        mut base: Decoder,
        dir: &Path,
        of: &ModelFolder,
        settings: &Settings,
    ) -> Result<Decoder> {
        if base.adapter().is_some() {
            let mut decoder = self.start(base, of, settings, [None; 2])?;
            decoder.set_adapter(dir)?;
            for head in self.heads() {
                if let Some(folder) = head.folder() {
                    head.restore(&mut decoder, dir.join(folder))?;
                }
            }
            return Ok(decoder);
        }
        // The heads before the adapter, as at the start: a norm is summed in the order of parameters.
        for head in self.heads() {
            match head.folder() {
                Some(folder) => head.load(&mut base, dir.join(folder))?,
                None => head.add(&mut base, settings.seed)?,
            }
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
            Self::PolicyWithValue(rows) => Box::new(PolicyWithValue(decoder, rows)),
            Self::Score => Box::new(Scorer {
                decoder,
                head: ScalarHead::Reward,
            }),
            Self::Advantage => Box::new(AdvantageScorer(decoder)),
            Self::Value(ValueRows::Completion) => Box::new(TokenValues(decoder)),
            Self::Value(ValueRows::Prompt) => Box::new(Scorer {
                decoder,
                head: ScalarHead::Value,
            }),
        }
    }
}

/// The adapter of the policy, if it has one: that of the model, or a new one, or the one that the members of an ensemble
/// make.
///
/// # Errors
/// Settings that ask for another adapter than the model has.
pub(in crate::llm) fn adapter(
    settings: &Settings,
    of: &ModelFolder,
) -> Result<Option<AdapterConfig>> {
    let Some(config) = of.adapter_config()? else {
        return Ok(new_adapter(settings).map(|each| ensemble::merged(each, settings)));
    };
    if !settings.lora_targets.is_empty() {
        let base = of.config()?;
        let layers = |config: &AdapterConfig| -> Result<Vec<String>> {
            let modules = Module::picked(&base, true, config, true)?;
            Ok(modules.into_iter().map(|m| m.path).collect())
        };
        let names = Target::Names(settings.lora_targets.clone());
        let asked = AdapterConfig::new(config.rank, config.alpha, names);
        if layers(&asked)? != layers(&config)? {
            let given = settings.lora_targets.join(",");
            return Err(another(of, "lora_targets", &given, "other layers"));
        }
    }
    Ok(Some(config))
}

/// Refuses an adapter that is not as the settings say.
pub(super) fn another(of: &ModelFolder, field: &str, given: &str, has: &str) -> Error {
    let folder = of.folder.display();
    Error::invalid(
        field,
        format!("it is {given}, and the adapter {folder} has {has}"),
        format!(
            "leave it out to go on training that adapter; for a new one, first \
             `pistar merge {folder} --out DIR`"
        ),
    )
}

/// A new adapter, or each of several that are trained side by side.
pub(in crate::llm) fn new_adapter(settings: &Settings) -> Option<AdapterConfig> {
    let rank = settings.lora_rank;
    let target = match settings.lora_targets.as_slice() {
        [] => Target::AllLinear,
        names => Target::Names(names.to_vec()),
    };
    let alpha = settings.lora_alpha.unwrap_or(rank as f64);
    (rank > 0).then(|| AdapterConfig::new(rank, alpha, target))
}

/// Writes a model, or its adapter, to a folder that is there.
pub(super) fn save(decoder: &Decoder, dir: &Path, companions: Option<&Path>) -> Result<()> {
    if decoder.adapter().is_none() {
        let saving = Saving {
            companions,
            ..Saving::default()
        };
        return decoder.save(dir, &saving);
    }
    decoder.save_adapter(dir)?;
    let given = companions.map(ModelFolder::find).transpose()?;
    if let Some(adapter) = given.as_ref().and_then(ModelFolder::adapter)
        && adapter.join("tokenizer.json").is_file()
    {
        // It has a tokenizer of its own.
        let mut staged = Staged::new(dir)?;
        saving::companions(&mut staged, adapter, dir)?;
        staged.finish()?;
    }
    for head in ScalarHead::all_of(decoder) {
        let Some(folder) = head.folder() else {
            continue;
        };
        let dir = dir.join(folder);
        fs::create_dir(&dir).map_err(Error::io(&dir, "create"))?;
        let of_head = decoder
            .parameters()
            .iter()
            .filter(|p| head.names().contains(&p.name.as_str()));
        let tensors: HashMap<_, _> = of_head
            .map(|p| (p.name.clone(), p.tensor.clone()))
            .collect();
        checkpoint::write_tensors(&dir.join("model.safetensors"), &tensors)?;
    }
    Ok(())
}
