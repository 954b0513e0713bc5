//! Accuracy on each task after each, method by method, and what is forgotten.

use std::path::Path;

use anyhow::Result;

use super::axes::{Axis, SOFT};
use super::chart::{Chart, Layer};
use super::map::Map;
use super::palette::look;
use super::sheet::Sheet;
use crate::observer::Observer;
use crate::rows::copr_continual::{Kept, read_kept};

const COLUMNS: usize = 3;

/// Draws `rows.csv` and `metrics.csv` of `rows_dir` into `OUT_STEM.svg` and `OUT_STEM.png`.
pub fn draw(rows_dir: &Path, out_stem: &Path, observer: &dyn Observer) -> Result<()> {
    let all = read_kept(rows_dir, observer)?;
    let values = all.iter().flat_map(|k| k.matrix.values().copied());
    let least = values.clone().fold(1.0, f64::min).min(0.5);
    let scale = Axis::linear((20.0 * least).floor() / 20.0, 1.0);
    let mut charts: Vec<Chart> = all.iter().map(|kept| matrix(kept, scale)).collect();
    charts.push(summary(&all));
    let mut rows = Vec::new();
    while !charts.is_empty() {
        let rest = charts.split_off(charts.len().min(COLUMNS));
        rows.push(std::mem::replace(&mut charts, rest));
    }
    let last = rows.len() - 1;
    let sheet = Sheet {
        title: "What is kept of old tasks while new ones are learned".into(),
        caption: format!(
            "Accuracy (share of pairs of arms ordered rightly; ½ is chance) on each task after each, \
                  mean over random sequences of bandits of a log-linear policy; darker is better. Read a \
                  column upwards: a task is learned on the diagonal and then kept or forgotten. Last \
                  panel: average accuracy after the last task against forgetting, with 95 % intervals; \
                  lower right is better. COPR has the likelihood of the best response beside its fit, but where its \
                  name says otherwise. Joint training has all data at every step.{}",
            coinciding(&all)
        ),
        rows,
        columns: COLUMNS,
        height: 240.0,
        legend: all
            .iter()
            .enumerate()
            .map(|(i, k)| look(i, k.method.as_str()))
            .collect(),
        legend_above: last,
        ..Sheet::default()
    };
    sheet.save(out_stem)
}

/// Names methods whose marks lie on each other.
fn coinciding(all: &[Kept]) -> String {
    let means = |k: &Kept| [0, 3].map(|which| k.metrics[which].map_or(f64::NAN, |s| s.mean));
    let near = |a: &Kept, b: &Kept| {
        let pairs = means(a).into_iter().zip(means(b));
        pairs.into_iter().all(|(a, b)| (a - b).abs() < 2e-3)
    };
    let pairs = (all.iter().enumerate())
        .flat_map(|(i, a)| all[i + 1..].iter().map(move |b| (a, b)))
        .filter(|(a, b)| near(a, b));
    pairs
        .map(|(a, b)| format!(" {} and {} lie on each other.", a.method, b.method))
        .collect()
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

fn summary(all: &[Kept]) -> Chart {
    let spread =
        |k: &Kept, which: usize| k.metrics[which].map(|s| (s.mean, s.half().unwrap_or(0.0)));
    let ends = |which: usize| {
        let values = all.iter().filter_map(move |k| spread(k, which));
        let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), (mean, half)| {
            (low.min(mean - half), high.max(mean + half))
        });
        let room = 0.06 * (high - low).max(0.02);
        Axis::linear(low - room, high + room)
    };
    let (x, y) = (ends(0), ends(3));
    let mut chart = Chart::new("forgetting", (x, "average accuracy"), (y, "forgetting"));
    chart.add(Layer::Dashed(SOFT, vec![(x.lo, 0.0), (x.hi, 0.0)]));
    for (i, kept) in all.iter().enumerate() {
        let look = look(i, kept.method.as_str());
        if let (Some((a, da)), Some((f, df))) = (spread(kept, 0), spread(kept, 3)) {
            chart.add(Layer::Bar(look.color, a, (f - df, f + df)));
            chart.add(Layer::Line {
                look: look.clone(),
                points: vec![(a - da, f), (a + da, f)],
                marked: false,
            });
            chart.add(Layer::Points(look, vec![(a, f)]));
        }
    }
    chart
}
