//! IPO's regret over a slice of behaviour laws, and how often it ranks arms wrongly.

use std::path::Path;

use anyhow::{Result, ensure};
use plotters::prelude::{BLACK, WHITE};

use super::axes::Axis;
use super::chart::{Chart, Layer};
use super::map::{Map, Region};
use super::palette::look;
use super::sheet::Sheet;
use crate::observer::Observer;
use crate::rows::ipo_bias::{Cell, Ranking};
use crate::rows::spread::frequency;
use crate::rows::table::read;

/// Draws `rows.csv` and `rankings.csv` of `rows_dir` into `OUT_STEM.svg` and `OUT_STEM.png`.
pub fn draw(rows_dir: &Path, out_stem: &Path, observer: &dyn Observer) -> Result<()> {
    let cells: Vec<Cell> = read(&rows_dir.join("rows.csv"), observer)?;
    let rankings: Vec<Ranking> = read(&rows_dir.join("rankings.csv"), observer)?;
    let sheet = Sheet {
        title: "IPO’s exact limit depends on who was compared with whom".into(),
        caption: "Left: regret of IPO’s fixed point on one bandit of four arms, no sampling; each \
                  behaviour law moves from P (0) to Q (1). Hatched: IPO raises a worse arm most. On \
                  the diagonal both laws are equal and the ranking is right. Right: how often random \
                  problems with independent laws are ranked wrongly, with 95 % intervals; with equal \
                  laws not once (black)."
            .into(),
        rows: vec![vec![map(&cells)?, frequencies(&rankings)]],
        height: 430.0,
        ..Sheet::default()
    };
    sheet.save(out_stem)
}

fn map(cells: &[Cell]) -> Result<Chart> {
    let side = (cells.len() as f64).sqrt().round() as usize;
    ensure!(
        side * side == cells.len(),
        "rows.csv: {} cells are no square; run the sim again",
        cells.len()
    );
    let edges: Vec<f64> = (0..=side).map(|i| i as f64 / side as f64).collect();
    let rows = || cells.chunks(side);
    let regrets = || cells.iter().map(|c| c.regret);
    let (least, most) = (
        regrets().fold(f64::MAX, f64::min),
        regrets().fold(0.0, f64::max),
    );
    let axis = Axis::linear(0.0, 1.0);
    let labels = ["law of y: μ₁, from P to Q", "law of y′: μ₂, from P to Q"];
    let mut chart = Chart::new("regret over laws", (axis, labels[0]), (axis, labels[1]));
    chart.add(Layer::Map(Map {
        x: edges.clone(),
        y: edges.clone(),
        values: rows()
            .map(|row| row.iter().map(|c| Some(c.regret)).collect())
            .collect(),
        scale: Axis::linear((20.0 * least).floor() / 20.0, (20.0 * most).ceil() / 20.0),
        label: "regret J(π*) − J(π)".into(),
        texts: Vec::new(),
    }));
    chart.add(Layer::Region(Region {
        x: edges.clone(),
        y: edges,
        inside: rows()
            .map(|row| row.iter().map(|c| c.best != 0).collect())
            .collect(),
        hatched: true,
    }));
    chart.add(Layer::Dashed(WHITE, vec![(0.0, 0.0), (1.0, 1.0)]));
    Ok(chart)
}

fn frequencies(rankings: &[Ranking]) -> Chart {
    let arms = rankings.iter().map(|r| r.arms as f64);
    let last = arms.fold(2.0, f64::max);
    let highest = rankings
        .iter()
        .map(|r| 100.0 * frequency(r.inverted, r.problems).1[1]);
    let y = Axis::linear(-1.0, 1.04 * highest.fold(1.0, f64::max));
    let x = Axis::whole(1.5, last + 0.5);
    let mut chart = Chart::new(
        "random problems ranked wrongly",
        (x, "number of arms"),
        (y, "share of problems, %"),
    );
    type Hits = fn(&Ranking) -> u64;
    let hits: [(&str, Hits); 2] = [
        ("some pair inverted", |r| r.inverted),
        ("wrong best arm", |r| r.wrong_best),
    ];
    for (index, (name, hit)) in hits.into_iter().enumerate() {
        let look = look(index, name);
        let mut points = Vec::new();
        for r in rankings.iter().filter(|r| !r.equal_laws) {
            let (p, interval) = frequency(hit(r), r.problems);
            let [low, high] = interval.map(|p| 100.0 * p);
            chart.add(Layer::Bar(look.color, r.arms as f64, (low, high)));
            points.push((r.arms as f64, 100.0 * p));
        }
        if let Some(&(_, y)) = points.last() {
            chart.label(look.color, name, y);
        }
        chart.add(Layer::Line {
            look,
            points,
            marked: true,
        });
    }
    let mut equal = look(0, "equal laws");
    equal.color = BLACK;
    let zero = (rankings.iter().filter(|r| r.equal_laws))
        .map(|r| (r.arms as f64, 100.0 * frequency(r.inverted, r.problems).0));
    chart.add(Layer::Points(equal, zero.collect()));
    chart
}
