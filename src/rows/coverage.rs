//! Rows of the sim `coverage`: regret against the mass on the best arm.

use std::collections::BTreeMap;
use std::path::Path;

use crate::observer::Observer;
use anyhow::Result;

use super::families::{Family, families};
use super::spread::{Point, Spread};
use super::table::{read, read_numbered, table};

table! {
    /// An exact limit on the population.
    pub struct Limit {
        objective: String,
        mass: f64,
        regret: Option<f64>,
    }
}

table! {
    /// An exact limit on one dataset, for an objective whose population limit is always π*.
    pub struct Sampled {
        objective: String,
        mass: f64,
        samples: u64,
        seed: u64,
        regret: Option<f64>,
    }
}

/// Masses, in parts of 10⁻⁹ so that they have an order.
pub type Mass = u64;

/// A mass as a key of a curve, and back.
pub fn key(mass: f64) -> Mass {
    (mass * 1e9).round() as u64
}

/// See [`key`].
pub fn mass(key: Mass) -> f64 {
    key as f64 / 1e9
}

/// The curves of the population, coinciding ones joined, in the order of the file.
pub fn read_exact(dir: &Path, observer: &dyn Observer) -> Result<Vec<Family<Mass>>> {
    let mut curves: Vec<(String, BTreeMap<Mass, Option<f64>>)> = Vec::new();
    for row in read::<Limit>(&dir.join("rows.csv"), observer)? {
        let at = curves.iter().position(|(name, _)| *name == row.objective);
        let at = at.unwrap_or_else(|| {
            curves.push((row.objective.clone(), BTreeMap::new()));
            curves.len() - 1
        });
        curves[at].1.insert(key(row.mass), row.regret);
    }
    Ok(families(curves))
}

/// The mean regrets on datasets of one size, and half the width of their bands.
pub struct Means {
    /// Pairs in a dataset.
    pub samples: u64,
    /// Of each family: its name, and mass, mean, half width.
    pub curves: Vec<(String, Vec<Point>)>,
}

/// The curves on datasets, by size; objectives that agree on every dataset of every size are joined,
/// and datasets without a limit are left out of the means.
pub fn read_sampled(dir: &Path, observer: &dyn Observer) -> Result<Vec<Means>> {
    let rows: Vec<(_, Sampled)> = read_numbered(&dir.join("sampled.csv"), observer)?;
    // By pairs, mass and seed.
    type Curve = BTreeMap<(u64, Mass, u64), Option<f64>>;
    let mut curves: Vec<(String, Curve)> = Vec::new();
    for (_, row) in rows {
        let at = curves.iter().position(|(name, _)| *name == row.objective);
        let at = at.unwrap_or_else(|| {
            curves.push((row.objective.clone(), BTreeMap::new()));
            curves.len() - 1
        });
        let place = (row.samples, key(row.mass), row.seed);
        curves[at].1.insert(place, row.regret);
    }
    let mut means: BTreeMap<u64, Means> = BTreeMap::new();
    for family in families(curves) {
        let mut sizes: BTreeMap<u64, BTreeMap<Mass, Vec<f64>>> = BTreeMap::new();
        for (&(samples, mass, _), regret) in &family.curve {
            let by_mass = sizes.entry(samples).or_default();
            by_mass.entry(mass).or_default().extend(regret);
        }
        for (samples, by_mass) in sizes {
            let points = by_mass.into_iter().filter_map(|(at, regrets)| {
                let spread = Spread::of(regrets)?;
                Some((mass(at), spread.mean, spread.half()))
            });
            let curves = Vec::new();
            let size = means.entry(samples).or_insert(Means { samples, curves });
            size.curves.push((family.name(), points.collect()));
        }
    }
    Ok(means.into_values().collect())
}
