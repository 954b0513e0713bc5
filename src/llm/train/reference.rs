//! The reference's log-probabilities: from a file, or from a model in memory.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::file;
use crate::llm::files::hash::hex;
use crate::llm::model::inference;
use crate::llm::model::network::{Network, Reduction};
use crate::llm::model::sequence::Sequence;
use crate::llm::train::average::Average;

/// Source of the reference's log-probabilities.
#[non_exhaustive]
pub enum Reference {
    /// The objective looks at none: 0.
    None,
    /// Numbers computed before.
    Cached(Cache),
    /// A model that stays as it is.
    Live(Box<dyn Network>),
    /// Numbers that are stored with responses when the policy writes them: of a model that stays as it is, or of the
    /// policy itself, as it was then.
    Stored(Option<Box<dyn Network>>),
    /// A moving average of the policy's weights.
    Average(Box<Average>),
}

impl Reference {
    /// The reference's number of each sequence, run as the policy is: on a policy with the
    /// reference's weights every log-ratio is exactly 0.
    ///
    /// # Errors
    /// A sequence that is not in the cache, or those of the model.
    pub fn numbers(
        &self,
        sequences: &[Sequence],
        reduction: Reduction,
        micro_batch: usize,
    ) -> Result<Vec<f64>> {
        match self {
            Self::None => Ok(vec![0.0; sequences.len()]),
            Self::Live(network) | Self::Stored(Some(network)) => {
                Ok(inference::numbers(&**network, reduction, sequences, micro_batch)?.sequences)
            }
            Self::Average(average) => {
                let network = &average.model;
                Ok(inference::numbers(network, reduction, sequences, micro_batch)?.sequences)
            }
            Self::Stored(None) => Err(unstored()),
            Self::Cached(cache) => (sequences.iter())
                .map(|s| Ok(cache.sum(s)? * reduction.scale(s.weight())))
                .collect(),
        }
    }
}

impl Reference {
    /// The reference's numbers of the tokens of each sequence, for a loss that takes tokens.
    ///
    /// # Errors
    /// Numbers computed before, which are sums; those of the model.
    pub fn tokens(&self, sequences: &[Sequence], micro_batch: usize) -> Result<Vec<Vec<f64>>> {
        match self {
            Self::None => Ok(Vec::new()),
            Self::Live(network) | Self::Stored(Some(network)) => {
                let numbers =
                    inference::numbers(&**network, Reduction::Sum, sequences, micro_batch);
                Ok(numbers?.pieces)
            }
            Self::Average(average) => {
                let network = &average.model;
                Ok(inference::numbers(network, Reduction::Sum, sequences, micro_batch)?.pieces)
            }
            Self::Stored(None) => Err(unstored()),
            Self::Cached(_) => Err(Error::invalid(
                "reference",
                "its numbers are of whole responses, and the loss takes tokens",
                "give reference live",
            )),
        }
    }
}

/// What is wrong where numbers are asked for that came with the responses, or did not.
fn unstored() -> Error {
    Error::invalid(
        "reference",
        "its numbers are stored with responses that the policy writes",
        "give reference initial, live or a folder",
    )
}

/// Name of the numbers in a run's folder.
pub const FILE: &str = "reference.safetensors";

/// Names a sequence: the first half of SHA-256 of its tokens, where its completion begins and its weights, if it has
/// any.
type Key = [u8; 16];

/// Sums of a reference's token log-probabilities, one for each sequence that was ever asked for.
///
/// A sequence is known by its tokens, so that other data, another tokenizer or another truncation
/// never get the numbers of this one.
#[derive(Debug, Clone, PartialEq)]
pub struct Cache {
    model: String,
    sums: HashMap<Key, f64>,
    origin: PathBuf,
}

impl Cache {
    /// None yet, of the model of that identity.
    pub fn new(model: String, origin: &Path) -> Self {
        Self {
            model,
            sums: HashMap::new(),
            origin: origin.into(),
        }
    }

    /// The numbers in a file; none if there is no file, or if it is of another model.
    ///
    /// # Errors
    /// A file that is not as it was written.
    pub fn open(model: String, path: &Path) -> Result<Self> {
        let mut cache = Self::new(model, path);
        if path.exists() {
            let bytes = file::bytes(path)?;
            let (model, sums) = read(&bytes).map_err(|message| Error::Format {
                origin: path.display().to_string(),
                message,
                remedy: "delete it, it will be computed again".into(),
            })?;
            if model == cache.model {
                cache.sums = sums;
            }
        }
        Ok(cache)
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.sums.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.sums.is_empty()
    }

    /// Adds the sums of those sequences that are not there, all run together if one is missing.
    ///
    /// # Errors
    /// Those of the network.
    pub fn fill(
        &mut self,
        network: &dyn Network,
        sequences: &[Sequence],
        micro_batch: usize,
    ) -> Result<()> {
        let keys: Vec<Key> = sequences.iter().map(key).collect();
        if keys.iter().all(|k| self.sums.contains_key(k)) {
            return Ok(());
        }
        let numbers = inference::numbers(network, Reduction::Sum, sequences, micro_batch)?;
        for (key, sum) in keys.into_iter().zip(numbers.sequences) {
            self.sums.entry(key).or_insert(sum);
        }
        Ok(())
    }

    fn sum(&self, sequence: &Sequence) -> Result<f64> {
        self.sums.get(&key(sequence)).copied().ok_or_else(|| {
            Error::invalid(
                self.origin.display().to_string(),
                "it lacks a response of the data",
                "delete it, it will be computed again",
            )
        })
    }

    /// Writes the numbers to their file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(&self) -> Result<()> {
        let mut entries: Vec<_> = self.sums.iter().collect();
        entries.sort_unstable_by_key(|(key, _)| **key);
        let keys: Vec<u8> = entries.iter().flat_map(|(key, _)| **key).collect();
        let sums: Vec<u8> = (entries.iter())
            .flat_map(|(_, sum)| sum.to_le_bytes())
            .collect();
        let checksum = checksum(&self.model, &keys, &sums);
        // One entry: several would be written in any order.
        let about = serde_json::json!({"model": self.model, "sha256": checksum}).to_string();
        let about = HashMap::from([(ABOUT.to_string(), about)]);
        let count = entries.len();
        let failed = |e: safetensors::SafeTensorError| Error::Format {
            origin: self.origin.display().to_string(),
            message: e.to_string(),
            remedy: "train with reference = live".into(),
        };
        let keys = TensorView::new(Dtype::U8, vec![count, 16], &keys).map_err(failed)?;
        let sums = TensorView::new(Dtype::F64, vec![count], &sums).map_err(failed)?;
        let tensors = [("keys", keys), ("sums", sums)];
        let bytes = safetensors::serialize(tensors, Some(about)).map_err(failed)?;
        crate::file::write_whole(&self.origin, &bytes)
    }
}

/// Key of the file's metadata: a JSON object with `model` and `sha256`.
const ABOUT: &str = "reference";

fn read(bytes: &[u8]) -> std::result::Result<(String, HashMap<Key, f64>), String> {
    let broken = |e: safetensors::SafeTensorError| e.to_string();
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(broken)?;
    let tensors = SafeTensors::deserialize(bytes).map_err(broken)?;
    let about = (metadata.metadata().as_ref())
        .and_then(|m| m.get(ABOUT))
        .and_then(|text| serde_json::from_str::<HashMap<String, String>>(text).ok());
    let said = |name: &str| about.as_ref().and_then(|a| a.get(name).cloned());
    let (Some(model), Some(written)) = (said("model"), said("sha256")) else {
        return Err("it does not say which model it is of".into());
    };
    let keys = tensors.tensor("keys").map_err(broken)?;
    let sums = tensors.tensor("sums").map_err(broken)?;
    if checksum(&model, keys.data(), sums.data()) != written {
        return Err("its numbers are not those that were written".into());
    }
    let (keys, _) = keys.data().as_chunks::<16>();
    let (sums, _) = sums.data().as_chunks::<8>();
    let sums = sums.iter().map(|bytes| f64::from_le_bytes(*bytes));
    Ok((model, keys.iter().copied().zip(sums).collect()))
}

fn checksum(model: &str, keys: &[u8], sums: &[u8]) -> String {
    let mut hash = Sha256::new();
    for part in [model.as_bytes(), keys, sums] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hex(hash)
}

fn key(sequence: &Sequence) -> Key {
    let mut hash = Sha256::new();
    hash.update((sequence.prompt().len() as u64).to_le_bytes());
    for token in sequence.tokens() {
        hash.update(token.to_le_bytes());
    }
    if let Some(weights) = sequence.weights() {
        // Seven bytes: no sequence of tokens is as long.
        hash.update(b"weights");
        weights.iter().for_each(|w| hash.update(w.to_le_bytes()));
    }
    let mut key = Key::default();
    key.copy_from_slice(&hash.finalize()[..16]);
    key
}
