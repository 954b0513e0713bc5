//! The figure of `study copr`: what every method knows after the last task and has forgotten, and three of them along the way.

use std::path::Path;

use anyhow::{Result, ensure};

use super::axes::{Axis, SOFT};
use super::chart::{Chart, Layer};
use super::palette::look;
use super::sheet::Sheet;
use crate::continual::Method;
use crate::observer::Observer;
use crate::rows::continual::time;
use crate::rows::spread::{Spread, curve};
use crate::rows::study_copr::{METHODS, Row, ends, methods, read_rows};
use crate::rows::table::distinct;

/// Methods whose accuracies are drawn along the way.
const ALONG: [Method; 3] = [Method::COPR, Method::COPR_NO_CONSTRAINTS, Method::SFT];

/// Draws the rows of a folder.
pub fn draw(rows_dir: &Path, out_stem: &Path, observer: &dyn Observer) -> Result<()> {
    let rows = read_rows(rows_dir, observer)?;
    let all = methods(&rows, METHODS);
    ensure!(
        !all.is_empty(),
        "{}: rows.csv has no method at its best setting",
        rows_dir.display()
    );
    let own: Vec<&Row> = rows.iter().filter(|r| r.part == METHODS).collect();
    let along = ALONG
        .iter()
        .map(|m| m.name)
        .filter(|name| all.contains(name));
    let sheet = Sheet {
        title: "COPR and its rivals on three tasks, one after the other".into(),
        caption: format!(
            "Upper left: average accuracy after the last task against forgetting, with 95 % intervals over {} seeds; lower right is \
             better. Upper right: backward transfer. Below: accuracy on each task along the way ({}), lines at the end of tasks. \
             Accuracy is the share of held-out prompts where the policy’s text scores more than the initial model’s, ties \
             half.",
            seeds(&own),
            tasks(&own).join(", "),
        ),
        rows: vec![
            vec![summary(&rows, &all), transfer(&rows, &all)],
            along.map(|name| curves(&own, name)).collect(),
        ],
        height: 300.0,
        legend: all
            .iter()
            .enumerate()
            .map(|(i, name)| look(i, *name))
            .collect(),
        ..Sheet::default()
    };
    sheet.save(out_stem)
}

fn seeds(own: &[&Row]) -> usize {
    let mut all: Vec<u64> = own.iter().map(|r| r.seed).collect();
    all.sort_unstable();
    all.dedup();
    all.len()
}

fn tasks<'a>(own: &[&'a Row]) -> Vec<&'a str> {
    distinct(own.iter().map(|r| r.task.as_str()))
}

/// Mean and half width of a method's metric after the last task.
fn spread(rows: &[Row], method: &str, of: fn(&Row) -> Option<f64>) -> Option<(f64, f64)> {
    let all = ends(rows, METHODS);
    let own = all.iter().filter(|r| r.method == method);
    let found = Spread::of(own.filter_map(|r| of(r)))?;
    Some((found.mean, found.half().unwrap_or(0.0)))
}

fn axis(values: impl Iterator<Item = (f64, f64)>) -> Axis {
    let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), (mean, half)| {
        (low.min(mean - half), high.max(mean + half))
    });
    let room = 0.06 * (high - low).max(0.02);
    Axis::linear(low - room, high + room)
}

fn summary(rows: &[Row], all: &[&str]) -> Chart {
    let of = |method: &str, of| spread(rows, method, of);
    let x = axis(all.iter().filter_map(|m| of(m, |r| r.aa)));
    let y = axis(all.iter().filter_map(|m| of(m, |r| r.fm)));
    let mut chart = Chart::new(
        "forgetting",
        (x, "average accuracy"),
        (y, "forgetting (FM)"),
    );
    chart.add(Layer::Dashed(SOFT, vec![(x.lo, 0.0), (x.hi, 0.0)]));
    for (i, method) in all.iter().enumerate() {
        let look = look(i, *method);
        if let (Some((a, da)), Some((f, df))) = (of(method, |r| r.aa), of(method, |r| r.fm)) {
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

/// Backward transfer, a method a place, the best first.
fn transfer(rows: &[Row], all: &[&str]) -> Chart {
    let mut found: Vec<(usize, f64, f64)> = (all.iter().enumerate())
        .filter_map(|(i, method)| {
            let (mean, half) = spread(rows, method, |r| r.bwt)?;
            Some((i, mean, half))
        })
        .collect();
    found.sort_by(|a, b| b.1.total_cmp(&a.1));
    let y = axis(found.iter().map(|f| (f.1, f.2)));
    let x = Axis::linear(0.0, found.len() as f64 + 1.0);
    let mut chart = Chart::new(
        "backward transfer",
        (x, "methods, the best first"),
        (y, "BWT"),
    );
    chart.add(Layer::Dashed(SOFT, vec![(x.lo, 0.0), (x.hi, 0.0)]));
    for (place, (i, mean, half)) in found.into_iter().enumerate() {
        let (look, at) = (look(i, all[i]), place as f64 + 1.0);
        chart.add(Layer::Bar(look.color, at, (mean - half, mean + half)));
        chart.add(Layer::Points(look, vec![(at, mean)]));
    }
    chart
}

/// Accuracy on each task along the way, a colour a task, its name at the end.
fn curves(own: &[&Row], method: &str) -> Chart {
    let rows: Vec<&&Row> = own.iter().filter(|r| r.method == method).collect();
    let most = |k: u64| {
        let steps = rows
            .iter()
            .filter(|r| r.learning == k)
            .filter_map(|r| r.step);
        steps.fold(1.0, f64::max)
    };
    let time = |r: &Row| time(r.learning, r.step, most(r.learning));
    let last = rows.iter().map(|r| r.learning).max().unwrap_or(1) as f64;
    let mut chart = Chart::new(
        method,
        (Axis::linear(0.0, last), "tasks learned"),
        (Axis::linear(0.0, 1.0), "accuracy"),
    );
    for k in 1..last as u64 {
        chart.add(Layer::Dashed(SOFT, vec![(k as f64, 0.0), (k as f64, 1.0)]));
    }
    for (i, task) in tasks(own).into_iter().enumerate() {
        // The end of a task is its last step, which is there already.
        let here = rows.iter().filter(|r| r.task == task);
        let here = here.filter(|r| r.step.is_some() || r.learning == 0);
        let points = curve(here.map(|r| (time(r), r.accuracy)));
        let look = look(i, task);
        if let Some((_, mean, _)) = points.last() {
            chart.label(look.color, task, *mean);
        }
        chart.series(&look, &points);
    }
    chart
}
