//! What a phase drew, and its file.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::running::Running;
use crate::error::{Error, Result};
use crate::file;
use crate::llm::files::hash::hex;
use crate::llm::model::sequence::Sequence;

/// Folder of the phases' files in a run's.
pub const FOLDER: &str = "rollouts";

/// A completion that the policy wrote.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// Its text, without EOS.
    pub text: String,
    /// Its tokens, EOS included where it ended.
    pub tokens: Vec<u32>,
    /// True if it ended with EOS; else it was cut.
    pub ended: bool,
    /// Its reward.
    pub score: f64,
    /// ln π_old
    pub old: f64,
    /// ln π_ref, if it is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<f64>,
    /// Numbers of its tokens, for objectives that take them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub each: Option<Each>,
    /// Its reward as the objective takes it: normalised, less penalties.
    #[serde(skip)]
    pub reward: f64,
    /// Advantages and returns of its tokens, where there is a critic.
    #[serde(skip)]
    pub estimated: Option<[Vec<f64>; 2]>,
}

/// Numbers of the tokens of a completion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Each {
    /// ln π_old
    pub old: Vec<f64>,
    /// ln π_ref; none where no reference is looked at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reference: Vec<f64>,
    /// V of the prefixes that they follow, where there is a critic.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub value: Vec<f64>,
}

impl Each {
    /// `ln π_old/π_ref` of each token; 0 without a reference.
    pub fn log_ratios(&self) -> impl Iterator<Item = f64> {
        let reference = self.reference.iter().copied();
        let own = self.old.iter().copied();
        // Without a reference every token is its own.
        let missing = self.old[self.reference.len().min(self.old.len())..].iter();
        own.zip(reference.chain(missing.copied()))
            .map(|(a, b)| a - b)
    }
}

/// The completions of a prompt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Which prompt, from 0.
    pub index: usize,
    /// Its text.
    pub prompt: String,
    /// Its completions.
    pub completions: Vec<Completion>,
    /// What somebody else wrote, where there is a second source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub demonstration: Option<Completion>,
    /// Of objectives of labelled pairs: which one of each [pair](Self::pairs) is the preferred one, 0 or 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preferred: Vec<u8>,
}

impl Row {
    /// All that was written to the prompt, the demonstration first.
    pub fn all(&self) -> impl Iterator<Item = &Completion> {
        self.demonstration.iter().chain(&self.completions)
    }

    /// The same, to be changed.
    pub fn all_mut(&mut self) -> impl Iterator<Item = &mut Completion> {
        self.demonstration.iter_mut().chain(&mut self.completions)
    }

    /// Its labelled pairs: completions 0 and 1, 2 and 3, …; with a demonstration, that and each completion.
    pub fn pairs(&self) -> Vec<[&Completion; 2]> {
        match &self.demonstration {
            Some(theirs) => self.completions.iter().map(|own| [theirs, own]).collect(),
            None => (self.completions.chunks_exact(2))
                .map(|pair| [&pair[0], &pair[1]])
                .collect(),
        }
    }

    /// A completion after its prompt.
    ///
    /// # Errors
    /// No tokens.
    pub fn sequence(prompt: &[u32], completion: &[u32]) -> Result<Sequence> {
        Sequence::new([prompt, completion].concat(), prompt.len())
    }
}

/// All that a phase drew.
#[derive(Debug, Clone, PartialEq)]
pub struct Phase {
    /// Its prompts and completions, without those that were left out.
    pub rows: Vec<Row>,
    /// Metrics of what was drawn.
    pub metrics: Vec<(String, f64)>,
    /// State of the rewards that it uses.
    pub running: Running,
    /// KL to the reference, in nats a completion, where it is stored.
    pub kl: Option<f64>,
}

/// First line of a phase's file.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Head {
    phase: u64,
    rows: usize,
    metrics: Vec<(String, f64)>,
    #[serde(default)]
    running: Running,
    #[serde(default)]
    kl: Option<f64>,
    /// SHA-256 of the lines that follow.
    sha256: String,
}

/// Path of a phase's file.
pub fn path(run: &Path, phase: u64) -> PathBuf {
    run.join(FOLDER).join(format!("phase-{phase:06}.jsonl"))
}

impl Phase {
    /// Writes it whole: a line of its own, then one a prompt.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, run: &Path, phase: u64) -> Result<()> {
        let path = path(run, phase);
        let line = |found: serde_json::Result<String>| {
            found
                .map(|line| line + "\n")
                .map_err(|e| broken(&path, e.to_string()))
        };
        let rows = (self.rows.iter()).map(|row| line(serde_json::to_string(row)));
        let rows: String = rows.collect::<Result<_>>()?;
        let head = Head {
            phase,
            rows: self.rows.len(),
            metrics: self.metrics.clone(),
            running: self.running,
            kl: self.kl,
            sha256: hex(Sha256::new_with_prefix(&rows)),
        };
        let text = line(serde_json::to_string(&head))? + &rows;
        let folder = run.join(FOLDER);
        std::fs::create_dir_all(&folder).map_err(Error::io(&folder, "create"))?;
        file::write_whole(&path, text.as_bytes())
    }

    /// Reads that of a phase, if it was drawn.
    ///
    /// # Errors
    /// A file that is not as it was written, or is another phase's.
    pub fn read(run: &Path, phase: u64) -> Result<Option<Self>> {
        let path = path(run, phase);
        if !path.exists() {
            return Ok(None);
        }
        let text = file::read(&path)?;
        let (head, rows) = text.split_once('\n').unwrap_or((&text, ""));
        let head: Head = serde_json::from_str(head).map_err(|e| broken(&path, e.to_string()))?;
        if head.phase != phase || head.sha256 != hex(Sha256::new_with_prefix(rows)) {
            return Err(broken(&path, "it is not as it was written".into()));
        }
        let rows = (rows.lines().map(serde_json::from_str))
            .collect::<serde_json::Result<Vec<Row>>>()
            .map_err(|e| broken(&path, e.to_string()))?;
        Ok(Some(Self {
            rows,
            metrics: head.metrics,
            running: head.running,
            kl: head.kl,
        }))
    }
}

fn broken(path: &Path, message: String) -> Error {
    Error::Format {
        origin: path.display().to_string(),
        message,
        remedy: "put it back as it was, or start the run anew with --overwrite".into(),
    }
}
