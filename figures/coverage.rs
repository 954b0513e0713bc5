//! Regret against the behaviour laws' mass on the best arm: exact on the population, and on datasets.

use std::path::Path;

use anyhow::Result;

use super::axes::Axis;
use super::chart::Chart;
use super::legend::Look;
use super::palette::look;
use super::sheet::Sheet;
use crate::observer::Observer;
use crate::rows::coverage::{Means, mass, read_exact, read_sampled};

const X: &str = "mass of both laws on the best arm";
const Y: &str = "regret J(π*) − J(π)";
/// Regrets below this are drawn on the edge.
const LEAST: f64 = 1e-8;

/// Draws `rows.csv` and `sampled.csv` of `rows_dir` into `OUT_STEM.svg` and `OUT_STEM.png`.
pub fn draw(rows_dir: &Path, out_stem: &Path, observer: &dyn Observer) -> Result<()> {
    let exact = read_exact(rows_dir, observer)?;
    let sampled = read_sampled(rows_dir, observer)?;
    let masses = exact
        .iter()
        .flat_map(|f| f.curve.keys())
        .map(|&key| mass(key));
    let masses: Vec<f64> = masses.collect();
    let least = masses.iter().copied().fold(1.0, f64::min);
    let most = masses.iter().copied().fold(least, f64::max);
    // A little room beyond the ends, for the markers.
    let x = Axis::log(least / 1.15, most * 1.15);

    let regrets = exact
        .iter()
        .flat_map(|f| f.curve.values())
        .flatten()
        .copied();
    let positive: Vec<f64> = regrets.filter(|r| *r > LEAST).collect();
    let low = positive.iter().copied().fold(1.0, f64::min).max(1e-4);
    let y = Axis::decades(positive, low);
    let mut population = Chart::new(
        "exact, on the population: objectives with a bias",
        (x, X),
        (y, Y),
    );
    let biased: Vec<_> = exact.iter().filter(|f| !f.is_exact()).collect();
    for (index, family) in biased.iter().enumerate() {
        let look = look(index, family.name());
        let points: Vec<_> = (family.curve.iter())
            .filter_map(|(&key, regret)| Some((mass(key), (*regret)?, None)))
            .collect();
        if let Some(&(_, end, _)) = points.last() {
            population.label(look.color, family.name(), end);
        }
        population.series(&look, &points);
    }

    let names: Vec<&str> = {
        let mut names: Vec<&str> = Vec::new();
        for (name, _) in sampled.iter().flat_map(|m| &m.curves) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names
    };
    let means = sampled.iter().flat_map(|m| &m.curves).flat_map(|c| &c.1);
    let y = Axis::decades(means.map(|p| p.1), LEAST);
    // Other looks than above.
    let looks: Vec<Look> = (names.iter().enumerate())
        .map(|(i, name)| look(biased.len() + i, *name))
        .collect();
    let datasets = sampled
        .iter()
        .map(|means| panel(means, &looks, (x, y)))
        .collect();
    let right: Vec<&str> = (exact.iter())
        .filter(|f| f.is_exact())
        .flat_map(|f| f.names.iter().map(String::as_str))
        .collect();
    let sheet = Sheet {
        title: "What each objective makes of laws that rarely show the best arm".into(),
        caption: format!(
            "CoPG’s bandit (β = 0.5), both behaviour laws with the same mass on its best arm. Above: \
             the exact fixed point on the population. Not drawn, because their regret is 0 at every \
             mass: {}. Below: those, on datasets of pairs with rewards and labels, mean regret of the \
             exact fixed point on each dataset; shaded: 95 % band of the mean; regrets below 10⁻⁸ \
             lie on the lower edge. pg-soft-value’s baseline is an \
             expectation over all arms with their rewards known, those never drawn included.",
            if right.is_empty() {
                "none".into()
            } else {
                right.join(", ")
            }
        ),
        rows: vec![vec![population], datasets],
        height: 350.0,
        legend: looks,
        legend_above: 1,
        ..Sheet::default()
    };
    sheet.save(out_stem)
}

fn panel(means: &Means, looks: &[Look], (x, y): (Axis, Axis)) -> Chart {
    let title = format!("datasets of {} pairs", means.samples);
    let mut chart = Chart::new(title, (x, X), (y, Y));
    for (name, points) in means.curves.iter().rev() {
        if let Some(look) = looks.iter().find(|look| look.name == *name) {
            chart.series(look, points);
        }
    }
    chart
}
