//! The folder of a run.
//!
//! ```text
//! config.toml            what runs the same again
//! manifest.json          what ran on what, and whether it is complete
//! metrics.jsonl          a row every so many steps
//! reference.safetensors  the reference's log-probabilities
//! checkpoint-N/          everything after N steps
//! model/                 the end
//! nan-batch.jsonl        the batch that the run stopped at
//! ```

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::claim::Claimed;
use super::failure;
use super::metrics::Row;
use crate::error::{Error, Result};
use crate::llm::checkpoint;

/// The settings, resolved.
pub const CONFIG: &str = "config.toml";
/// The rows.
pub const METRICS: &str = "metrics.jsonl";
/// Where the trained network is in the end.
pub const MODEL: &str = "model";
pub(super) const MANIFEST: &str = "manifest.json";
/// What a run writes besides its settings, its checkpoints and the reference's numbers.
pub(super) const FILES: [&str; 4] = [MANIFEST, METRICS, failure::FILE, MODEL];
pub(super) const LOCK: &str = ".lock";
/// Status of a run that is going on, or was interrupted.
pub const RUNNING: &str = "running";
/// Status of a run that came to its end.
pub const COMPLETE: &str = "complete";

/// What a run was, and how it ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Name of the objective.
    pub objective: String,
    /// How a response's number is made of its tokens'; none for scores.
    pub token_reduction: Option<super::TokenReduction>,
    /// Version of pistar.
    pub version: String,
    /// `running` (or interrupted), or `complete`.
    pub status: String,
    /// SHA-256 of the model's weights at the start.
    pub model: String,
    /// SHA-256 of the reference's weights, if there is a reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// SHA-256 of the data.
    pub data: String,
    /// Number of examples.
    pub examples: usize,
    /// Steps in all.
    pub steps: u64,
}

/// A run's folder.
pub struct Folder {
    claimed: Claimed,
    rows: File,
    bytes: u64,
    manifest: Manifest,
}

impl Folder {
    /// A claimed folder whose rows have that many bytes.
    pub(super) fn open(
        claimed: Claimed,
        rows: File,
        bytes: u64,
        manifest: Manifest,
    ) -> Result<Self> {
        let folder = Self {
            claimed,
            rows,
            bytes,
            manifest,
        };
        folder.write_manifest()?;
        Ok(folder)
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.claimed.dir
    }

    /// What the run is.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Adds a row.
    ///
    /// # Errors
    /// If the disk is full or gone.
    pub fn row(&mut self, row: &Row) -> Result<()> {
        let path = self.dir().join(METRICS);
        let line = json(&path, serde_json::to_string(row))? + "\n";
        let written = self.rows.write_all(line.as_bytes());
        match &written {
            Ok(()) => self.bytes += line.len() as u64,
            // No half of a row stays; the error that matters is the first one.
            Err(_) => drop(self.rows.set_len(self.bytes)),
        }
        written.map_err(Error::io(&path, "write to"))
    }

    /// Has the rows reach the disk; says how many bytes they are.
    ///
    /// # Errors
    /// If the disk is full or gone.
    pub fn sync(&self) -> Result<u64> {
        let path = self.dir().join(METRICS);
        self.rows.sync_all().map_err(Error::io(&path, "write to"))?;
        Ok(self.bytes)
    }

    /// Writes the batch that the run stopped at; says where it is.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn nan_batch(&self, lines: &str) -> Result<PathBuf> {
        let path = self.dir().join(failure::FILE);
        checkpoint::write_file(&path, lines.as_bytes())?;
        Ok(path)
    }

    /// Ends the run.
    ///
    /// # Errors
    /// If the manifest cannot be written.
    pub fn finish(mut self) -> Result<()> {
        self.manifest.status = COMPLETE.into();
        self.write_manifest()?;
        let unlocked = self.claimed.lock.unlock();
        unlocked.map_err(Error::io(self.dir().join(LOCK), "unlock"))
    }

    fn write_manifest(&self) -> Result<()> {
        let path = self.dir().join(MANIFEST);
        let text = json(&path, serde_json::to_string_pretty(&self.manifest))? + "\n";
        checkpoint::write_file(&path, text.as_bytes())
    }
}

pub(super) fn json<T>(path: &Path, result: serde_json::Result<T>) -> Result<T> {
    result.map_err(|e| Error::Format {
        origin: path.display().to_string(),
        message: e.to_string(),
        remedy: "start the run anew with --overwrite".into(),
    })
}
