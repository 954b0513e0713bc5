//! A metric along the steps, runs that differ in nothing but their seed together.

use std::collections::BTreeMap;

use super::compare::differing;
use super::read::Run;

/// A metric along the steps of the runs with the same settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// The objective.
    pub objective: String,
    /// The settings in which it differs from others, such as `beta=0.1`; may be empty.
    pub settings: String,
    /// Number of runs.
    pub runs: usize,
    /// Values by step: at every step that a run has a value at, the values of all runs that have.
    pub points: BTreeMap<u64, Vec<f64>>,
}

/// One curve for each combination of settings, seeds aside, in the order of the runs; runs without
/// the metric are in none.
pub fn curves(runs: &[Run], metric: &str) -> Vec<Curve> {
    let names = differing(runs);
    let mut curves: Vec<Curve> = Vec::new();
    for run in runs {
        let Some(values) = run.metrics.get(metric) else {
            continue;
        };
        let settings = (names.iter().filter(|name| *name != "seed"))
            .filter_map(|name| Some(format!("{name}={}", show(run.settings.get(name)?))))
            .collect::<Vec<_>>()
            .join(", ");
        let objective = &run.manifest.objective;
        let same = |c: &&mut Curve| c.settings == settings && c.objective == *objective;
        let curve = match curves.iter_mut().find(same) {
            Some(curve) => curve,
            None => {
                curves.push(Curve {
                    objective: objective.clone(),
                    settings,
                    runs: 0,
                    points: BTreeMap::new(),
                });
                let last = curves.len() - 1;
                &mut curves[last]
            }
        };
        curve.runs += 1;
        for &(step, value) in values {
            curve.points.entry(step).or_default().push(value);
        }
    }
    curves
}

/// A setting as people write it.
pub(super) fn show(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
