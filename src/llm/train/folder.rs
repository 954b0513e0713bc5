//! The folder of a run.
//!
//! ```text
//! config.toml            what runs the same again
//! manifest.json          what ran on what, and whether it is complete
//! machine.json           where and when, process by process
//! metrics.jsonl          a row every so many steps
//! events.out.tfevents.0  the same for TensorBoard
//! reference.safetensors  the reference's log-probabilities
//! evaluations/           what it wrote at evaluations, if it did
//! rollouts/              what the policy wrote, phase by phase, if it did
//! checkpoint-N/          everything after N steps
//! model/                 the end
//! nan-batch.jsonl        the batch that the run stopped at
//! ```

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::checkpoints::Best;
use super::events::{EVENTS, Events};
use super::failure;
use super::inputs::Inputs;
use super::lock::Claimed;
use super::machine::{MACHINE, Record};
use super::metrics::MetricsRow;
use super::{generation, rollouts};
use crate::error::{Error, Result};
use crate::file;
use crate::llm::model::identity::Identity;

pub use crate::llm::model::model_folder::{RUN_CONFIG as CONFIG, RUN_MODEL as MODEL};
/// The rows.
pub const METRICS: &str = "metrics.jsonl";
/// Name of the file that records a run: objective, version, hashes of its inputs.
pub const MANIFEST: &str = "manifest.json";
/// What a run writes besides its settings, its checkpoints and the reference's numbers.
pub(super) const FILES: [&str; 8] = [
    MANIFEST,
    MACHINE,
    METRICS,
    EVENTS,
    failure::FILE,
    MODEL,
    rollouts::FOLDER,
    generation::FOLDER,
];
/// Which of them are folders.
pub(super) const FOLDERS: [&str; 3] = [MODEL, rollouts::FOLDER, generation::FOLDER];
/// Locked by the process that trains in the folder.
pub const LOCK: &str = ".lock";
/// Status of a run that is going on, or was interrupted.
pub const RUNNING: &str = "running";
/// Status of a run that came to its end.
pub const COMPLETE: &str = "complete";

/// Version of the format of a run's folder. The first, of pistar 0.1, has no hash of what the model's
/// configuration, tokenizer and reference were.
pub(super) const FORMAT: u64 = 2;
pub(super) const FIRST_FORMAT: u64 = 1;

fn first_format() -> u64 {
    FIRST_FORMAT
}

/// Refuses to go on with a run of another format.
pub(super) fn known(path: &Path, format: u64) -> Result<()> {
    let problem = match format {
        FORMAT => return Ok(()),
        FIRST_FORMAT => {
            "pistar 0.1 wrote it (format 1), which did not keep all that the run depends on".into()
        }
        _ => format!("it has format {format}, and this version writes {FORMAT}"),
    };
    let remedy = "let the version that wrote it end the run, or start another in another --out; \
                  `pistar runs` reads it";
    Err(Error::invalid(path.display().to_string(), problem, remedy))
}

/// Record of a run: objective, version, hashes of its inputs, and how it ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Name of the objective.
    pub objective: String,
    /// Reduction of the token log-probabilities of a response; none for scores.
    pub token_reduction: Option<super::TokenReduction>,
    /// Version of pistar.
    pub version: String,
    /// Version of the folder's format.
    #[serde(default = "first_format")]
    pub format: u64,
    /// Seed of all random streams.
    #[serde(default)]
    pub seed: u64,
    /// `running` (or interrupted), or `complete`.
    pub status: String,
    /// Hashes of what the run reads; none in folders of the first format.
    #[serde(default)]
    pub inputs: Identity,
    /// Number of examples that are trained on.
    pub examples: usize,
    /// Number of examples that are evaluated on, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval_examples: Option<usize>,
    /// Steps in all.
    pub steps: u64,
    /// The best score of an evaluation, by `keep_best`: its checkpoint is there. Told at the end.
    #[serde(default, flatten, skip_serializing_if = "Option::is_none")]
    pub best: Option<Best>,
}

impl Manifest {
    /// Refuses to take the run in a folder for one of those inputs if it is another.
    ///
    /// # Errors
    /// Another version's format; what differs, by name.
    pub(super) fn holds(&self, dir: &Path, inputs: &Inputs) -> Result<()> {
        known(&dir.join(MANIFEST), self.format)?;
        inputs.same(&self.inputs)
    }

    /// That of a run's folder, if it has one.
    pub(super) fn of(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(MANIFEST);
        (path.exists())
            .then(|| file::json::read(&path, ANEW))
            .transpose()
    }
}

/// A run's folder.
pub struct Folder {
    claimed: Claimed,
    rows: File,
    bytes: u64,
    events: Events,
    record: Record,
    manifest: Manifest,
}

impl Folder {
    /// A claimed folder whose rows have that many bytes.
    pub(super) fn open(
        claimed: Claimed,
        rows: File,
        bytes: u64,
        events: Events,
        record: Record,
        manifest: Manifest,
    ) -> Result<Self> {
        let folder = Self {
            claimed,
            rows,
            bytes,
            events,
            record,
            manifest,
        };
        folder.write_manifest()?;
        Ok(folder)
    }

    /// Path of the folder.
    pub fn dir(&self) -> &Path {
        &self.claimed.dir
    }

    /// An error unless it is where it was, as everything that is written there asks first.
    ///
    /// # Errors
    /// It has gone, or another stands in its place.
    pub fn still(&self) -> Result<()> {
        self.claimed.still()
    }

    /// The run's manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Adds a row.
    ///
    /// # Errors
    /// If the disk is full or gone.
    pub fn row(&mut self, row: &MetricsRow) -> Result<()> {
        self.still()?;
        let path = self.dir().join(METRICS);
        let line = json(&path, serde_json::to_string(row))? + "\n";
        let written = self.rows.write_all(line.as_bytes());
        match &written {
            Ok(()) => self.bytes += line.len() as u64,
            // No half of a row stays; the error that matters is the first one.
            Err(_) => drop(self.rows.set_len(self.bytes)),
        }
        written.map_err(Error::io(&path, "write to"))?;
        self.events.row(row)
    }

    /// Has the rows reach the disk; says how many bytes they are.
    ///
    /// # Errors
    /// If the disk is full or gone.
    pub fn sync(&self) -> Result<u64> {
        self.still()?;
        let path = self.dir().join(METRICS);
        self.rows.sync_all().map_err(Error::io(&path, "write to"))?;
        self.events.sync()?;
        Ok(self.bytes)
    }

    /// Writes the batch that the run stopped at; says where it is.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn nan_batch(&self, lines: &str) -> Result<PathBuf> {
        self.still()?;
        let path = self.dir().join(failure::FILE);
        crate::file::write_whole(&path, lines.as_bytes())?;
        Ok(path)
    }

    /// Ends the run.
    ///
    /// # Errors
    /// If the manifest cannot be written.
    pub fn finish(&mut self, best: Option<Best>) -> Result<()> {
        self.manifest.status = COMPLETE.into();
        self.manifest.best = best;
        self.write_manifest()
    }

    /// Lets go of the folder, and says how this process ended.
    ///
    /// # Errors
    /// If that cannot be written.
    pub(super) fn close(mut self, outcome: &str) -> Result<()> {
        let recorded = self.still().and_then(|()| self.record.end(outcome));
        let unlocked = self.claimed.lock.unlock();
        recorded?;
        unlocked.map_err(Error::io(self.dir().join(LOCK), "unlock"))
    }

    fn write_manifest(&self) -> Result<()> {
        self.still()?;
        let path = self.dir().join(MANIFEST);
        let text = json(&path, serde_json::to_string_pretty(&self.manifest))? + "\n";
        crate::file::write_whole(&path, text.as_bytes())
    }
}

/// What is right where a file of the run cannot be read.
pub(super) const ANEW: &str = "start the run anew with --overwrite";

pub(super) fn json<T>(path: &Path, result: serde_json::Result<T>) -> Result<T> {
    result.map_err(|e| Error::Format {
        origin: path.display().to_string(),
        message: e.to_string(),
        remedy: ANEW.into(),
    })
}
