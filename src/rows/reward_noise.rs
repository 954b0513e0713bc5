//! Rows of the sim `reward-noise`: regret against the size of noisy datasets.

use std::collections::BTreeMap;
use std::path::Path;

use crate::observer::Observer;
use anyhow::Result;

use super::families::{Family, families};
use super::spread::{Point, Spread};
use super::table::{read, read_numbered, table};

table! {
    /// An exact limit on one dataset.
    pub struct Row {
        objective: String,
        noise: f64,
        samples: u64,
        seed: u64,
        regret: Option<f64>,
    }
}

table! {
    /// An exact limit on the population without noise.
    pub struct Limit {
        objective: String,
        regret: Option<f64>,
    }
}

/// Objectives that agree on every dataset.
pub struct Series {
    /// Their names.
    pub names: Vec<String>,
    /// The exact limit on the population without noise.
    pub limit: Option<f64>,
    /// Of each noise: pairs, mean regret, half the width of its band.
    pub curves: Vec<(f64, Vec<Point>)>,
    /// Datasets on which there is no limit.
    pub missing: usize,
}

/// A dataset: the noise's bits (its order is theirs), its size, its seed.
type Place = (u64, u64, u64);

/// The curves, coinciding ones joined, in the order of the file.
pub fn read_series(dir: &Path, observer: &dyn Observer) -> Result<Vec<Series>> {
    let mut curves: Vec<(String, BTreeMap<Place, Option<f64>>)> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for row in read::<Row>(&dir.join("rows.csv"), observer)? {
        let at = *places.entry(row.objective.clone()).or_insert_with(|| {
            curves.push((row.objective.clone(), BTreeMap::new()));
            curves.len() - 1
        });
        let place = (row.noise.to_bits(), row.samples, row.seed);
        curves[at].1.insert(place, row.regret);
    }
    let limits: Vec<(_, Limit)> = read_numbered(&dir.join("limits.csv"), observer)?;
    let limits: BTreeMap<String, Option<f64>> = limits
        .into_iter()
        .map(|(_, l)| (l.objective, l.regret))
        .collect();
    let series = |family: Family<Place>| {
        let mut means: BTreeMap<u64, BTreeMap<u64, Vec<f64>>> = BTreeMap::new();
        for (&(noise, samples, _), regret) in &family.curve {
            let sizes = means.entry(noise).or_default();
            sizes.entry(samples).or_default().extend(regret);
        }
        let curve = |sizes: BTreeMap<u64, Vec<f64>>| {
            let point = |(n, regrets): (u64, Vec<f64>)| {
                let spread = Spread::of(regrets)?;
                Some((n as f64, spread.mean, spread.half()))
            };
            sizes.into_iter().filter_map(point).collect()
        };
        Series {
            limit: limits.get(&family.names[0]).copied().flatten(),
            curves: (means.into_iter())
                .map(|(noise, sizes)| (f64::from_bits(noise), curve(sizes)))
                .collect(),
            missing: family.curve.values().filter(|r| r.is_none()).count(),
            names: family.names,
        }
    };
    Ok(families(curves).into_iter().map(series).collect())
}
