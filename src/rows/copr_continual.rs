//! Rows of the sim `copr-continual`: accuracies task after task.

use std::collections::BTreeMap;
use std::path::Path;

use crate::observer::Observer;
use anyhow::Result;

use super::spread::Spread;
use super::table::{distinct, read, table};

table! {
    /// Accuracy on a task after another was learned, both from 0 in the order in which they are.
    pub struct Accuracy {
        method: String,
        seed: u64,
        order: u64,
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
        order: u64,
        average: f64,
        incremental: f64,
        transfer: Option<f64>,
        forgetting: Option<f64>,
        rewards: f64,
    }
}

table! {
    /// A trial of a method's settings: AA after the last task, mean and half of the 95 % interval; none where
    /// parameters ran away.
    pub struct Trial {
        method: String,
        point: u64,
        settings: String,
        average: Option<f64>,
        half: Option<f64>,
    }
}

/// A method's matrix of mean accuracies, `[after][task]`, and the spreads of its metrics.
pub struct Kept {
    /// The method.
    pub method: String,
    /// Mean accuracy by (after, task).
    pub matrix: BTreeMap<(u64, u64), f64>,
    /// AA, AIA, BWT, FM and AA by reward after the last task, over sequences.
    pub metrics: [Option<Spread>; 5],
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
            Spread::of(by_sequence(rows, value).into_values())
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
                of(|m| Some(m.rewards)),
            ],
        }
    });
    Ok(kept.collect())
}

/// The mean over a sequence's orders, by sequence.
fn by_sequence<'a>(
    rows: impl Iterator<Item = &'a Metric>,
    value: fn(&Metric) -> Option<f64>,
) -> BTreeMap<u64, f64> {
    let mut each: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for row in rows {
        each.entry(row.seed).or_default().extend(value(row));
    }
    (each.into_iter())
        .filter_map(|(seed, values)| Some((seed, Spread::of(values)?.mean)))
        .collect()
}

/// Of every other method the AA, the FM and the AA by reward less those of `than` on the same sequence, over sequences.
pub fn gaps(dir: &Path, than: &str, observer: &dyn Observer) -> Result<Vec<(String, [Spread; 3])>> {
    let metrics: Vec<Metric> = read(&dir.join("metrics.csv"), observer)?;
    let of = |method: &str, value: fn(&Metric) -> Option<f64>| {
        by_sequence(metrics.iter().filter(|m| m.method == method), value)
    };
    let methods = distinct(metrics.iter().map(|row| row.method.as_str()));
    let others = methods.into_iter().filter(|method| *method != than);
    let gap = |method: &str| -> Option<[Spread; 3]> {
        let each: [fn(&Metric) -> Option<f64>; 3] =
            [|m| Some(m.average), |m| m.forgetting, |m| Some(m.rewards)];
        let of = |value| {
            let (theirs, own) = (of(method, value), of(than, value));
            let pairs = theirs
                .iter()
                .filter_map(|(seed, v)| Some(v - own.get(seed)?));
            Spread::of(pairs)
        };
        Some([of(each[0])?, of(each[1])?, of(each[2])?])
    };
    Ok(others
        .filter_map(|method| Some((method.to_owned(), gap(method)?)))
        .collect())
}
