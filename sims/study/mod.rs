//! Experiments with a language model, one file each: minutes where a sim takes seconds.

pub mod ablations;
pub mod bpo;
mod classes;
pub mod copg;
pub mod copr;
pub mod dro;
mod judge;
pub mod rehearsal;
mod report;
mod rule;
mod run;
mod tiny;
mod trial;
mod world;

use std::path::{Path, PathBuf};

use crate::observer::Observer;

/// Options of a study.
pub struct Request<'a> {
    /// Hears how far it is.
    pub observer: &'a dyn Observer,
    /// Folder of the model that is the start and the reference; none: a tiny one is trained.
    pub model: Option<PathBuf>,
    /// Reward of a completion; none: the study's own rule.
    pub reward: Vec<String>,
    /// Files that a command among the rewards reads.
    pub depends: Vec<PathBuf>,
    /// Learning rate.
    pub lr: Option<f64>,
    /// Seeds of every setting in the sweep; the best ones have twice as many.
    pub seeds: Option<u64>,
    /// More settings, where a study has them.
    pub full: bool,
    /// Prompts to train on.
    pub prompts: Option<usize>,
    /// Seed of all random streams (files call it the key).
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
    /// Its subject.
    pub about: &'static str,
    /// Runs it into a folder, or the rest of it.
    pub run: fn(&Request, &Path) -> anyhow::Result<()>,
    /// Report on the results, from the folder's rows.
    pub report: fn(&Path, &dyn Observer) -> anyhow::Result<String>,
    /// Its ablations, a study of their own, where it has some.
    pub ablations: Option<&'static Study>,
    /// Whether it has more settings.
    pub full: bool,
}

/// Every study.
pub const ALL: &[Study] = &[
    bpo::STUDY,
    copg::STUDY,
    copr::STUDY,
    dro::STUDY,
    rehearsal::STUDY,
];
