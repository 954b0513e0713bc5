//! Rows of the sim `am-calibration`: calibration errors and scores.

use std::path::Path;

use crate::observer::Observer;
use anyhow::Result;

use super::spread::{Point, Spread};
use super::table::{distinct, read, table};

table! {
    /// The calibration error of a table fitted to one dataset; without labels, to the population.
    pub struct Fitted {
        model: String,
        labels: u64,
        seed: u64,
        error: f64,
    }
}

table! {
    /// Mean and spread of scores over a category.
    pub struct Category {
        scale: f64,
        model: String,
        mean: f64,
        spread: f64,
    }
}

/// A model's calibration errors.
pub struct Errors {
    /// The model.
    pub model: String,
    /// Labels, mean error, half the width of its band.
    pub points: Vec<Point>,
    /// The mean error on the population.
    pub limit: Option<f64>,
}

/// The models in the order of the file.
pub fn read_errors(dir: &Path, observer: &dyn Observer) -> Result<Vec<Errors>> {
    let rows: Vec<Fitted> = read(&dir.join("rows.csv"), observer)?;
    let models = distinct(rows.iter().map(|row| row.model.as_str()));
    let mut counts: Vec<u64> = rows.iter().map(|r| r.labels).collect();
    counts.sort_unstable();
    counts.dedup();
    let errors = models.into_iter().map(|model| {
        let at = |labels: u64| {
            let of = rows
                .iter()
                .filter(|r| r.model == model && r.labels == labels);
            Spread::of(of.map(|r| r.error))
        };
        Errors {
            model: model.to_owned(),
            points: (counts.iter().filter(|n| **n > 0))
                .filter_map(|&n| at(n).map(|s| (n as f64, s.mean, s.half())))
                .collect(),
            limit: at(0).map(|s| s.mean),
        }
    });
    Ok(errors.collect())
}
