//! COPR's lower bound against γ for several masses, and where γ goes in training.

use std::path::Path;

use anyhow::Result;

use super::axes::{Axis, SOFT};
use super::chart::{Chart, Layer};
use super::palette::look;
use super::sheet::Sheet;
use crate::observer::Observer;
use crate::rows::copr_bound::{Bound, Moved};
use crate::rows::table::read;

/// The largest γ drawn; a small p reaches 1/p.
const WIDEST: f64 = 2.5;

/// Draws `rows.csv` and `motion.csv` of `rows_dir` into `OUT_STEM.svg` and `OUT_STEM.png`.
pub fn draw(rows_dir: &Path, out_stem: &Path, observer: &dyn Observer) -> Result<()> {
    let bounds: Vec<Bound> = read(&rows_dir.join("rows.csv"), observer)?;
    let moved: Vec<Moved> = read(&rows_dir.join("motion.csv"), observer)?;
    let sheet = Sheet {
        title: "COPR’s policy when its mass on the ranked responses is γ times that of π*".into(),
        caption: "Left: the least KL(π, π*) (eq. 24) by p, the mass of the ranked responses under π*; a \
                  curve ends at γ = 1/p, or leaves the view. Losing mass costs more than gaining it only \
                  where p > ½. Right: gradient flow of the fit on a bandit of six arms, three ranked: the \
                  fit alone moves γ a little and stops short of 1; with the best response’s likelihood \
                  (SFT) of any weight all mass goes to the ranked ones. Dashed: γ = 1 and γ = 1/p."
            .into(),
        legend: masses(&bounds)
            .map(|(i, p)| look(i, format!("p = {p}")))
            .collect(),
        rows: vec![vec![curves(&bounds), flow(&moved)]],
        height: 430.0,
        ..Sheet::default()
    };
    sheet.save(out_stem)
}

/// The masses with the places of their looks.
fn masses(bounds: &[Bound]) -> impl Iterator<Item = (usize, f64)> {
    let mut masses: Vec<f64> = bounds.iter().map(|b| b.p).collect();
    masses.dedup();
    masses.into_iter().enumerate()
}

fn curves(bounds: &[Bound]) -> Chart {
    let x = Axis::linear(0.0, WIDEST);
    let seen = || bounds.iter().filter(|b| b.gamma <= WIDEST);
    let y = Axis::linear(0.0, 1.04 * seen().map(|b| b.divergence).fold(0.1, f64::max));
    let mut chart = Chart::new("lower bound", (x, "γ"), (y, "KL(π, π*), nats"));
    for (i, p) in masses(bounds) {
        let look = look(i, format!("p = {p}"));
        let points = seen().filter(|b| b.p == p).map(|b| (b.gamma, b.divergence));
        let points: Vec<_> = points.collect();
        // Some points are marked, so that lines differ without colour too.
        let marks: Vec<_> = points
            .iter()
            .copied()
            .skip(7 * i)
            .step_by(points.len() / 4 + 1)
            .collect();
        chart.add(Layer::Line {
            look: look.clone(),
            points,
            marked: false,
        });
        chart.add(Layer::Points(look, marks));
    }
    chart
}

fn flow(moved: &[Moved]) -> Chart {
    let mut weights: Vec<f64> = moved.iter().map(|m| m.likelihood).collect();
    weights.dedup();
    let last = moved.iter().map(|m| m.time).fold(1.0, f64::max);
    let most = moved.iter().map(|m| m.most).fold(1.0, f64::max);
    let x = Axis::log(0.1, last);
    let y = Axis::linear(0.0, 1.08 * most);
    let mut chart = Chart::new(
        "gradient flow of the fit",
        (x, "time (1/learning rate)"),
        (y, "γ"),
    );
    for at in [1.0, most] {
        chart.add(Layer::Dashed(SOFT, vec![(x.lo, at), (x.hi, at)]));
    }
    for (i, weight) in weights.into_iter().enumerate() {
        let name = if weight == 0.0 {
            "fit alone".into()
        } else {
            format!("SFT × {weight}")
        };
        // Other looks than on the left.
        let look = look(5 + i, name);
        let points = moved
            .iter()
            .filter(|m| m.likelihood == weight && m.time >= x.lo);
        let points: Vec<_> = points.map(|m| (m.time, m.gamma)).collect();
        if let Some(&(_, end)) = points.last() {
            chart.label(look.color, look.name.clone(), end);
        }
        chart.add(Layer::Line {
            look,
            points,
            marked: false,
        });
    }
    chart
}
