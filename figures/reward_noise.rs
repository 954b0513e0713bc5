//! Regret on datasets against their size, one panel per objective, one line per noise.

use std::path::Path;

use anyhow::Result;

use super::axes::{Axis, SOFT};
use super::chart::{Chart, Layer};
use super::palette::look;
use super::sheet::Sheet;
use crate::observer::Observer;
use crate::rows::reward_noise::{Series, read_series};

const COLUMNS: usize = 4;
/// Regrets below this are drawn on the edge.
const LEAST: f64 = 1e-7;

/// Draws `rows.csv` and `limits.csv` of `rows_dir` into `OUT_STEM.svg` and `OUT_STEM.png`.
pub fn draw(rows_dir: &Path, out_stem: &Path, observer: &dyn Observer) -> Result<()> {
    let all = read_series(rows_dir, observer)?;
    let points = || all.iter().flat_map(|s| &s.curves).flat_map(|c| &c.1);
    let sizes = || points().map(|p| p.0);
    let x = Axis::log(
        sizes().fold(f64::MAX, f64::min) / 1.4,
        sizes().fold(1.0, f64::max) * 1.4,
    );
    let y = Axis::decades(points().map(|p| p.1), LEAST);
    let mut charts: Vec<Chart> = all.iter().map(|series| panel(series, (x, y))).collect();
    let mut rows = Vec::new();
    while !charts.is_empty() {
        let rest = charts.split_off(charts.len().min(COLUMNS));
        rows.push(std::mem::replace(&mut charts, rest));
    }
    let noises = all.first().map_or(&[][..], |s| &s.curves);
    let sheet = Sheet {
        title: "Who pays for noise in the rewards, and who pays anyway".into(),
        caption: "Mean regret of the exact fixed point on datasets of pairs drawn from CoPG’s bandit; \
                  no training. Rewards are seen with normal noise, labels follow Bradley–Terry of the \
                  rewards seen. Shaded: 95 % band of the mean over datasets. Objectives in one panel \
                  agree on every dataset. Regrets below 10⁻⁷ lie on the lower edge: without noise CoPG \
                  has no statistical error."
            .into(),
        rows,
        columns: COLUMNS,
        height: 235.0,
        legend: (noises.iter().enumerate())
            .map(|(i, (noise, _))| look(i, format!("noise of sd {noise}")))
            .collect(),
        dashed: Some("exact limit on the population, no noise".into()),
        ..Sheet::default()
    };
    sheet.save(out_stem)
}

fn panel(series: &Series, (x, y): (Axis, Axis)) -> Chart {
    let mut chart = Chart::new(series.names.join(", "), (x, "pairs"), (y, "regret"));
    if let Some(limit) = series.limit.filter(|limit| *limit > y.lo) {
        chart.add(Layer::Dashed(SOFT, vec![(x.lo, limit), (x.hi, limit)]));
    }
    for (i, (noise, points)) in series.curves.iter().enumerate().rev() {
        chart.series(&look(i, noise.to_string()), points);
    }
    chart
}
