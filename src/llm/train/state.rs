//! State of a run, and the checkpoints that hold it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::checkpoints::Best;
use super::constraints::Constraints;
use super::folder::{ANEW, FIRST_FORMAT, FORMAT, json, known};
use super::metrics::Meter;
use super::settings::Settings;
use crate::error::{Error, Result};
use crate::file;
use crate::file::write_whole;
use crate::llm::files::checkpoint::STATE;
use crate::llm::files::hash::{canonical, hex, of_bytes};
use crate::llm::model::identity::Identity;

/// State of a run: `trainer_state.json` of a checkpoint. The batches that follow depend on nothing else than the
/// number of steps, the settings and the data.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Steps done.
    #[serde(rename = "global_step")]
    pub steps: u64,
    /// Tokens of all responses so far.
    pub num_tokens: u64,
    /// Metrics since the last row.
    pub meter: Meter,
    /// Constraints on what the steps learn from beside their objective, once there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constraints: Option<Constraints>,
    /// The best score of an evaluation so far.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub best: Option<Best>,
}

/// A checkpoint's state, and what it belongs to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    /// State of the run.
    #[serde(flatten)]
    pub state: State,
    /// True if it is there only because the run was interrupted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub interrupted: bool,
    /// Epochs done.
    pub epoch: f64,
    /// Length of `metrics.jsonl`.
    pub metrics_bytes: u64,
    /// Hashes of what the run read.
    pub inputs: Identity,
    /// The settings, resolved.
    pub settings: Settings,
}

/// Names of what else the file has: the version of its format, the SHA-256 of the checkpoint's other
/// files, and that of the file itself without this field.
const FORMAT_FIELD: &str = "format";
const FILES: &str = "files";
const CHECKSUM: &str = "sha256";

impl Saved {
    /// Writes it to a checkpoint's folder, whose other files are there already.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let path = dir.join(STATE);
        let mut state = json(&path, serde_json::to_value(self))?;
        state[FORMAT_FIELD] = FORMAT.into();
        state[FILES] = json(&path, serde_json::to_value(checksums(dir)?))?;
        state[CHECKSUM] = checksum(&state).into();
        let text = json(&path, serde_json::to_string_pretty(&state))? + "\n";
        write_whole(&path, text.as_bytes())
    }

    /// Reads it from a checkpoint's folder.
    ///
    /// # Errors
    /// If it is missing or broken, is not as it was written, or of another version's format.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(STATE);
        let mut state: Value = file::json::read(&path, ANEW)?;
        let format = state.get(FORMAT_FIELD).and_then(Value::as_u64);
        known(&path, format.unwrap_or(FIRST_FORMAT))?;
        let written = state.get(CHECKSUM).cloned();
        if let Some(state) = state.as_object_mut() {
            state.remove(CHECKSUM);
        }
        if written != Some(checksum(&state).into()) {
            return Err(changed(&path));
        }
        let state = state.to_string();
        file::json::parse(&state, &path.display().to_string(), ANEW)
    }

    /// Looks whether every other file of the checkpoint is as it was written.
    ///
    /// # Errors
    /// The first one that is not, or is not there.
    pub fn sound(dir: &Path) -> Result<()> {
        let path = dir.join(STATE);
        let state: Value = file::json::read(&path, ANEW)?;
        let written = state.get(FILES).cloned().unwrap_or_default();
        let written: BTreeMap<String, String> = json(&path, serde_json::from_value(written))?;
        let found = checksums(dir)?;
        match (written.iter()).find(|(name, hash)| found.get(*name) != Some(hash)) {
            Some((name, _)) if found.contains_key(name) => Err(changed(&dir.join(name))),
            Some((name, _)) => Err(Error::invalid(
                dir.join(name).display().to_string(),
                "it is missing, and the checkpoint had it",
                OTHER,
            )),
            None => Ok(()),
        }
    }
}

/// What is right where a checkpoint cannot be used.
const OTHER: &str =
    "go on from another checkpoint (--resume DIR), or start the run anew with --overwrite";

fn changed(path: &Path) -> Error {
    let problem = "it is not as it was written: its SHA-256 is another";
    Error::invalid(path.display().to_string(), problem, OTHER)
}

fn checksum(state: &Value) -> String {
    hex(Sha256::new_with_prefix(canonical(state.clone())))
}

/// SHA-256 of every file in a folder and below but its state, all at once.
fn checksums(dir: &Path) -> Result<BTreeMap<String, String>> {
    fn below(dir: &Path, head: &str, found: &mut Vec<String>) -> Result<()> {
        for entry in fs::read_dir(dir).map_err(Error::io(dir, "read"))? {
            let entry = entry.map_err(Error::io(dir, "read"))?;
            let name = format!("{head}{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                below(&entry.path(), &format!("{name}/"), found)?;
            } else if name != STATE {
                found.push(name);
            }
        }
        Ok(())
    }
    let mut names = Vec::new();
    below(dir, "", &mut names)?;
    (names.into_par_iter())
        .map(|name| Ok((name.clone(), of_bytes(&dir.join(&name))?)))
        .collect()
}
