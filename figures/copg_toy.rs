//! The regret of each objective along training on a bandit (CoPG's by default), one panel per
//! learning rate, with the exact limit each one heads for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Result, ensure};
use plotters::prelude::*;

use super::axes::{Axis, INK, Panel, SOFT};
use super::bands::{Point, points, seeds};
use super::canvas::{Draw, render};
use super::legend::{Legend, Look, Marker};
use super::paper::{Align, Paper};
use crate::observer::Observer;
use crate::rows::copg_toy::{MOST_RATES, Sweep, read_limits, read_rows};

const TITLE: &str = "Regret along training on sampled pairs";
const WIDTH: f64 = 1200.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 24.0;
const GAP: f64 = 60.0;
/// Height of a row of panels, and what of it stands above and below a panel.
const ROW: (f64, f64, f64) = (428.0, 40.0, 52.0);
const COLUMNS: usize = 3;
const MARKERS: usize = 4;
/// A dash of a limit, and the stretch it stands in.
const DASH: (f64, f64) = (8.0, 13.0);

/// The objectives CoPG's paper compares, in Okabe and Ito's colours.
const KNOWN: [(&str, &str, RGBColor, f64, Marker); 5] = [
    ("copg", "CoPG", RGBColor(0, 114, 178), 3.2, Marker::Disk),
    ("ipo", "IPO", RGBColor(230, 159, 0), 1.8, Marker::Square),
    (
        "pg-zero",
        "PG, b = 0",
        RGBColor(0, 158, 115),
        1.8,
        Marker::Up,
    ),
    (
        "pg-value",
        "PG, b = Eπ[R]",
        RGBColor(213, 94, 0),
        1.8,
        Marker::Diamond,
    ),
    (
        "pg-soft-value",
        "PG, b = Eπ[Rᵦ]",
        RGBColor(204, 121, 167),
        1.8,
        Marker::Down,
    ),
];
/// Colours for any others.
const SPARE: [RGBColor; 3] = [
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
    RGBColor(148, 148, 148),
];
const SPARE_MARKERS: [Marker; 4] = [Marker::Square, Marker::Up, Marker::Diamond, Marker::Down];

/// Draws `rows.csv` and `limits.csv` of `rows_dir` into `OUT_STEM.svg` and `OUT_STEM.png`.
pub fn draw(rows_dir: &Path, out_stem: &Path, observer: &dyn Observer) -> Result<()> {
    let sweeps = read_rows(&rows_dir.join("rows.csv"), observer)?;
    let limits = read_limits(&rows_dir.join("limits.csv"), observer)?;
    let toy = Toy::new(&sweeps, limits)?;
    let rows = toy.panels.len().div_ceil(COLUMNS);
    let height = toy.head() + ROW.0 * rows as f64;
    render(out_stem, (WIDTH as u32, height.ceil() as u32), &toy)
}

/// The curves of a panel by place in the legend, and the panel's title.
struct Rate {
    title: String,
    curves: Vec<(usize, Vec<Point>)>,
}

struct Toy {
    panels: Vec<Rate>,
    /// How each objective looks, and its limit, in the order of the legend.
    looks: Vec<(Look, Option<f64>)>,
    legend: Legend,
    notes: Vec<String>,
    /// The last epoch, the least regret (0 unless below) and the largest in view.
    last: f64,
    least: f64,
    most: f64,
}

impl Toy {
    fn new(sweeps: &[Sweep], limits: BTreeMap<String, f64>) -> Result<Self> {
        ensure!(
            sweeps.len() <= MOST_RATES,
            "{} learning rates are more than the {MOST_RATES} panels a figure holds",
            sweeps.len()
        );
        let names = order(sweeps.iter().flat_map(|s| s.curves.keys()));
        let panels: Vec<_> = sweeps.iter().map(|sweep| rate(sweep, &names)).collect();
        let points = || panels.iter().flat_map(|p| &p.curves).flat_map(|(_, c)| c);
        let last = points().map(|p| p.epoch).fold(0.0, f64::max);
        let largest = points().map(|p| p.mean.abs()).fold(0.0, f64::max);
        ensure!(
            largest < 1e100,
            "a regret of {largest:e} is too large to draw"
        );
        let highest = points().map(|p| p.mean).fold(0.0, f64::max);
        let least = points().map(|p| p.mean).fold(0.0, f64::min);
        let looks: Vec<_> = looks(&names)
            .zip(&names)
            .map(|(look, name)| (look, limits.get(*name).copied()))
            .collect();
        let near = |limit: &f64| *limit <= 1.3 * highest;
        let shown = || looks.iter().filter_map(|(_, limit)| *limit).filter(near);
        let bands = points().map(|p| p.mean + p.half.unwrap_or(0.0));
        let most = shown().chain(bands.filter(near)).fold(highest, f64::max);
        let beyond: Vec<_> = looks
            .iter()
            .filter_map(|(look, limit)| Some((look, limit.filter(|l| !near(l))?)))
            .map(|(look, limit)| format!("{} at {limit:.3}", look.name))
            .collect();
        let mut notes = vec![seeds(sweeps)];
        match beyond.len() {
            0 => {}
            1..=5 => notes.push(format!("limits above the view: {}", beyond.join("; "))),
            many => notes.push(format!("{many} limits are above the view")),
        }
        let dashed = shown().next().map(|_| "dashed: exact limit");
        let room = WIDTH - 2.0 * RIGHT;
        let legend = Legend::set(looks.iter().map(|(l, _)| l), dashed, room)?;
        Ok(Self {
            panels,
            looks,
            legend,
            notes,
            last: if last > 0.0 { last } else { 1.0 },
            least,
            most: if most > 0.0 { most } else { 1.0 },
        })
    }

    /// Height of what stands above the panels.
    fn head(&self) -> f64 {
        44.0 + 20.0 * self.notes.len() as f64 + 6.0 + self.legend.height()
    }

    fn curves<DB>(&self, paper: &Paper<DB>, panel: &Panel, rate: &Rate) -> Result<()>
    where
        DB: DrawingBackend,
        DB::ErrorType: 'static,
    {
        for (which, curve) in &rate.curves {
            let edge = |p: &Point, side: f64| {
                let y = p.mean + side * p.half.unwrap_or(0.0);
                panel.place(p.epoch, y)
            };
            let upper = curve.iter().map(|p| edge(p, 1.0));
            let lower = curve.iter().rev().map(|p| edge(p, -1.0));
            if curve.len() > 1 && curve.iter().any(|p| p.half.is_some()) {
                let outline: Vec<_> = upper.chain(lower).collect();
                paper.fill(self.looks[*which].0.color, 0.2, &outline)?;
            }
        }
        self.limits(paper, panel, rate)?;
        // The first in the legend is drawn last, on top.
        for (which, curve) in rate.curves.iter().rev() {
            let look = &self.looks[*which].0;
            let line: Vec<_> = curve.iter().map(|p| panel.place(p.epoch, p.mean)).collect();
            paper.line(look.color, look.thick, &line)?;
        }
        for (which, curve) in rate.curves.iter().rev() {
            let shift = (*which as f64 + 0.5) / self.looks.len() as f64;
            let marked: BTreeSet<_> = (0..MARKERS)
                .map(|i| (i as f64 + shift) / MARKERS as f64)
                .map(|part| (part * (curve.len() - 1) as f64).round() as usize)
                .collect();
            for point in marked.into_iter().filter_map(|i| curve.get(i)) {
                let at = panel.place(point.epoch, point.mean);
                self.looks[*which].0.mark(paper, at)?;
            }
        }
        Ok(())
    }

    /// Dashes across the panel at each limit in view; those that coincide take turns.
    fn limits<DB>(&self, paper: &Paper<DB>, panel: &Panel, rate: &Rate) -> Result<()>
    where
        DB: DrawingBackend,
        DB::ErrorType: 'static,
    {
        let shown = rate.curves.iter().filter_map(|(which, _)| {
            let (look, limit) = &self.looks[*which];
            limit.filter(|l| *l <= self.most).map(|l| (look, l))
        });
        let shown: Vec<_> = shown.collect();
        for (i, (look, limit)) in shown.iter().enumerate() {
            let same = |(_, other): &&(&Look, f64)| (other - limit).abs() < 0.004 * self.most;
            let turns = shown.iter().filter(same).count();
            let turn = shown[..i].iter().filter(same).count();
            let y = panel.place(0.0, *limit).1;
            let ends = ((panel.across.0, y), (panel.across.1, y));
            let (on, period) = DASH;
            let dash = (on, period * turns as f64, period * turn as f64);
            paper.dashes(look.color, 1.5, ends, dash)?;
        }
        Ok(())
    }
}

impl Draw for Toy {
    fn draw<DB>(&self, paper: &Paper<DB>) -> Result<()>
    where
        DB: DrawingBackend,
        DB::ErrorType: 'static,
    {
        let (wide, _) = paper.size();
        paper.text(TITLE, 18.0, INK, Align::Centre, (wide / 2.0, 26.0))?;
        for (note, y) in self.notes.iter().zip([52.0, 72.0]) {
            paper.text(note, 12.5, SOFT, Align::Centre, (wide / 2.0, y))?;
        }
        let legend = self.head() - self.legend.height();
        self.legend.draw(paper, wide / 2.0, legend)?;
        let columns = self.panels.len().min(COLUMNS);
        let room = wide - LEFT - RIGHT - GAP * (columns - 1) as f64;
        let each = room / columns as f64;
        let (height, above, below) = ROW;
        for (i, rate) in self.panels.iter().enumerate() {
            let left = LEFT + (i % columns) as f64 * (each + GAP);
            let top = self.head() + (i / columns) as f64 * height;
            let panel = Panel {
                across: (left, left + each),
                down: (top + above, top + height - below),
                x: Axis::whole(0.0, 1.03 * self.last),
                // A little below zero, where lines that reach it stay in sight.
                y: Axis::linear(self.least - 0.025 * self.most, 1.06 * self.most),
            };
            panel.frame(paper)?;
            let above = (left + each / 2.0, panel.down.0 - 14.0);
            paper.text(&rate.title, 13.5, INK, Align::Centre, above)?;
            self.curves(paper, &panel, rate)?;
            let (middle, bottom) = (left + each / 2.0, panel.down.1);
            paper.text("epoch", 13.0, INK, Align::Centre, (middle, bottom + 34.0))?;
            if i % columns == 0 {
                let middle = f64::midpoint(panel.down.0, bottom);
                let label = "regret J(π*) − J(π)";
                paper.text(label, 13.0, INK, Align::Upwards, (24.0, middle))?;
            }
        }
        Ok(())
    }
}

/// The objectives of the paper first and in its order, then any others.
fn order<'a>(names: impl Iterator<Item = &'a String>) -> Vec<&'a str> {
    let names: BTreeSet<_> = names.map(String::as_str).collect();
    let known = KNOWN.iter().map(|k| k.0).filter(|k| names.contains(k));
    let others = names.iter().filter(|n| KNOWN.iter().all(|k| k.0 != **n));
    known.chain(others.copied()).collect()
}

fn looks(names: &[&str]) -> impl Iterator<Item = Look> {
    let mut others = 0;
    names.iter().map(move |name| {
        if let Some(&(_, name, color, thick, marker)) = KNOWN.iter().find(|k| k.0 == *name) {
            let name = name.to_owned();
            return Look {
                name,
                color,
                thick,
                marker,
            };
        }
        others += 1;
        Look {
            name: (*name).to_owned(),
            color: SPARE[(others - 1) % SPARE.len()],
            thick: 1.8,
            marker: SPARE_MARKERS[(others - 1) % SPARE_MARKERS.len()],
        }
    })
}

fn rate(sweep: &Sweep, names: &[&str]) -> Rate {
    let curve = |(which, name): (usize, &&str)| Some((which, points(sweep.curves.get(*name)?)));
    Rate {
        title: match sweep.lr {
            lr if lr < 1e-4 => format!("learning rate {lr:e}"),
            lr => format!("learning rate {lr}"),
        },
        curves: names.iter().enumerate().filter_map(curve).collect(),
    }
}
