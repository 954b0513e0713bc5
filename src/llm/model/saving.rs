//! A model as a folder that `transformers` loads.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use candle_core::{DType, Tensor};
use serde_json::{Value, json};

use super::config::Config;
use super::decoder::Decoder;
use super::heads::ScalarHead;
use super::weights::{self, Entry, Item};
use crate::error::{Error, Result};
use crate::file::Staged;
use crate::file::{self, json::sorted};
use crate::llm::files::json::Object;

/// How the model is meant to generate.
pub(in crate::llm) const GENERATION: &str = "generation_config.json";

/// What is copied along: generation settings and the tokenizer.
pub(in crate::llm) const COMPANIONS: &[&str] = &[
    GENERATION,
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
];

/// Whether a file of that name is one that a saved model has.
pub(in crate::llm) fn is_of_model(name: &str) -> bool {
    name == "config.json" || COMPANIONS.contains(&name) || weights::is_weights(name)
}

/// Options of saving a model.
#[derive(Debug, Clone)]
pub struct Saving<'a> {
    /// Precision of the files; none for that of the parameters.
    pub dtype: Option<DType>,
    /// Most bytes of a shard (a larger tensor is a shard of its own).
    pub shard: u64,
    /// The folder that tokenizer and generation settings are copied from; none for the one that
    /// the model was loaded from.
    pub companions: Option<&'a Path>,
}

impl Default for Saving<'_> {
    /// As it is, in shards of 5 GB.
    fn default() -> Self {
        Self {
            dtype: None,
            shard: 5_000_000_000,
            companions: None,
        }
    }
}

impl Decoder {
    /// Saves the model to a folder that `transformers` loads with the same logits: `config.json`
    /// as it was read (but for class and precision), `model.safetensors` or shards, tokenizer and
    /// generation settings. A tied output head is left out. With a reward head the class is
    /// `…ForSequenceClassification` of one label, and the output head is left out; a value head
    /// is saved beside the rest under TRL's names, and the second head of an Advantage Model under its own.
    ///
    /// Every file appears whole or not at all, the weights last. An older model in the folder is
    /// replaced.
    ///
    /// # Errors
    /// A model that was not made from a configuration, has an adapter that is not merged, or has
    /// no head at all; a file that cannot be written (then nothing is left behind).
    pub fn save(&self, dir: impl AsRef<Path>, saving: &Saving) -> Result<()> {
        let dir = dir.as_ref();
        let place = dir.display().to_string();
        let config = self.config().ok_or_else(|| {
            let problem = "the model was not made from a config.json";
            Error::invalid(&place, problem, "load it, or make it with `from_config`")
        })?;
        if self.adapter().is_some() {
            let problem = "the model has an adapter";
            let remedy = "save the adapter with `save_adapter`, or `merge` it first";
            return Err(Error::invalid(place, problem, remedy));
        }
        let scalar = ScalarHead::of(self);
        if scalar.is_none() && !self.has_head() {
            let problem = "the model has neither an output head nor a scalar head";
            return Err(Error::invalid(place, problem, "add one before saving"));
        }
        let dtype = saving.dtype.unwrap_or(self.parameters().dtype());
        let mut staged = Staged::new(dir)?;
        let fields = sorted(fields(config, scalar, dtype));
        staged.bytes("config.json", format!("{fields:#}\n").as_bytes())?;
        if let Some(from) = saving.companions.or(self.origin()) {
            companions(&mut staged, from, dir)?;
        }
        let names = weights::stage(
            &mut staged,
            &self.items(config, scalar),
            dtype,
            saving.shard,
        )?;
        weights::before(dir, &names)?;
        staged.finish()?;
        weights::after(dir, &names)
    }

    /// What its files hold.
    fn items(&self, config: &Config, scalar: Option<ScalarHead>) -> Vec<Item<'_>> {
        let parameters: HashMap<&str, &Tensor> = (self.parameters().iter())
            .map(|p| (p.name.as_str(), &p.tensor))
            .collect();
        let with_head = self.has_head() && scalar != Some(ScalarHead::Reward);
        let mut entries = config.family.names.layout(self.graph(), with_head);
        for name in ScalarHead::all_of(self).flat_map(ScalarHead::names) {
            entries.extend(parameters.get(name).map(|t| Entry {
                name: (*name).into(),
                parts: vec![((*name).into(), t.dims().into())],
                transposed: false,
                turns: 0,
                of_layer: false,
            }));
        }
        (entries.into_iter())
            .map(|entry| Item {
                name: entry.name.clone(),
                shape: entry.shape(),
                tensor: {
                    let parts: Vec<Tensor> = (entry.parts.iter())
                        .filter_map(|(name, _)| parameters.get(name.as_str()).copied().cloned())
                        .collect();
                    Box::new(move || entry.join(&parts))
                },
            })
            .collect()
    }
}

/// The configuration of what is saved.
fn fields(config: &Config, scalar: Option<ScalarHead>, dtype: DType) -> Value {
    let mut fields: Object = config.fields.clone();
    let class = match scalar {
        Some(ScalarHead::Reward) => config.family.classifier,
        _ => config.family.language_model,
    };
    fields.insert("architectures".into(), json!([class]));
    if scalar == Some(ScalarHead::Reward) {
        fields.insert("id2label".into(), json!({"0": "LABEL_0"}));
        fields.insert("label2id".into(), json!({"LABEL_0": 0}));
        fields.remove("num_labels");
    }
    let name = match dtype {
        DType::F64 => "float64",
        DType::BF16 => "bfloat16",
        DType::F16 => "float16",
        _ => "float32",
    };
    // transformers 5 writes `dtype`, and reads the older name too.
    if fields.contains_key("dtype") {
        fields.remove("torch_dtype");
        fields.insert("dtype".into(), name.into());
    } else {
        fields.insert("torch_dtype".into(), name.into());
    }
    fields.into()
}

/// Copies tokenizer and generation settings from a folder.
pub(in crate::llm) fn companions(staged: &mut Staged, from: &Path, to: &Path) -> Result<()> {
    let real = |dir: &Path| fs::canonicalize(dir).ok();
    if real(from) == real(to) {
        return Ok(());
    }
    for name in COMPANIONS {
        let path = from.join(name);
        if path.exists() {
            staged.bytes(name, &file::bytes(&path)?)?;
        }
    }
    Ok(())
}
