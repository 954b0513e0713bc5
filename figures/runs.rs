//! A metric of training along the steps, one line for each combination of settings.

use std::path::Path;

use crate::llm::train::runs::Curve;
use anyhow::{Result, bail};

use super::axes::Axis;
use super::chart::{Chart, Layer};
use super::palette::look;
use super::sheet::Sheet;
use crate::rows::spread::{Point, Spread};

/// Points along a line beyond which neighbours are averaged.
const MOST_POINTS: usize = 150;
/// Points along a line up to which each is marked.
const MARKED: usize = 30;
/// Lines beyond which every objective has a panel of its own.
const MOST_LINES: usize = 6;
const COLUMNS: usize = 3;

/// A line: who it is, and its points.
struct Line {
    objective: String,
    settings: String,
    points: Vec<Point>,
}

/// Draws the curves of a metric into `OUT_STEM.svg` and `OUT_STEM.png`.
pub fn draw(metric: &str, curves: &[Curve], out_stem: &Path) -> Result<()> {
    let longest = curves.iter().map(|c| c.points.len()).max().unwrap_or(0);
    let width = longest.div_ceil(MOST_POINTS).max(1);
    let lines: Vec<Line> = (curves.iter())
        .map(|curve| Line {
            objective: curve.objective.clone(),
            settings: curve.settings.clone(),
            points: points(curve, width),
        })
        .filter(|line| !line.points.is_empty())
        .collect();
    if lines.is_empty() {
        bail!("figure: no run has values of {metric} yet");
    }
    let mut objectives: Vec<&str> = lines.iter().map(|l| l.objective.as_str()).collect();
    objectives.dedup();
    objectives.sort_unstable();
    objectives.dedup();
    let apart = objectives.len() > 1 && lines.len() > MOST_LINES;
    let named: Vec<(String, &Line)> = lines
        .iter()
        .map(|l| (name(l, &objectives, apart), l))
        .collect();
    let mut names: Vec<&String> = Vec::new();
    for (name, _) in &named {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let axes = axes(&lines);
    let panels: Vec<Option<&str>> = if apart {
        objectives.iter().map(|o| Some(*o)).collect()
    } else {
        vec![None]
    };
    let mut charts = Vec::new();
    for panel in panels {
        let title = panel.unwrap_or(match objectives.as_slice() {
            [only] => only,
            _ => "",
        });
        let mut chart = Chart::new(title, (axes.0, "step"), (axes.1, metric));
        let here = || {
            let index = |name: &String| names.iter().position(|n| *n == name).unwrap_or(0);
            (named.iter())
                .filter(|(_, line)| panel.is_none_or(|objective| objective == line.objective))
                .map(move |(name, line)| (index(name), name, *line))
        };
        // Lines are drawn over every band.
        here().for_each(|(index, _, line)| chart.layers.extend(band(line, index)));
        here().for_each(|(index, name, line)| add(&mut chart, line, index, name));
        charts.push(chart);
    }
    let mut rows = Vec::new();
    while !charts.is_empty() {
        let rest = charts.split_off(charts.len().min(COLUMNS));
        rows.push(std::mem::replace(&mut charts, rest));
    }
    let sheet = Sheet {
        title: format!("{metric} along training"),
        caption: caption(curves, width),
        columns: if apart {
            COLUMNS.min(objectives.len())
        } else {
            1
        },
        height: if apart { 260.0 } else { 400.0 },
        rows,
        legend: match names.as_slice() {
            [only] if only.is_empty() => Vec::new(),
            names => (names.iter().enumerate())
                .map(|(i, name)| look(i, name.as_str()))
                .collect(),
        },
        ..Sheet::default()
    };
    sheet.save(out_stem)
}

/// What the legend calls a line.
fn name(line: &Line, objectives: &[&str], apart: bool) -> String {
    match (apart || objectives.len() == 1, line.settings.as_str()) {
        (true, settings) => settings.into(),
        (false, "") => line.objective.clone(),
        (false, settings) => format!("{}, {settings}", line.objective),
    }
}

/// Means over runs, `width` neighbouring steps together.
fn points(curve: &Curve, width: usize) -> Vec<Point> {
    let all: Vec<(&u64, &Vec<f64>)> = curve.points.iter().collect();
    let point = |part: &[(&u64, &Vec<f64>)]| -> Option<Point> {
        // Each run's mean over the steps first: its steps are no independent values.
        let runs = part.iter().map(|(_, values)| values.len()).min()?;
        let mean = |run: usize| {
            let sum: f64 = part.iter().map(|(_, values)| values[run]).sum();
            sum / part.len() as f64
        };
        let spread = Spread::of((0..runs).map(mean))?;
        let step = part.iter().map(|(step, _)| **step as f64).sum::<f64>() / part.len() as f64;
        Some((step, spread.mean, spread.half())).filter(|(_, mean, _)| mean.is_finite())
    };
    all.chunks(width).filter_map(point).collect()
}

fn axes(lines: &[Line]) -> (Axis, Axis) {
    let points = || lines.iter().flat_map(|line| &line.points);
    let ends = |values: &mut dyn Iterator<Item = f64>| {
        values.fold((f64::MAX, f64::MIN), |(low, high), v| {
            (low.min(v), high.max(v))
        })
    };
    let (first, last) = ends(&mut points().map(|p| p.0));
    let half = |p: &Point| p.2.unwrap_or(0.0);
    let values = points().flat_map(|p| [p.1 - half(p), p.1 + half(p)]);
    let last = if last > first { last } else { first + 1.0 };
    (
        Axis::linear(first.min(0.1 * last), last),
        Axis::around(values, 0.04),
    )
}

/// The band of the mean, where there is one.
fn band(line: &Line, index: usize) -> Option<Layer> {
    line.points.iter().find(|p| p.2.is_some())?;
    let half = |h: Option<f64>| h.unwrap_or(0.0);
    let edges = (line.points.iter()).map(|&(x, y, h)| (x, y - half(h), y + half(h)));
    Some(Layer::Band(look(index, "").color, edges.collect()))
}

/// The line, marked here and there where points are many: colour alone tells nobody's lines apart.
fn add(chart: &mut Chart, line: &Line, index: usize, name: &str) {
    let look = look(index, name);
    let places = line.points.iter().map(|&(x, y, _)| (x, y));
    let every = match line.points.len() {
        few if few <= MARKED => 1,
        many => many.div_ceil(8),
    };
    let marks = places.clone().skip(every / 2).step_by(every).collect();
    chart.add(Layer::Line {
        look: look.clone(),
        points: places.collect(),
        marked: false,
    });
    chart.add(Layer::Points(look, marks));
}

fn caption(curves: &[Curve], width: usize) -> String {
    let few = curves.iter().map(|c| c.runs).min().unwrap_or(0);
    let many = curves.iter().map(|c| c.runs).max().unwrap_or(0);
    let mut words = match (few, many) {
        (_, 1) => "One run a line.".to_string(),
        (few, many) => {
            let seeds = if few == many {
                format!("{many} seeds")
            } else {
                format!("{few} to {many} seeds")
            };
            let short = curves
                .iter()
                .any(|c| c.points.values().any(|v| v.len() < c.runs));
            let fewer = if short {
                ", fewer where a run has not come so far"
            } else {
                ""
            };
            format!(
                "Mean over {seeds}{fewer}; shaded: 95 % band of the mean (± 1.96 sd/√n, which is \
                 narrow for few seeds)."
            )
        }
    };
    if width > 1 {
        words += &format!(" Each point is the mean of {width} neighbouring values.");
    }
    words
}
