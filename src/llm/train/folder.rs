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

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::failure;
use super::metrics::Row;
use super::settings::Settings;
use crate::error::{Error, Result};
use crate::llm::checkpoint;

/// The settings, resolved.
pub const CONFIG: &str = "config.toml";
/// The rows.
pub const METRICS: &str = "metrics.jsonl";
/// Where the trained network is in the end.
pub const MODEL: &str = "model";
const MANIFEST: &str = "manifest.json";
const LOCK: &str = ".lock";
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

/// A folder that no other process writes to meanwhile.
pub struct Claimed {
    dir: PathBuf,
    /// Whether it was made, and nothing is in it yet.
    new: bool,
    /// Released by the system when the process ends, however it ends.
    lock: File,
}

impl Claimed {
    /// Claims a folder, made if it is not there.
    ///
    /// # Errors
    /// A folder that cannot be written, or that another process trains in.
    pub fn new(dir: &Path) -> Result<Self> {
        let new = !dir.exists();
        fs::create_dir_all(dir).map_err(Error::io(dir, "create"))?;
        let path = dir.join(LOCK);
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let mut lock = options.open(&path).map_err(Error::io(&path, "create"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let process = fs::read_to_string(&path).unwrap_or_default();
                return Err(Error::invalid(
                    dir.display().to_string(),
                    format!("process {} is training there", process.trim()),
                    "wait for its end, or choose another --out",
                ));
            }
            Err(TryLockError::Error(e)) => return Err(Error::io(&path, "lock")(e)),
        }
        (lock.set_len(0))
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .map_err(Error::io(&path, "write to"))?;
        checkpoint::clean(dir)?;
        Ok(Self {
            dir: dir.into(),
            new,
            lock,
        })
    }

    /// The settings of the run that was begun in it, if one was.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn settings(&self) -> Result<Option<Settings>> {
        let path = self.dir.join(CONFIG);
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read_to_string(&path).map_err(Error::io(&path, "read"))?;
        Settings::parse(&text, &path.display().to_string()).map(Some)
    }

    /// The manifest of the run that was begun in it.
    ///
    /// # Errors
    /// If it is missing or broken.
    pub fn manifest(&self) -> Result<Manifest> {
        let path = self.dir.join(MANIFEST);
        let text = fs::read_to_string(&path).map_err(Error::io(&path, "read"))?;
        json(&path, serde_json::from_str(&text))
    }

    /// Removes that run, but for the reference's numbers, which say what they are of.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn clear(&self) -> Result<()> {
        checkpoint::prune(&self.dir, 0)?;
        for name in [CONFIG, MANIFEST, METRICS, failure::FILE, MODEL] {
            checkpoint::discard(&self.dir.join(name))?;
        }
        Ok(())
    }

    /// Begins a run, or goes on with one whose rows had that many bytes at the checkpoint: later
    /// ones are forgotten.
    ///
    /// # Errors
    /// Rows of fewer bytes, or files that cannot be written.
    pub fn go_on(mut self, settings: &Settings, manifest: Manifest, bytes: u64) -> Result<Folder> {
        let path = self.dir.join(METRICS);
        let mut options = OpenOptions::new();
        let options = options.append(true).create(true);
        self.new = false;
        let rows = options.open(&path).map_err(Error::io(&path, "create"))?;
        let length = rows.metadata().map_err(Error::io(&path, "read"))?.len();
        if length < bytes {
            return Err(Error::invalid(
                path.display().to_string(),
                format!("it has {length} bytes, and had {bytes} at the checkpoint"),
                "put the rows back, or start the run anew with --overwrite",
            ));
        }
        rows.set_len(bytes).map_err(Error::io(&path, "write to"))?;
        let folder = Folder {
            claimed: self,
            rows,
            bytes,
            manifest,
        };
        folder.write_manifest()?;
        let path = folder.dir().join(CONFIG);
        checkpoint::write_file(&path, settings.to_toml()?.as_bytes())?;
        Ok(folder)
    }
}

/// A folder that was made for a run that did not begin goes again.
impl Drop for Claimed {
    fn drop(&mut self) {
        if self.new {
            // If anything else is in it by now, it stays.
            let _ = fs::remove_file(self.dir.join(LOCK));
            let _ = fs::remove_dir(&self.dir);
        }
    }
}

/// A run's folder.
pub struct Folder {
    claimed: Claimed,
    rows: File,
    bytes: u64,
    manifest: Manifest,
}

impl Folder {
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
