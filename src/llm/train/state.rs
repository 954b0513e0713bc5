//! How far a run is, and the checkpoints that say so.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::folder::{ANEW, json};
use super::keeping::Best;
use super::metrics::Meter;
use super::settings::Settings;
use crate::error::{Error, Result};
use crate::file;
use crate::llm::checkpoint::{STATE, write_file};

/// How far a run is: `trainer_state.json` of a checkpoint. The batches that follow depend on
/// nothing else than the number of steps, the settings and the data.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Steps done.
    #[serde(rename = "global_step")]
    pub steps: u64,
    /// Tokens of all responses so far.
    pub num_tokens: u64,
    /// Metrics since the last row.
    pub meter: Meter,
    /// The best score of an evaluation so far.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub best: Option<Best>,
}

/// A checkpoint's state, and what it belongs to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    /// How far the run was.
    #[serde(flatten)]
    pub state: State,
    /// Whether it is there only because the run was interrupted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub interrupted: bool,
    /// Epochs done.
    pub epoch: f64,
    /// Length of `metrics.jsonl`.
    pub metrics_bytes: u64,
    /// SHA-256 of the data.
    pub data: String,
    /// SHA-256 of the data of the evaluation, if it has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval_data: Option<String>,
    /// SHA-256 of the prompts of the evaluation, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval_prompts: Option<String>,
    /// SHA-256 of the weights that the run began with.
    pub model: String,
    /// The settings, resolved.
    pub settings: Settings,
}

impl Saved {
    /// Writes it to a checkpoint's folder.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let path = dir.join(STATE);
        let text = json(&path, serde_json::to_string_pretty(self))? + "\n";
        write_file(&path, text.as_bytes())
    }

    /// Reads it from a checkpoint's folder.
    ///
    /// # Errors
    /// If it is missing or broken.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(STATE);
        file::json::read(&path, ANEW)
    }

    /// Refuses to go on with other data or another model.
    ///
    /// # Errors
    /// Data or weights that are not those of the checkpoint, or other settings.
    pub fn same(
        &self,
        settings: &Settings,
        data: &str,
        [eval_data, eval_prompts]: [Option<&str>; 2],
        model: &str,
    ) -> Result<()> {
        settings.same(&self.settings)?;
        for (place, old, new) in [
            ("data", Some(self.data.as_str()), Some(data)),
            ("eval_data", self.eval_data.as_deref(), eval_data),
            ("eval_prompts", self.eval_prompts.as_deref(), eval_prompts),
            ("model", Some(self.model.as_str()), Some(model)),
        ] {
            if old != new {
                let [old, new] = [old, new].map(|hash| hash.unwrap_or("none"));
                return Err(Error::invalid(
                    place,
                    format!("its SHA-256 was {old} when the run was started and is {new}"),
                    "put the old one back, or start a new run in another --out",
                ));
            }
        }
        Ok(())
    }
}
