//! The experiments, one file each: what to run, top to bottom, on the library's public face.

pub mod am_calibration;
pub mod am_hacking;
pub mod bpo_phases;
pub mod copg_toy;
pub mod copr_bound;
pub mod copr_continual;
pub mod coverage;
pub mod dro_value_error;
pub mod ipo_bias;
pub mod limits;
pub mod report;
pub mod reward_noise;
pub mod run;
#[cfg(feature = "llm")]
pub mod study;
pub mod transformers;

use std::path::Path;

use crate::bandit::Problem;
use crate::loss::Objective;
use crate::observer::Observer;

/// Policy that a sim trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Policy {
    /// A table with a logit of every arm
    #[default]
    Tabular,
    /// A small transformer whose every response is an arm
    Transformer,
}

/// Options of a sim.
#[derive(Default)]
pub struct Request<'a> {
    /// Hears how far it is.
    pub observer: &'a dyn Observer,
    /// What is trained.
    pub policy: Policy,
    /// Another bandit than the sim's own.
    pub problem: Option<Problem>,
    /// Other objectives.
    pub objectives: Option<Vec<Objective>>,
    /// Other learning rates, one run each.
    pub lr: Option<Vec<f64>>,
    /// Plain SGD instead of Adam.
    pub sgd: bool,
    /// Number of seeds.
    pub seeds: Option<usize>,
    /// Seed of the random streams (files call it the key).
    pub key: u64,
    /// Passes over the data.
    pub epochs: Option<usize>,
    /// Pairs in each seed's dataset.
    pub samples: Option<usize>,
    /// Pairs in a minibatch.
    pub batch: Option<usize>,
    /// Drop the last, smaller minibatch.
    pub drop_last: bool,
    /// Clusters of prompts that rehearsal keeps examples of.
    pub clusters: Option<usize>,
    /// Examples kept in each.
    pub kept: Option<usize>,
    /// Weight of the rehearsal.
    pub gamma: Option<f64>,
    /// Orders in which the tasks of a sequence are learned.
    pub orders: Option<usize>,
    /// Share of the old examples that is replayed.
    pub replay: Option<f64>,
    /// α, the rate of multipliers.
    pub alpha: Option<f64>,
    /// β of every method that has one.
    pub beta: Option<f64>,
    /// Tune the settings of its methods and run nothing else.
    pub tune: bool,
    /// Worker threads.
    pub threads: usize,
    /// Replace the rows of another run in the same folder.
    pub overwrite: bool,
}

impl Request<'_> {
    /// Refuses options that a sim would ignore; `takes` names those it has, without dashes.
    ///
    /// # Errors
    /// An option was given that the sim has no use for.
    pub fn takes(&self, sim: &str, takes: &[&str]) -> anyhow::Result<()> {
        let given = [
            ("policy", self.policy != Policy::Tabular),
            ("problem", self.problem.is_some()),
            ("objective", self.objectives.is_some()),
            ("lr", self.lr.is_some()),
            ("sgd", self.sgd),
            ("seeds", self.seeds.is_some()),
            ("epochs", self.epochs.is_some()),
            ("samples", self.samples.is_some()),
            ("batch", self.batch.is_some()),
            ("drop-last", self.drop_last),
            ("clusters", self.clusters.is_some()),
            ("kept", self.kept.is_some()),
            ("gamma", self.gamma.is_some()),
            ("orders", self.orders.is_some()),
            ("replay", self.replay.is_some()),
            ("alpha", self.alpha.is_some()),
            ("beta", self.beta.is_some()),
            ("tune", self.tune),
        ];
        match given
            .iter()
            .find(|(name, set)| *set && !takes.contains(name))
        {
            None => Ok(()),
            Some((name, _)) => anyhow::bail!(
                "--{name}: the sim {sim} has no such option; it takes {}",
                if takes.is_empty() {
                    "only --seed, --out, --overwrite, --no-figure and --threads".into()
                } else {
                    takes
                        .iter()
                        .map(|t| format!("--{t}"))
                        .collect::<Vec<_>>()
                        .join(", ")
                }
            ),
        }
    }
}

/// An experiment.
pub struct Sim {
    /// Its name on the command line; its figure has the same.
    pub name: &'static str,
    /// The claim it is about, and where that stands.
    pub about: &'static str,
    /// Runs it into a folder.
    pub run: fn(&Request, &Path) -> anyhow::Result<()>,
    /// A section of the report, from the folder's rows.
    pub report: fn(&Path, &dyn Observer) -> anyhow::Result<String>,
}

/// Every sim, in the order of the report.
pub const ALL: &[Sim] = &[
    copg_toy::SIM,
    ipo_bias::SIM,
    coverage::SIM,
    reward_noise::SIM,
    dro_value_error::SIM,
    copr_bound::SIM,
    copr_continual::SIM,
    bpo_phases::SIM,
    am_calibration::SIM,
    am_hacking::SIM,
];
