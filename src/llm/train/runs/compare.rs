//! Comparison of runs: the settings in which they differ, and how far each has come.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use toml::Value;

use super::read::{Metric, Run};
use crate::llm::train::Better;

/// Summary of a metric of a run: its last and its best value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// The last value.
    pub last: f64,
    /// The step that it is of.
    pub step: u64,
    /// The best value and its step, where it is known which values are good.
    pub best: Option<(f64, u64)>,
}

impl Summary {
    /// The summary of a metric of that name; none without values.
    pub fn of(name: &str, values: &Metric) -> Option<Self> {
        let &(step, last) = values.last()?;
        let best = Better::of(name).map(|better| {
            let first = (values[0].1, values[0].0);
            values.iter().fold(first, |best, &(step, value)| {
                if is_better(better, value, best.0) {
                    (value, step)
                } else {
                    best
                }
            })
        });
        Some(Self { last, step, best })
    }
}

fn is_better(better: Better, new: f64, old: f64) -> bool {
    match better {
        Better::Min => new < old,
        Better::Max => new > old,
    }
}

/// The settings in which runs differ, but for the objective.
pub fn differing(runs: &[Run]) -> Vec<String> {
    let names: BTreeSet<&String> = runs.iter().flat_map(|run| run.settings.keys()).collect();
    let differs = |name: &str| {
        let mut values = runs.iter().map(|run| run.settings.get(name));
        let first = values.next();
        values.any(|value| Some(value) != first)
    };
    let names = names.into_iter().filter(|name| *name != "objective");
    names.filter(|name| differs(name)).cloned().collect()
}

/// Orders runs by the last value of a metric, the best first and those without it last; or by
/// objective, the settings in which they differ, and name.
pub fn order(runs: &mut [Run], metric: Option<&str>) {
    let names = differing(runs);
    runs.sort_by(|a, b| {
        let of = |run: &Run| run.manifest.objective.clone();
        let settings = (names.iter())
            .map(|name| by_value(a.settings.get(name), b.settings.get(name)))
            .find(|order| order.is_ne());
        let usual = (of(a).cmp(&of(b)))
            .then(settings.unwrap_or(Ordering::Equal))
            .then_with(|| a.dir.cmp(&b.dir));
        match metric {
            None => usual,
            Some(metric) => by_metric(metric, a, b).then(usual),
        }
    });
}

fn by_metric(metric: &str, a: &Run, b: &Run) -> Ordering {
    let last = |run: &Run| run.metrics.get(metric)?.last().map(|(_, value)| *value);
    match (last(a), last(b)) {
        (Some(a), Some(b)) if Better::of(metric) == Some(Better::Max) => b.total_cmp(&a),
        (Some(a), Some(b)) => a.total_cmp(&b),
        (a, b) => b.is_some().cmp(&a.is_some()),
    }
}

fn by_value(a: Option<&Value>, b: Option<&Value>) -> Ordering {
    let number = |value: &Value| match value {
        Value::Integer(n) => Some(*n as f64),
        Value::Float(x) => Some(*x),
        _ => None,
    };
    match (a, b) {
        (Some(a), Some(b)) => match (number(a), number(b)) {
            (Some(a), Some(b)) => a.total_cmp(&b),
            _ => a.to_string().cmp(&b.to_string()),
        },
        (a, b) => a.is_some().cmp(&b.is_some()),
    }
}
