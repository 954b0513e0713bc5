//! Experiments with a language model, one file each: minutes where a sim takes seconds.

pub mod copg;
pub mod dro;
mod report;
mod rule;
mod run;
mod tiny;
mod trial;
mod world;

use std::path::{Path, PathBuf};

use crate::observer::Observer;

/// What a user may change of a study.
pub struct Request<'a> {
    /// Hears how far it is.
    pub observer: &'a dyn Observer,
    /// Folder of the model that is the start and the reference; none: a tiny one is trained.
    pub model: Option<PathBuf>,
    /// What rewards a completion; none: the study's own rule.
    pub reward: Vec<String>,
    /// Files that a command among the rewards reads.
    pub depends: Vec<PathBuf>,
    /// Learning rate.
    pub lr: Option<f64>,
    /// Seeds of every setting in the sweep; the best ones have twice as many.
    pub seeds: Option<u64>,
    /// Prompts to train on.
    pub prompts: Option<usize>,
    /// Key of all random streams.
    pub key: u64,
    /// Worker threads, at least one: so many trials at once.
    pub threads: usize,
    /// Replace another study in the folder.
    pub overwrite: bool,
}

/// An experiment.
pub struct Study {
    /// Its name on the command line; its figure is `study-NAME`.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// Runs it into a folder, or the rest of it.
    pub run: fn(&Request, &Path) -> anyhow::Result<()>,
    /// What came out, from the folder's rows.
    pub report: fn(&Path, &dyn Observer) -> anyhow::Result<String>,
}

/// Every study.
pub const ALL: &[Study] = &[copg::STUDY, dro::STUDY];
