//! What every method keeps of old tasks: a row a method, and accuracies task after task of three of them.

use std::path::Path;

use anyhow::Result;

use super::axes::{Axis, INK, SOFT};
use super::chart::{Chart, Layer};
use super::legend::Look;
use super::map::Map;
use super::palette::look;
use super::sheet::Sheet;
use crate::observer::Observer;
use crate::rows::copr_continual::{Kept, read_kept};
use crate::rows::spread::Spread;

/// The method that all are held against.
const OURS: &str = "copr";
/// Methods whose accuracies are drawn task after task.
const SHOWN: [&str; 3] = ["sft", OURS, "fit-all"];
// Places of AA, FM and AA by reward among the metrics.
const AVERAGE: usize = 0;
const FORGETTING: usize = 3;
const REWARDS: usize = 4;

/// Draws `rows.csv` and `metrics.csv` of `rows_dir` into `OUT_STEM.svg` and `OUT_STEM.png`.
pub fn draw(rows_dir: &Path, out_stem: &Path, observer: &dyn Observer) -> Result<()> {
    let all = read_kept(rows_dir, observer)?;
    let own = |kept: &&Kept| ["copr", "fit"].iter().any(|of| kept.method.starts_with(of));
    let (ours, rivals): (Vec<&Kept>, Vec<&Kept>) = all.iter().partition(own);
    let looks = [look(0, "by the order of all arms"), look(3, "by reward")];
    let ends = [ends(&all, &[AVERAGE, REWARDS]), ends(&all, &[FORGETTING])];
    let at = |which: usize| {
        let ours = all.iter().find(|k| k.method == OURS)?;
        Some(ours.metrics[which]?.mean)
    };
    let pair = |title: &str, kept: &[&Kept]| {
        vec![
            rows(
                &format!("{title}: average accuracy"),
                (ends[0], "average accuracy"),
                kept,
                &[(AVERAGE, &looks[0]), (REWARDS, &looks[1])],
                at(AVERAGE),
            ),
            rows(
                &format!("{title}: forgetting"),
                (ends[1], "forgetting"),
                kept,
                &[(FORGETTING, &looks[0])],
                at(FORGETTING),
            ),
        ]
    };
    let values = all.iter().flat_map(|k| k.matrix.values().copied());
    let least = values.fold(1.0, f64::min).min(0.5);
    let scale = Axis::linear((20.0 * least).floor() / 20.0, 1.0);
    let shown = SHOWN
        .iter()
        .filter_map(|name| all.iter().find(|k| k.method == *name));
    let matrices: Vec<Chart> = shown.map(|kept| matrix(kept, scale)).collect();
    let mut sheet_rows = Vec::new();
    for (title, kept) in [("rivals", &rivals), ("COPR and its fit", &ours)] {
        if !kept.is_empty() {
            sheet_rows.push(pair(title, kept));
        }
    }
    if !matrices.is_empty() {
        sheet_rows.push(matrices);
    }
    let sheet = Sheet {
        title: "What is kept of old tasks while new ones are learned".into(),
        caption: "Above: after the last task, means over random sequences of bandits of a log-linear policy, with 95 % \
                  intervals; every method with the best of nine settings on other sequences, but COPR as printed. Accuracy \
                  is the share of pairs of arms that the policy orders rightly (½ is chance), or the mean reward of a \
                  response, 0 at the worst arm and 1 at the best; forgetting is of the former, less is better. \
                  Dashed: COPR's order. sft-all, fit-all and rlhf have all data at every step. Below: accuracy on each \
                  task after each; read a column upwards: a task is learned on the diagonal and then kept or \
                  forgotten."
            .into(),
        rows: sheet_rows,
        height: 350.0,
        legend: looks.to_vec(),
        ..Sheet::default()
    };
    sheet.save(out_stem)
}

/// An axis around the intervals of some metrics.
fn ends(all: &[Kept], which: &[usize]) -> Axis {
    let values = (all.iter())
        .flat_map(|kept| which.iter().filter_map(|&m| kept.metrics[m]))
        .flat_map(|s| {
            let half = s.half().unwrap_or(0.0);
            [s.mean - half, s.mean + half]
        });
    Axis::around(values, 0.05)
}

/// A row a method, named on the right: a mark and the interval of each metric.
fn rows(
    title: &str,
    x: (Axis, &str),
    all: &[&Kept],
    metrics: &[(usize, &Look)],
    ours: Option<f64>,
) -> Chart {
    let y = Axis::bare(0.0, all.len() as f64 + 1.0);
    let mut chart = Chart::new(title, x, (y, ""));
    if let Some(at) = ours {
        chart.add(Layer::Dashed(SOFT, vec![(at, y.lo), (at, y.hi)]));
    }
    for (row, kept) in all.iter().enumerate() {
        let height = (all.len() - row) as f64;
        chart.label(INK, kept.method.as_str(), height);
        for &(which, look) in metrics {
            let Some(Spread { mean, .. }) = kept.metrics[which] else {
                continue;
            };
            if let Some(half) = kept.metrics[which].and_then(|s| s.half()) {
                chart.add(Layer::Line {
                    look: look.clone(),
                    points: vec![(mean - half, height), (mean + half, height)],
                    marked: false,
                });
            }
            chart.add(Layer::Points(look.clone(), vec![(mean, height)]));
        }
    }
    chart
}

fn matrix(kept: &Kept, scale: Axis) -> Chart {
    let tasks = kept.matrix.keys().map(|at| at.0 + 1).max().unwrap_or(1);
    let edges: Vec<f64> = (0..=tasks).map(|i| i as f64 + 0.5).collect();
    let axis = Axis::whole(0.5, tasks as f64 + 0.5);
    let at = |after: u64, task: u64| kept.matrix.get(&(after, task)).copied();
    let mut chart = Chart::new(kept.method.as_str(), (axis, "task"), (axis, "after task"));
    let rows = || (0..tasks).map(|after| (0..tasks).map(move |task| at(after, task)));
    chart.add(Layer::Map(Map {
        x: edges.clone(),
        y: edges,
        values: rows().map(Iterator::collect).collect(),
        scale,
        label: String::new(),
        texts: rows()
            .map(|row| {
                row.map(|v| v.map_or(String::new(), |v| format!("{v:.2}")))
                    .collect()
            })
            .collect(),
    }));
    chart
}
