//! Model folders: what a person names as a model, found on the disk: a model's folder, an adapter's (LoRA) with its
//! base, or a run's. Every command that takes a model finds it here.

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device};

use super::config::Config;
use super::decoder::Decoder;
use super::heads::ScalarHead;
use super::lora::{AdapterConfig, CONFIG as ADAPTER_CONFIG, has_reward_head};
use super::weights::Checkpoint;
use crate::error::{Error, Result};
use crate::llm::files::checkpoint;

const CONFIG: &str = "config.json";
/// The settings of a run, resolved: in its folder.
pub const RUN_CONFIG: &str = "config.toml";
/// Subfolder of a run with the trained network.
pub const RUN_MODEL: &str = "model";
const TOKENIZER: &str = "tokenizer.json";

/// Between an adapter's folder and that of its base, where it says a wrong one or none.
const BASE: &str = ",base=";

/// A model on the disk: a folder with `config.json` and weights, or an adapter and its base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFolder {
    /// The model's folder or the adapter's: the one that was named, or a run's `model/`.
    pub folder: PathBuf,
    /// The folder of the adapter's base; none of a whole model.
    pub base: Option<PathBuf>,
}

impl ModelFolder {
    /// Finds the model that a person names: the folder of a model or of an adapter, that of a run,
    /// whose `model/` is taken, or `ADAPTER,base=DIR`.
    ///
    /// The base of an adapter is the folder that its `base_model_name_or_path` names: from here, or
    /// from the adapter's folder or one that it is in. It may be a run's too.
    ///
    /// # Errors
    /// A folder that is not there or holds none of these; a base that is not found, or is an adapter
    /// itself.
    pub fn find(named: impl AsRef<Path>) -> Result<Self> {
        let named = named.as_ref();
        if let Some((adapter, base)) = parted(named) {
            return Self::on(&base, &adapter);
        }
        let folder = inside(named)?;
        if !is_adapter(&folder) {
            return Ok(Self { folder, base: None });
        }
        let base = Some(base_of(&folder)?);
        Ok(Self { folder, base })
    }

    /// Finds an adapter, or the run of one, on a base that is named apart.
    ///
    /// # Errors
    /// As [`find`](Self::find); a folder that is no adapter's.
    pub fn on(base: &Path, adapter: &Path) -> Result<Self> {
        let folder = inside(adapter)?;
        if !is_adapter(&folder) {
            let place = folder.display().to_string();
            let problem = "it is no adapter: there is no adapter_config.json";
            return Err(Error::invalid(place, problem, "name it as the model"));
        }
        let base = Some(whole(inside(base)?)?);
        Ok(Self { folder, base })
    }

    /// Whether a folder itself has a tokenizer.
    pub(in crate::llm) fn is_tokenizer(named: &Path) -> bool {
        named.join(TOKENIZER).is_file()
    }

    /// Name of the model: its folder, and the base where the adapter does not say it.
    pub fn name(&self) -> PathBuf {
        let said = self
            .base
            .as_ref()
            .filter(|base| base_of(&self.folder).ok().as_ref() != Some(base));
        match said {
            None => self.folder.clone(),
            Some(base) => {
                let mut name = self.folder.clone().into_os_string();
                name.push(BASE);
                name.push(base);
                name.into()
            }
        }
    }

    /// The folder of `config.json` and of the weights of the model or the base.
    pub fn weights(&self) -> &Path {
        self.base.as_deref().unwrap_or(&self.folder)
    }

    /// The adapter's folder.
    pub fn adapter(&self) -> Option<&Path> {
        self.base.as_ref().map(|_| self.folder.as_path())
    }

    /// Configuration of the adapter, if it is one.
    ///
    /// # Errors
    /// As [`AdapterConfig::read`].
    pub fn adapter_config(&self) -> Result<Option<AdapterConfig>> {
        let read = |dir: &Path| AdapterConfig::read(&dir.join(ADAPTER_CONFIG));
        self.adapter().map(read).transpose()
    }

    /// Whether it is a reward model: a reward head is among the weights, or came with the adapter.
    ///
    /// # Errors
    /// Weights that cannot be read.
    pub fn is_reward(&self) -> Result<bool> {
        if let Some(adapter) = self.adapter()
            && has_reward_head(adapter)?
        {
            return Ok(true);
        }
        Ok(Checkpoint::open(self.weights())?.has(ScalarHead::Reward.names()[0]))
    }

    /// The folder of a head inside that of the adapter, if it is there.
    pub(in crate::llm) fn beside(&self, head: ScalarHead) -> Option<PathBuf> {
        let dir = self.adapter()?.join(head.folder()?);
        dir.is_dir().then_some(dir)
    }

    /// The folder that holds the weights of a head: that inside the adapter's, or else of the model or the base.
    ///
    /// # Errors
    /// Weights that cannot be read.
    pub(in crate::llm) fn holding(&self, head: ScalarHead) -> Result<Option<PathBuf>> {
        if let Some(dir) = self.beside(head) {
            return Ok(Some(dir));
        }
        let kept = Checkpoint::open(self.weights())?.has(head.names()[0]);
        Ok(kept.then(|| self.weights().into()))
    }

    /// The configuration of the model or the base.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn config(&self) -> Result<Config> {
        Config::read(self.weights().join(CONFIG))
    }

    /// The folder of the tokenizer: the adapter's, if it has one, else that of the weights.
    pub fn tokenizer_folder(&self) -> &Path {
        if self.folder.join(TOKENIZER).is_file() {
            &self.folder
        } else {
            self.weights()
        }
    }

    /// The language model, with its adapter, if it has one, frozen.
    ///
    /// # Errors
    /// As [`Decoder::load`] and [`Decoder::load_adapter`]; a reward model.
    pub fn decoder(&self, dtype: DType, device: &Device) -> Result<Decoder> {
        let model = self.adapted(Decoder::load(self.weights(), dtype, device)?)?;
        match ScalarHead::of(&model) {
            None => Ok(model),
            Some(head) => Err(Error::invalid(
                self.folder.display().to_string(),
                format!("it is a reward model (it holds {})", head.names()[0]),
                "a policy needs a language model",
            )),
        }
    }

    /// [`decoder`](Self::decoder) without the output head: the body of a reward or value network. A
    /// reward head that was saved with the adapter is put on.
    ///
    /// # Errors
    /// As [`Decoder::load_body`] and [`Decoder::load_adapter`].
    pub fn body(&self, dtype: DType, device: &Device) -> Result<Decoder> {
        self.adapted(Decoder::load_body(self.weights(), dtype, device)?)
    }

    pub(in crate::llm) fn adapted(&self, mut model: Decoder) -> Result<Decoder> {
        if let (Some(adapter), Some(base)) = (self.adapter(), &self.base) {
            model.load_adapter(adapter)?;
            // Saved again, it says where its base was found.
            model.set_base(base);
        }
        Ok(model)
    }
}

/// The model or adapter in a folder, or in the `model/` of a run's.
fn inside(dir: &Path) -> Result<PathBuf> {
    let is_one = |dir: &Path| dir.join(CONFIG).is_file() || is_adapter(dir);
    let inner = dir.join(RUN_MODEL);
    match (is_one(dir), is_one(&inner)) {
        (true, _) => unambiguous(dir),
        (false, true) => unambiguous(&inner),
        (false, false) => Err(none(dir)),
    }
}

fn is_adapter(dir: &Path) -> bool {
    dir.join(ADAPTER_CONFIG).is_file()
}

/// Refuses a folder of which nobody knows whether the model or the adapter in it is meant.
fn unambiguous(dir: &Path) -> Result<PathBuf> {
    let weights = ["model.safetensors", "model.safetensors.index.json"];
    if is_adapter(dir) && weights.iter().any(|name| dir.join(name).exists()) {
        let problem = "it holds both a model and an adapter";
        let remedy = "move one of them to a folder of its own";
        return Err(Error::invalid(dir.display().to_string(), problem, remedy));
    }
    Ok(dir.into())
}

/// Why there is no model in a folder.
fn none(dir: &Path) -> Error {
    let place = dir.display().to_string();
    if !dir.exists() {
        let remedy = if hub_name(&place) {
            download(&place)
        } else {
            "name a folder with config.json or adapter_config.json, or that of a run".into()
        };
        return Error::invalid(place, "there is no such folder", remedy);
    }
    if !dir.is_dir() {
        let remedy = "name the folder that holds config.json and the weights";
        return Error::invalid(place, "it is a file", remedy);
    }
    if dir.join(RUN_CONFIG).is_file() {
        let last = checkpoint::list(dir).ok().and_then(|mut all| all.pop());
        let remedy = match last {
            Some((_, last)) => format!(
                "go on with it (pistar train --resume --out {place}), or name its last checkpoint, {}",
                last.display()
            ),
            None => format!("go on with it: pistar train --resume --out {place}"),
        };
        return Error::invalid(place, "its run did not come to an end", remedy);
    }
    let remedy = "name a folder with config.json or adapter_config.json, or that of a run that came \
                  to its end";
    Error::invalid(place, "it holds neither a model nor a finished run", remedy)
}

/// An adapter and its base, named together; a folder that is there is meant as it is.
fn parted(named: &Path) -> Option<(PathBuf, PathBuf)> {
    let (adapter, base) = named
        .to_str()
        .filter(|_| !named.exists())?
        .split_once(BASE)?;
    Some((adapter.into(), base.into()))
}

/// The base that an adapter names.
fn base_of(adapter: &Path) -> Result<PathBuf> {
    let path = adapter.join(ADAPTER_CONFIG);
    let place = format!("{}: base_model_name_or_path", path.display());
    let say = format!("say where it is: {}{BASE}DIR", adapter.display());
    let Some(named) = AdapterConfig::read(&path)?.base else {
        return Err(Error::invalid(place, "it is missing", say));
    };
    let real = |dir: &Path| fs::canonicalize(dir).ok();
    // `model` is also what a run calls the adapter itself.
    let itself = |base: &Path| inside(base).is_ok_and(|found| real(&found) == real(adapter));
    let from = |dir: &Path| Some(dir.join(&named)).filter(|base| base.is_dir() && !itself(base));
    let around = || real(adapter)?.ancestors().find_map(from);
    match from(Path::new("")).or_else(around) {
        Some(base) => whole(inside(&base).map_err(|e| e.in_file(&place))?),
        None => {
            let remedy = if hub_name(&named) {
                format!("{}, and {say}", download(&named))
            } else {
                say
            };
            let problem = format!("the adapter's base `{named}` is no folder here");
            Err(Error::invalid(place, problem, remedy))
        }
    }
}

/// A base that is no adapter.
fn whole(base: PathBuf) -> Result<PathBuf> {
    if is_adapter(&base) {
        let place = base.display().to_string();
        let problem = "it is an adapter, and was named as an adapter's base";
        let remedy = format!("merge it first: pistar merge {place} --out DIR");
        Err(Error::invalid(place, problem, remedy))
    } else {
        Ok(base)
    }
}

/// Whether a text is how the hub names a model: `organisation/name`.
fn hub_name(text: &str) -> bool {
    let part = |part: &str| {
        let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !part.is_empty()
            && part.chars().all(known)
            && part.starts_with(|c: char| c.is_ascii_alphanumeric())
    };
    (text.split_once('/')).is_some_and(|(owner, name)| part(owner) && part(name))
}

/// How a model of the hub gets here.
fn download(name: &str) -> String {
    let dir = name.rsplit('/').next().unwrap_or(name);
    format!(
        "nothing is downloaded: if it is a model of the hub, run \
         `hf download {name} --local-dir models/{dir}` and name models/{dir}"
    )
}
