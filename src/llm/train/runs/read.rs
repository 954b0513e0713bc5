//! A run's folder, read while it may still be written.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::file;
use crate::llm::train::overlay::NUMBERS;
use crate::llm::train::{COMPLETE, CONFIG, LOCK, MANIFEST, METRICS, Manifest, Process, Settings};

/// Condition of a run: complete, running, interrupted or failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// All steps are done.
    Complete,
    /// A process trains it now.
    Running,
    /// It was stopped or killed; `--resume` goes on with it.
    Interrupted,
    /// It stopped because of this.
    Failed(String),
}

impl Condition {
    /// Name of the condition, in one word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Running => "running",
            Self::Interrupted => "interrupted",
            Self::Failed(_) => "failed",
        }
    }
}

/// The values of a metric, step by step.
pub type Metric = Vec<(u64, f64)>;

/// A run.
#[derive(Debug, Clone)]
pub struct Run {
    /// Its folder, as it was found.
    pub dir: PathBuf,
    /// Record of what it ran on.
    pub manifest: Manifest,
    /// Its settings, those of tables under `table.field`.
    pub settings: BTreeMap<String, toml::Value>,
    /// Condition of the run.
    pub condition: Condition,
    /// Steps done so far, as far as rows say.
    pub steps: u64,
    /// The metrics of its rows.
    pub metrics: BTreeMap<String, Metric>,
    /// Processes that trained it.
    pub processes: Vec<Process>,
}

/// The runs in these folders and below, each once, by the order of their names.
///
/// # Errors
/// A folder that is not there or cannot be read, or none with a run in it.
pub fn find(dirs: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for dir in dirs {
        below(dir, &mut found)?;
    }
    let mut seen = std::collections::BTreeSet::new();
    found.retain(|dir: &PathBuf| seen.insert(dir.canonicalize().unwrap_or_else(|_| dir.clone())));
    if found.is_empty() {
        let names: Vec<_> = dirs.iter().map(|d| d.display().to_string()).collect();
        return Err(Error::invalid(
            names.join(", "),
            "there is no run in it",
            format!("name a folder with the {CONFIG} and {MANIFEST} of a run in it or below"),
        ));
    }
    Ok(found)
}

fn below(dir: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    if dir.join(CONFIG).is_file() && dir.join(MANIFEST).is_file() {
        found.push(dir.into());
        return Ok(());
    }
    let mut inner = Vec::new();
    for entry in fs::read_dir(dir).map_err(Error::io(dir, "read"))? {
        let entry = entry.map_err(Error::io(dir, "read"))?;
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        // Links are not followed: they may lead in circles.
        if !hidden && entry.file_type().is_ok_and(|t| t.is_dir()) {
            inner.push(entry.path());
        }
    }
    inner.sort();
    inner.iter().try_for_each(|dir| below(dir, found))
}

impl Run {
    /// Reads a run. A row that is only half there is left out.
    ///
    /// # Errors
    /// Files that cannot be read, or are no run's.
    pub fn read(dir: &Path) -> Result<Self> {
        let text = |name: &str| {
            let path = dir.join(name);
            file::read(&path)
        };
        let broken = |name: &str, message: String| Error::Format {
            origin: dir.join(name).display().to_string(),
            message,
            remedy: "start the run anew with --overwrite, or remove its folder".into(),
        };
        let manifest: Manifest =
            file::json::from_str(&text(MANIFEST)?).map_err(|e| broken(MANIFEST, e.to_string()))?;
        // With the defaults of what an older version did not have.
        let origin = dir.join(CONFIG).display().to_string();
        let settings = Settings::parse(&text(CONFIG)?, &origin)?;
        let table = toml::Table::try_from(&settings).map_err(|e| broken(CONFIG, e.to_string()))?;
        let mut settings = BTreeMap::new();
        flatten("", &table, &mut settings);
        let rows = if dir.join(METRICS).exists() {
            text(METRICS)?
        } else {
            String::new()
        };
        let (steps, metrics) = metrics(&rows);
        let processes = Process::all(dir).unwrap_or_default();
        let failed = (processes.last().and_then(|p| p.outcome.as_deref()))
            .and_then(|outcome| outcome.strip_prefix("failed: "));
        let condition = match (manifest.status == COMPLETE, failed) {
            (true, _) => Condition::Complete,
            _ if locked(dir) => Condition::Running,
            (_, Some(why)) => Condition::Failed(why.into()),
            _ => Condition::Interrupted,
        };
        Ok(Self {
            dir: dir.into(),
            manifest,
            settings,
            condition,
            steps,
            metrics,
            processes,
        })
    }

    /// Tokens per second of training: the median over its rows.
    pub fn tokens_per_second(&self) -> Option<f64> {
        let rows = self.metrics.get("tokens_per_second")?;
        let mut rates: Vec<f64> = rows.iter().map(|(_, rate)| *rate).collect();
        rates.sort_by(f64::total_cmp);
        rates.get(rates.len() / 2).copied()
    }
}

fn flatten(head: &str, table: &toml::Table, into: &mut BTreeMap<String, toml::Value>) {
    for (name, value) in table {
        let name = format!("{head}{name}");
        match value {
            // A number of the objective goes by its own name.
            toml::Value::Table(inner) if name == NUMBERS => flatten("", inner, into),
            toml::Value::Table(inner) => flatten(&format!("{name}."), inner, into),
            other => drop(into.insert(name, other.clone())),
        }
    }
}

/// The last step of rows, and their numbers by name.
fn metrics(rows: &str) -> (u64, BTreeMap<String, Metric>) {
    let (mut steps, mut metrics) = (0, BTreeMap::<String, Metric>::new());
    for line in rows.lines() {
        let Ok(row) = serde_json::from_str::<Map<String, Value>>(line) else {
            continue;
        };
        let Some(step) = row.get("step").and_then(Value::as_u64) else {
            continue;
        };
        steps = steps.max(step);
        for (name, value) in &row {
            if let Some(value) = value.as_f64().filter(|_| name != "step") {
                let values = metrics.entry(name.clone()).or_default();
                // Evaluations have rows of their own, with what all rows have.
                match values.last_mut() {
                    Some(last) if last.0 == step => last.1 = value,
                    _ => values.push((step, value)),
                }
            }
        }
    }
    (steps, metrics)
}

/// Whether a process trains there: one that begins meanwhile looks again.
fn locked(dir: &Path) -> bool {
    match crate::file::open(&dir.join(LOCK)) {
        Ok(lock) => matches!(lock.try_lock_shared(), Err(fs::TryLockError::WouldBlock)),
        Err(_) => false,
    }
}
