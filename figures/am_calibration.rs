//! Calibration against the number of labels, and the spread of scores by category.

use std::path::Path;

use anyhow::Result;

use super::axes::Axis;
use super::chart::{Chart, Layer};
use super::palette::{PALETTE, look};
use super::sheet::Sheet;
use crate::observer::Observer;
use crate::rows::am_calibration::{Category, Errors, read_errors};
use crate::rows::table::read;

/// Draws `rows.csv` and `categories.csv` of `rows_dir` into `OUT_STEM.svg` and `OUT_STEM.png`.
pub fn draw(rows_dir: &Path, out_stem: &Path, observer: &dyn Observer) -> Result<()> {
    let errors = read_errors(rows_dir, observer)?;
    let categories: Vec<Category> = read(&rows_dir.join("categories.csv"), observer)?;
    let mut legend: Vec<_> = (errors.iter().enumerate())
        .map(|(i, e)| look(i, e.model.as_str()))
        .collect();
    legend.push(look(errors.len(), "reward"));
    let sheet = Sheet {
        title: "The Advantage Model’s margin: calibration and spread".into(),
        caption: "Left: exact calibration error E|σ(δ) − p| over pairs of different arms of scores fitted \
                  to labels, random bandits of eight arms; mean over datasets with its 95 % band; dashed: \
                  fitted to the population. The margin helps while labels are few; then its shrunken gaps \
                  remain. A penalty on a reward model does the same. Right: spread of the scores within \
                  categories of prompts whose rewards differ in spread, on the population: the margin \
                  evens categories out by shrinking the widest."
            .into(),
        rows: vec![vec![by_labels(&errors), by_category(&categories, &errors)]],
        height: 420.0,
        legend,
        dashed: Some("on the population".into()),
        ..Sheet::default()
    };
    sheet.save(out_stem)
}

fn by_labels(errors: &[Errors]) -> Chart {
    let points = || errors.iter().flat_map(|e| &e.points);
    let counts = || points().map(|p| p.0);
    let x = Axis::log(
        counts().fold(f64::MAX, f64::min) / 1.2,
        1.2 * counts().fold(1.0, f64::max),
    );
    let least = points().map(|p| p.1).fold(1.0, f64::min);
    let y = Axis::log(
        least / 1.5,
        1.0_f64.min(1.6 * points().map(|p| p.1).fold(0.0, f64::max)),
    );
    let mut chart = Chart::new("calibration error", (x, "labels"), (y, "E|σ(δ) − p|"));
    for (i, e) in errors.iter().enumerate() {
        if let Some(limit) = e.limit.filter(|limit| *limit > y.lo) {
            chart.add(Layer::Dashed(
                PALETTE[i],
                vec![(x.lo, limit), (x.hi, limit)],
            ));
        }
        chart.series(&look(i, e.model.as_str()), &e.points);
    }
    chart
}

fn by_category(categories: &[Category], errors: &[Errors]) -> Chart {
    let scales = || categories.iter().map(|c| c.scale);
    let x = Axis::log(
        scales().fold(f64::MAX, f64::min) / 1.2,
        1.2 * scales().fold(0.0, f64::max),
    );
    let spreads = || categories.iter().map(|c| c.spread);
    let y = Axis::log(
        spreads().fold(f64::MAX, f64::min) / 1.3,
        1.3 * spreads().fold(0.0, f64::max),
    );
    let labels = ["scale of the category’s rewards", "spread of scores"];
    let mut chart = Chart::new("scores by category", (x, labels[0]), (y, labels[1]));
    let names = errors.iter().map(|e| e.model.as_str()).chain(["reward"]);
    for (i, name) in names.enumerate() {
        let of = categories.iter().filter(|c| c.model == name);
        let points: Vec<_> = of.map(|c| (c.scale, c.spread, None)).collect();
        chart.series(&look(i, name), &points);
    }
    chart
}
