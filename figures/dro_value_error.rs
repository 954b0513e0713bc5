//! The error of DRO's policy against the error of its value, and how often minima are several.

use std::path::Path;

use anyhow::Result;
use plotters::prelude::RGBColor;

use super::axes::{Axis, SOFT};
use super::chart::{Chart, Layer};
use super::palette::{PALETTE, look};
use super::paper::Align;
use super::sheet::Sheet;
use crate::observer::Observer;
use crate::rows::dro_value_error::{Count, Minimum};
use crate::rows::spread::frequency;
use crate::rows::table::read;

const X: &str = "error of the value, V − V*";

/// Draws `rows.csv` and `counts.csv` of `rows_dir` into `OUT_STEM.svg` and `OUT_STEM.png`.
pub fn draw(rows_dir: &Path, out_stem: &Path, observer: &dyn Observer) -> Result<()> {
    let minima: Vec<Minimum> = read(&rows_dir.join("rows.csv"), observer)?;
    let counts: Vec<Count> = read(&rows_dir.join("counts.csv"), observer)?;
    let looks = [
        look(0, "error max |ln π/π*| at the lowest minimum"),
        look(4, "at the other minima"),
    ];
    let lines = [
        (PALETTE[1], "eq. 6", line(&minima, |m| m.bound)),
        (PALETTE[2], "sharper", line(&minima, |m| m.sharper)),
    ];
    let sheet = Sheet {
        title: "What an error in DRO’s value costs".into(),
        caption:
            "Left: one bandit of four arms (τ = 1), every local minimum of the loss under a fixed \
                  value V that random starts find; eq. 6 and a sharper bound, both at the lowest \
                  minimum. Shaded: V above V*, where there may be several minima and eq. 6 says \
                  nothing about which one is found. Right: random bandits of four arms, with 95 % \
                  intervals."
                .into(),
        rows: vec![vec![errors(&minima, &looks, &lines), several(&counts)]],
        height: 430.0,
        legend: looks.to_vec(),
        ..Sheet::default()
    };
    sheet.save(out_stem)
}

/// A side of a bound at the lowest minimum.
fn line(minima: &[Minimum], of: fn(&Minimum) -> f64) -> Vec<(f64, f64)> {
    let lowest = minima.iter().filter(|m| m.rank == 0);
    lowest.map(|m| (m.offset, of(m))).collect()
}

type Bound<'a> = (RGBColor, &'a str, Vec<(f64, f64)>);

fn errors(minima: &[Minimum], looks: &[super::legend::Look; 2], lines: &[Bound]) -> Chart {
    let offsets = || minima.iter().map(|m| m.offset);
    let x = Axis::linear(offsets().fold(0.0, f64::min), offsets().fold(0.0, f64::max));
    let highest = lines
        .iter()
        .flat_map(|l| &l.2)
        .map(|p| p.1)
        .fold(1.0, f64::max);
    let y = Axis::linear(0.0, 1.05 * highest);
    let mut chart = Chart::new("one bandit", (x, X), (y, "max |ln π/π*|"));
    let above = [(0.0, 0.0), (x.hi, 0.0), (x.hi, y.hi), (0.0, y.hi)];
    chart.add(Layer::Shade(SOFT, above.to_vec()));
    chart.add(Layer::Words(
        "V > V*".into(),
        Align::Left,
        (0.12, 0.97 * y.hi),
    ));
    for (color, name, points) in lines {
        chart.add(Layer::Dashed(*color, points.clone()));
        if let Some(&(_, end)) = points.last() {
            chart.label(*color, *name, end);
        }
    }
    let others = minima.iter().filter(|m| m.rank > 0);
    chart.add(Layer::Dots(
        looks[1].color,
        others.map(|m| (m.offset, m.error)).collect(),
    ));
    let lowest: Vec<_> = line(minima, |m| m.error);
    if let Some(&(_, end)) = lowest.last() {
        chart.label(looks[0].color, "error", end);
    }
    chart.add(Layer::Dots(looks[0].color, lowest));
    chart
}

fn several(counts: &[Count]) -> Chart {
    let offsets = || counts.iter().map(|c| c.offset);
    let x = Axis::linear(
        offsets().fold(0.0, f64::min) - 0.1,
        offsets().fold(0.0, f64::max) + 0.1,
    );
    let y = Axis::linear(-2.0, 102.0);
    let title = "random bandits with several minima";
    let mut chart = Chart::new(title, (x, X), (y, "share of bandits, %"));
    let above = [(0.0, y.lo), (x.hi, y.lo), (x.hi, y.hi), (0.0, y.hi)];
    chart.add(Layer::Shade(SOFT, above.to_vec()));
    let look = look(4, "several");
    let mut points = Vec::new();
    for c in counts {
        let (p, interval) = frequency(c.several, c.problems);
        let [low, high] = interval.map(|p| 100.0 * p);
        chart.add(Layer::Bar(look.color, c.offset, (low, high)));
        points.push((c.offset, 100.0 * p));
    }
    chart.add(Layer::Line {
        look,
        points,
        marked: true,
    });
    chart
}
