//! The rows that `study bpo` leaves behind, and what is read from them.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;

use super::scores::Judged;
use super::spread::{self, Point};
use super::table::{read, table, unique};
use crate::observer::Observer;

table! {
    /// A judgement of a policy: means over one completion of each held-out prompt.
    pub struct Row {
        objective: String,
        /// `behaviour`, `initial`, `golden` or `ema:RATE`.
        reference: String,
        phases: u64,
        seed: u64,
        step: u64,
        /// Held-out prompts.
        prompts: u64,
        /// The rule's reward.
        reward: f64,
        /// `ln π/π₀` of the completion, in nats: an estimate of the KL divergence.
        kl: f64,
        /// Share of prompts whose completion has a greater reward than the initial model's; a tie is half a win.
        win: f64,
        /// Sum over the completion's tokens of the entropy of the next token, in nats.
        entropy: f64,
        tokens: f64,
    }
}

impl Judged for Row {
    fn run(&self) -> Option<(String, u64)> {
        let (objective, reference, phases) = (&self.objective, &self.reference, self.phases);
        Some((format!("{objective} {reference} F={phases}"), self.seed))
    }

    fn rank(&self) -> f64 {
        self.step as f64
    }

    fn score(&self) -> (f64, &'static str) {
        (self.reward, "reward")
    }
}

/// Reads `rows.csv` of a folder.
///
/// # Errors
/// A file that is missing or broken.
pub fn read_rows(dir: &Path, observer: &dyn Observer) -> Result<Vec<Row>> {
    read(&dir.join("rows.csv"), observer)
}

/// A reference and a number of phases.
pub type Setting = (String, u64);

/// The settings of an objective, in the order of the rows.
pub fn settings(rows: &[Row], objective: &str) -> Vec<Setting> {
    let own = rows.iter().filter(|r| r.objective == objective);
    unique(own.map(|row| (row.reference.clone(), row.phases)))
}

/// The objectives, in the order of the rows.
pub fn objectives(rows: &[Row]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for row in rows {
        if !found.contains(&row.objective) {
            found.push(row.objective.clone());
        }
    }
    found
}

/// The judgements of a setting by seed, in the order of steps.
pub fn paths<'a>(
    rows: &'a [Row],
    objective: &str,
    setting: &Setting,
) -> BTreeMap<u64, Vec<&'a Row>> {
    let mut found: BTreeMap<u64, Vec<&Row>> = BTreeMap::new();
    let wanted =
        |r: &&Row| r.objective == objective && r.reference == setting.0 && r.phases == setting.1;
    for row in rows.iter().filter(wanted) {
        found.entry(row.seed).or_default().push(row);
    }
    found
}

/// A number along training: means over seeds.
#[cfg_attr(not(feature = "plot"), allow(dead_code))] // Figures alone draw them.
pub fn curve(
    rows: &[Row],
    objective: &str,
    setting: &Setting,
    of: impl Fn(&Row) -> f64,
) -> Vec<Point> {
    let all = paths(rows, objective, setting).into_values().flatten();
    spread::curve(all.map(|row| (row.step as f64, of(row))))
}
