//! Rows of the sim `copr-continual`: accuracies task after task.

use std::collections::BTreeMap;
use std::path::Path;

use crate::observer::Observer;
use anyhow::Result;

use super::spread::Spread;
use super::table::{distinct, read, table};

table! {
    /// Accuracy on a task after another was learned, both from 0.
    pub struct Accuracy {
        method: String,
        seed: u64,
        after: u64,
        task: u64,
        accuracy: f64,
    }
}

table! {
    /// Metrics after the last task.
    pub struct Metric {
        method: String,
        seed: u64,
        average: f64,
        incremental: f64,
        transfer: Option<f64>,
        forgetting: Option<f64>,
    }
}

/// A method's matrix of mean accuracies, `[after][task]`, and the spreads of its metrics.
pub struct Kept {
    /// The method.
    pub method: String,
    /// Mean accuracy by (after, task).
    pub matrix: BTreeMap<(u64, u64), f64>,
    /// AA, AIA, BWT and FM after the last task.
    pub metrics: [Option<Spread>; 4],
}

/// The methods in the order of the file.
pub fn read_kept(dir: &Path, observer: &dyn Observer) -> Result<Vec<Kept>> {
    let cells: Vec<Accuracy> = read(&dir.join("rows.csv"), observer)?;
    let metrics: Vec<Metric> = read(&dir.join("metrics.csv"), observer)?;
    let methods = distinct(metrics.iter().map(|row| row.method.as_str()));
    let kept = methods.into_iter().map(|method| {
        let mut sums: BTreeMap<(u64, u64), Vec<f64>> = BTreeMap::new();
        for c in cells.iter().filter(|c| c.method == method) {
            sums.entry((c.after, c.task)).or_default().push(c.accuracy);
        }
        let of = |value: fn(&Metric) -> Option<f64>| {
            let rows = metrics.iter().filter(|m| m.method == method);
            Spread::of(rows.filter_map(value))
        };
        Kept {
            method: method.to_owned(),
            matrix: (sums.into_iter())
                .filter_map(|(at, values)| Some((at, Spread::of(values)?.mean)))
                .collect(),
            metrics: [
                of(|m| Some(m.average)),
                of(|m| Some(m.incremental)),
                of(|m| m.transfer),
                of(|m| m.forgetting),
            ],
        }
    });
    Ok(kept.collect())
}
