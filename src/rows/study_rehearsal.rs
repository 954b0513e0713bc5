//! The rows that `study rehearsal` leaves behind, and what is read from them.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;

use super::scores::Judged;
use super::spread::{self, Point};
use super::table::{read, table, unique};
use crate::observer::Observer;

/// File of the scorers' rows.
pub const SCORERS: &str = "scorers.csv";

table! {
    /// A judgement of a policy on one set of held-out prompts, one completion of each.
    pub struct Row {
        /// One of [`METHODS`].
        method: String,
        /// Clusters that rehearsed examples were chosen from; 0 where nothing is rehearsed.
        clusters: u64,
        /// γ, the weight of rehearsal.
        gamma: f64,
        seed: u64,
        /// Completions that the policy had written to learn from.
        written: u64,
        /// `main`, `forget`, or `main: WORD` of one class of the former.
        set: String,
        /// Held-out prompts.
        prompts: u64,
        /// Share of prompts whose completion has a greater reward than the initial policy's; the rest but for the losses
        /// are ties.
        win: f64,
        /// Share of prompts whose completion has a smaller one.
        lose: f64,
        /// The rule's reward: the forget set has a rule of its own.
        reward: f64,
        /// Of the scorer that the policy learns from, without offsets; none on the forget set.
        score: Option<f64>,
        /// `ln π/π_init` of the completion, in nats: an estimate of the KL divergence.
        kl: f64,
        /// `−ln π` of a token of the seed's rehearsal set of [`DEFAULT_CLUSTERS`] clusters, whether it is rehearsed or
        /// not, in nats.
        nll: f64,
        tokens: f64,
    }
}

table! {
    /// A scorer on pairs of held-out prompts of one class, or of all.
    pub struct ScorerRow {
        /// `reward model` or `advantage model`.
        scorer: String,
        seed: u64,
        /// The word that the class's prompts begin with, or [`ALL`](ScorerRow::ALL).
        class: String,
        pairs: u64,
        /// Share of pairs that are ranked as labelled.
        accuracy: f64,
        /// Expected calibration error.
        ece: f64,
        /// Mean score.
        mean: f64,
        /// Standard deviation of the scores.
        sd: f64,
        /// Share of scores beyond ±m.
        beyond: f64,
    }
}

impl ScorerRow {
    /// All classes.
    pub const ALL: &str = "all";
}

/// The set of all trained classes' held-out prompts.
pub const MAIN: &str = "main";
/// The set of the class that is not trained on.
pub const FORGET: &str = "forget";
/// Clusters, unless they are varied.
pub const DEFAULT_CLUSTERS: u64 = 4;

/// PPO on a reward model's scores.
pub const RM: &str = "RM-PPO";
/// The same with each class's offset added.
pub const RM_OFFSETS: &str = "RM-PPO, offsets";
/// The same as [`RM`], scores less their moving average and over their moving deviation.
pub const RM_MA: &str = "RM-PPO w/ MA";
/// PPO on an Advantage Model's scores.
pub const AM: &str = "AM-PPO";
/// The same with selective rehearsal.
pub const SR: &str = "AM-PPO-SR";
/// Rejection sampling: likelihood of the best of several by the reward model.
pub const REJECTION: &str = "rejection sampling";

/// All methods, in the order of tables.
pub const METHODS: [&str; 6] = [RM, RM_MA, RM_OFFSETS, AM, SR, REJECTION];

impl Judged for Row {
    fn run(&self) -> Option<(String, u64)> {
        let Self {
            method, clusters, ..
        } = self;
        let name = match clusters {
            0 => method.clone(),
            _ => format!("{method} c={clusters} γ={}", self.gamma),
        };
        (self.set == MAIN).then_some((name, self.seed))
    }

    fn rank(&self) -> f64 {
        self.written as f64
    }

    fn score(&self) -> (f64, &'static str) {
        (self.win - self.lose, "wins less losses on the main set")
    }
}

/// Reads `rows.csv` and the scorers' of a folder.
///
/// # Errors
/// Files that are missing or broken.
pub fn read_rows(dir: &Path, observer: &dyn Observer) -> Result<(Vec<Row>, Vec<ScorerRow>)> {
    let rows = read(&dir.join("rows.csv"), observer)?;
    Ok((rows, read(&dir.join(SCORERS), observer)?))
}

/// A method with its clusters, 0 where nothing is rehearsed, and γ.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Setting {
    /// See [`Row`].
    pub method: String,
    /// See [`Row`].
    pub clusters: u64,
    /// See [`Row`].
    pub gamma: f64,
}

impl Row {
    /// The setting that was judged.
    pub fn setting(&self) -> Setting {
        Setting {
            method: self.method.clone(),
            clusters: self.clusters,
            gamma: self.gamma,
        }
    }
}

/// The settings, in the order of the rows.
pub fn settings(rows: &[Row]) -> Vec<Setting> {
    unique(rows.iter().map(Row::setting))
}

/// The judgements of a setting on a set by seed, in the order in which they were made.
pub fn paths<'a>(rows: &'a [Row], setting: &Setting, set: &str) -> BTreeMap<u64, Vec<&'a Row>> {
    let mut found: BTreeMap<u64, Vec<&Row>> = BTreeMap::new();
    let of = |row: &&Row| row.set == set && row.setting() == *setting;
    for row in rows.iter().filter(of) {
        found.entry(row.seed).or_default().push(row);
    }
    found
}

/// A number along training: means over seeds.
#[cfg_attr(not(feature = "plot"), allow(dead_code))] // Figures alone draw them.
pub fn curve(rows: &[Row], setting: &Setting, set: &str, of: impl Fn(&Row) -> f64) -> Vec<Point> {
    let all = paths(rows, setting, set).into_values().flatten();
    spread::curve(all.map(|row| (row.written as f64, of(row))))
}

/// The setting of a method that it is compared by: of several the first.
pub fn default_of(rows: &[Row], method: &str) -> Option<Setting> {
    settings(rows).into_iter().find(|s| s.method == method)
}

/// The settings of selective rehearsal that differ from its default in the number of clusters alone, and that, in
/// ascending order.
pub fn swept(rows: &[Row]) -> Vec<Setting> {
    let Some(own) = default_of(rows, SR) else {
        return Vec::new();
    };
    let all = settings(rows).into_iter();
    let mut found: Vec<Setting> =
        (all.filter(|s| s.method == SR && s.gamma == own.gamma)).collect();
    found.sort_by_key(|s| s.clusters);
    found
}
