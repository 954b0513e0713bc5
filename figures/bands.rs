//! Means over seeds with their bands, and the words that say so.

use std::collections::{BTreeMap, BTreeSet};

use crate::rows::copg_toy::{Curve, Sweep};
use crate::rows::spread::Spread;

/// Points along a curve beyond which the eye gains nothing.
const MOST_POINTS: usize = 600;

/// Mean over seeds at one epoch.
pub struct Point {
    /// The epoch.
    pub epoch: f64,
    /// The mean over its seeds.
    pub mean: f64,
    /// Half the width of the 95% band of the mean; none for a single seed.
    pub half: Option<f64>,
}

/// The curve's means and bands, at no more epochs than can be told apart.
pub fn points(curve: &Curve) -> Vec<Point> {
    let stride = curve.len().div_ceil(MOST_POINTS);
    let last = curve.len().saturating_sub(1);
    let kept = curve.iter().enumerate();
    kept.filter(|(i, _)| i % stride == 0 || *i == last)
        .filter_map(|(_, (&epoch, seeds))| point(epoch, seeds))
        .collect()
}

fn point(epoch: u64, seeds: &BTreeMap<u64, f64>) -> Option<Point> {
    let spread = Spread::of(seeds.values().copied())?;
    Some(Point {
        epoch: epoch as f64,
        mean: spread.mean,
        half: spread.half(),
    })
}

/// Legend of the lines and the bands, with the number of seeds behind a point.
pub fn seeds(sweeps: &[Sweep]) -> String {
    let epochs = sweeps.iter().flat_map(|s| s.curves.values());
    let counts: BTreeSet<_> = epochs.flat_map(|c| c.values()).map(BTreeMap::len).collect();
    let band = "shaded: 95% band of the mean (± 1.96 sd/√n)";
    match (counts.first(), counts.last()) {
        (Some(1), Some(1)) => "one seed, no band".to_owned(),
        (Some(few), Some(many)) if few < many => {
            format!("mean over {few} to {many} seeds, fewer where runs are missing; {band}")
        }
        (_, many) => format!("mean over {} seeds; {band}", many.unwrap_or(&0)),
    }
}
