//! The figure of a study: reward along training over β, one panel an objective; then the end
//! against β, the best β of each, and reward against KL.

use std::path::Path;

use anyhow::{Result, ensure};

use super::axes::Axis;
use super::chart::{Chart, Layer};
use super::legend::Look;
use super::palette::{look, ramp};
use super::sheet::Sheet;
use crate::observer::Observer;
use crate::rows::spread::Point;
use crate::rows::study::{Row, curves, fronts, rates, read_rows};

/// Draws CoPG, DPO and IPO.
pub fn copg(rows_dir: &Path, out_stem: &Path, observer: &dyn Observer) -> Result<()> {
    let objectives = [("copg", "CoPG"), ("dpo", "DPO"), ("ipo", "IPO")];
    let title = "Offline on a language model: CoPG, DPO and IPO with one rule as the reward";
    let rows = read_rows(rows_dir, observer)?;
    draw(&rows, rows_dir, out_stem, &objectives, title)
}

/// Draws DRO-V and KTO.
pub fn dro(rows_dir: &Path, out_stem: &Path, observer: &dyn Observer) -> Result<()> {
    let title = "Offline on a language model’s single completions: DRO-V and KTO";
    let objectives = [("dro-v", "DRO-V"), ("kto", "KTO")];
    let rows = read_rows(rows_dir, observer)?;
    draw(&rows, rows_dir, out_stem, &objectives, title)
}

fn draw(
    rows: &[Row],
    dir: &Path,
    stem: &Path,
    objectives: &[(&str, &str)],
    title: &str,
) -> Result<()> {
    ensure!(!rows.is_empty(), "{}: rows.csv has no rows", dir.display());
    let rewards = spread(rows.iter().map(|r| r.reward));
    let steps = Axis::linear(0.0, rows.iter().map(|r| r.step as f64).fold(1.0, f64::max));
    let y = Axis::linear(rewards.0, rewards.1);
    let looks: Vec<Look> = (objectives.iter().enumerate())
        .map(|(i, (_, name))| look(i, *name))
        .collect();
    let along = objectives.iter().map(|(objective, name)| {
        let mut chart = Chart::new(format!("{name} over β"), (steps, "steps"), (y, "reward"));
        let curves = curves(rows, "sweep", objective);
        let last = curves.len().max(2) as f64 - 1.0;
        for (i, (beta, points)) in curves.iter().enumerate() {
            // From dark at the smallest β; the lightest of the ramp is too light for a line.
            let color = ramp(1.0 - 0.85 * i as f64 / last);
            let look = Look {
                color,
                ..look(i, "")
            };
            chart.series(&look, points);
            if let Some(&(_, end, _)) = points.last() {
                chart.label(color, format!("{beta}"), end);
            }
        }
        chart
    });
    let rows_of_charts = vec![along.collect(), below(rows, objectives, &looks, (steps, y))];
    let seeds = |part: &str| {
        let mut seeds: Vec<u64> = rows
            .iter()
            .filter(|r| r.part == part)
            .map(|r| r.seed)
            .collect();
        seeds.sort_unstable();
        seeds.dedup();
        seeds.len()
    };
    let sheet = Sheet {
        title: title.into(),
        caption: format!(
            "Mean reward of one completion of each held-out prompt, at temperature 1. Above: over β \
             (at the right ends), {} seeds. Below left: the same at the end. Middle: the best β of \
             each, chosen in the sweep, again on {} new seeds and more prompts. Right: those and \
             the sweep’s judgements (small) by their KL from the reference. Shaded: 95 % band of \
             the mean over seeds (± 1.96 sd/√n).",
            seeds("sweep"),
            seeds("best"),
        ),
        rows: rows_of_charts,
        height: 270.0,
        legend: looks,
        legend_above: 1,
        ..Sheet::default()
    };
    sheet.save(stem)
}

fn below(
    rows: &[Row],
    objectives: &[(&str, &str)],
    looks: &[Look],
    (steps, y): (Axis, Axis),
) -> Vec<Chart> {
    let betas = || rows.iter().map(|r| r.beta);
    let beta = Axis::log(
        betas().fold(f64::MAX, f64::min) / 1.3,
        betas().fold(0.0, f64::max) * 1.3,
    );
    let largest = rows.iter().map(|r| r.kl).fold(0.1, f64::max);
    let kl = Axis::linear(0.0, 1.03 * largest);
    let mut end = Chart::new("at the end, against β", (beta, "β"), (y, "reward"));
    let mut best = Chart::new("each at its best β", (steps, "steps"), (y, "reward"));
    let mut front = Chart::new(
        "reward against KL",
        (kl, "KL from the reference, nats"),
        (y, "reward"),
    );
    for ((objective, _), look) in objectives.iter().zip(looks) {
        end.series(look, &rates(rows, "sweep", objective));
        for (_, points) in curves(rows, "best", objective) {
            best.series(look, &points);
        }
        front.add(Layer::Dots(look.color, fronts(rows, "sweep", objective)));
    }
    for ((objective, _), look) in objectives.iter().zip(looks) {
        let points: Vec<Point> = (fronts(rows, "best", objective).into_iter())
            .map(|(x, y)| (x, y, None))
            .collect();
        front.series(look, &points);
    }
    vec![end, best, front]
}

/// From the least to the most, and a little more.
pub(super) fn spread(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let (lo, hi) = (
        values.clone().fold(f64::MAX, f64::min),
        values.fold(f64::MIN, f64::max),
    );
    let room = 0.05 * (hi - lo).max(1e-9);
    (lo - room, hi + room)
}
