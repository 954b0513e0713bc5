//! The rows that a study leaves behind, and what is read from them.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;

use super::scores::Judged;
use super::spread::{Point, Spread};
use super::table::{read, table};
use crate::observer::Observer;

table! {
    /// A judgement of a policy: means over one completion of each held-out prompt.
    pub struct Row {
        /// `sweep` or `best`.
        part: String,
        objective: String,
        beta: f64,
        seed: u64,
        step: u64,
        /// Held-out prompts.
        prompts: u64,
        /// The rule's reward.
        reward: f64,
        /// `ln π/π_ref` of the completion, in nats: an estimate of the KL divergence.
        kl: f64,
        /// Sum over the completion's tokens of the entropy of the next token, in nats.
        entropy: f64,
        tokens: f64,
    }
}

impl Judged for Row {
    fn run(&self) -> Option<(String, u64)> {
        // The β that the sweep chose, on new seeds.
        (self.part == "best").then(|| (self.objective.clone(), self.seed))
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

/// Rewards along training: of each β of an objective, in ascending order.
pub fn curves(rows: &[Row], part: &str, objective: &str) -> Vec<(f64, Vec<Point>)> {
    let mut values: BTreeMap<u64, BTreeMap<u64, Vec<f64>>> = BTreeMap::new();
    for row in of(rows, part, objective) {
        // Positive numbers have the order of their bits.
        let steps = values.entry(row.beta.to_bits()).or_default();
        steps.entry(row.step).or_default().push(row.reward);
    }
    (values.into_iter())
        .map(|(beta, steps)| {
            let steps = steps.into_iter();
            let points = steps.filter_map(|(step, rewards)| point(step as f64, &rewards));
            (f64::from_bits(beta), points.collect())
        })
        .collect()
}

/// Rewards at the end of training against β.
pub fn rates(rows: &[Row], part: &str, objective: &str) -> Vec<Point> {
    let ends = curves(rows, part, objective).into_iter();
    ends.filter_map(|(beta, points)| points.last().map(|&(_, mean, half)| (beta, mean, half)))
        .collect()
}

/// KL and reward of every judgement of an objective's trials, means over seeds.
#[cfg_attr(not(feature = "plot"), allow(dead_code))] // Figures alone draw them.
pub fn fronts(rows: &[Row], part: &str, objective: &str) -> Vec<(f64, f64)> {
    let mut values: BTreeMap<(u64, u64), Vec<(f64, f64)>> = BTreeMap::new();
    for row in of(rows, part, objective) {
        let at = (row.beta.to_bits(), row.step);
        values.entry(at).or_default().push((row.kl, row.reward));
    }
    let mean = |pairs: Vec<(f64, f64)>| {
        let n = pairs.len() as f64;
        let sum = pairs.iter().fold((0.0, 0.0), |s, p| (s.0 + p.0, s.1 + p.1));
        (sum.0 / n, sum.1 / n)
    };
    values.into_values().map(mean).collect()
}

fn of<'a>(rows: &'a [Row], part: &'a str, objective: &'a str) -> impl Iterator<Item = &'a Row> {
    rows.iter()
        .filter(move |r| r.part == part && r.objective == objective)
}

fn point(x: f64, values: &[f64]) -> Option<Point> {
    let spread = Spread::of(values.iter().copied())?;
    Some((x, spread.mean, spread.half()))
}
