//! A heat map: a grid of numbers as colours, its colour bar, and regions of it.

use anyhow::Result;
use plotters::prelude::*;

use super::axes::{Axis, INK, Panel, SOFT};
use super::palette::ramp;
use super::paper::{Align, Paper};

/// Shades that can be told apart; equal neighbours are drawn as one.
const SHADES: f64 = 24.0;
/// Width of the colour bar, and its distance from the panel.
const BAR: (f64, f64) = (16.0, 14.0);

/// A grid of numbers: cell (i, j) spans `x[i]..x[i + 1]` and `y[j]..y[j + 1]`.
pub struct Map {
    /// Edges of the columns, ascending.
    pub x: Vec<f64>,
    /// Edges of the rows, ascending.
    pub y: Vec<f64>,
    /// `values[j][i]`; an empty cell is left white.
    pub values: Vec<Vec<Option<f64>>>,
    /// The colours' axis.
    pub scale: Axis,
    /// Label of the colour bar; no bar where it is empty.
    pub label: String,
    /// Text of each cell, `texts[j][i]`, or nothing at all.
    pub texts: Vec<Vec<String>>,
}

/// Cells of a grid that something is true of, outlined and hatched.
pub struct Region {
    /// Edges of the columns, ascending.
    pub x: Vec<f64>,
    /// Edges of the rows, ascending.
    pub y: Vec<f64>,
    /// `inside[j][i]`.
    pub inside: Vec<Vec<bool>>,
    /// True if it is hatched, false if it is only outlined.
    pub hatched: bool,
}

fn shade(axis: &Axis, value: f64) -> f64 {
    (axis.part(value) * SHADES).round() / SHADES
}

impl Map {
    /// Room to the right of the panel that the bar takes, in points.
    pub fn room(&self) -> f64 {
        if self.label.is_empty() { 0.0 } else { 96.0 }
    }

    /// Draws cells, texts and the bar.
    pub fn draw<DB>(&self, paper: &Paper<DB>, panel: &Panel) -> Result<()>
    where
        DB: DrawingBackend,
        DB::ErrorType: 'static,
    {
        for (j, row) in self.values.iter().enumerate() {
            let mut i = 0;
            while i < row.len() {
                let here = row[i].map(|v| shade(&self.scale, v));
                let same = |v: &&Option<f64>| v.map(|v| shade(&self.scale, v)) == here;
                let run = row[i..].iter().take_while(same).count();
                if let Some(here) = here {
                    let (left, bottom) = panel.place(self.x[i], self.y[j]);
                    let (right, top) = panel.place(self.x[i + run], self.y[j + 1]);
                    // A point more, under the next neighbour, hides the seam between them.
                    let (right, top) = (
                        (right + 1.0).min(panel.across.1),
                        (top - 1.0).max(panel.down.0),
                    );
                    let cell = [(left, bottom), (right, bottom), (right, top), (left, top)];
                    paper.fill(ramp(here), 1.0, &cell)?;
                }
                i += run;
            }
        }
        for (j, row) in self.texts.iter().enumerate() {
            for (i, text) in row.iter().enumerate() {
                let middle = |edges: &[f64], i: usize| f64::midpoint(edges[i], edges[i + 1]);
                let at = panel.place(middle(&self.x, i), middle(&self.y, j));
                let dark = self.values[j][i].is_some_and(|v| self.scale.part(v) > 0.45);
                paper.text(
                    text,
                    13.0,
                    if dark { WHITE } else { INK },
                    Align::Centre,
                    at,
                )?;
            }
        }
        if self.label.is_empty() {
            return Ok(());
        }
        self.bar(paper, panel)
    }

    fn bar<DB>(&self, paper: &Paper<DB>, panel: &Panel) -> Result<()>
    where
        DB: DrawingBackend,
        DB::ErrorType: 'static,
    {
        let (wide, gap) = BAR;
        let left = panel.across.1 + gap;
        let (top, bottom) = panel.down;
        let steps = SHADES as i32;
        for i in 0..=steps {
            // The first and the last shade stand for half a step each, as in the map.
            let edge = |i: f64| bottom - (i / SHADES).clamp(0.0, 1.0) * (bottom - top);
            let (low, high) = (edge(f64::from(i) - 0.5), edge(f64::from(i) + 0.5));
            let cell = [
                (left, low),
                (left + wide, low),
                (left + wide, high),
                (left, high),
            ];
            paper.fill(ramp(f64::from(i) / SHADES), 1.0, &cell)?;
        }
        for (at, label) in self.scale.ticks((bottom - top) / 42.0) {
            let y = bottom - self.scale.part(at) * (bottom - top);
            paper.line(SOFT, 1.0, &[(left + wide, y), (left + wide + 4.0, y)])?;
            paper.text(&label, 12.5, INK, Align::Left, (left + wide + 7.0, y))?;
        }
        let middle = f64::midpoint(top, bottom);
        let at = (left + wide + 56.0, middle);
        paper.text(&self.label, 13.0, INK, Align::Upwards, at)
    }
}

impl Region {
    /// Draws hatching and outline.
    pub fn draw<DB>(&self, paper: &Paper<DB>, panel: &Panel) -> Result<()>
    where
        DB: DrawingBackend,
        DB::ErrorType: 'static,
    {
        let is = |i: i64, j: i64| -> bool {
            let cell = |(i, j): (usize, usize)| self.inside.get(j)?.get(i).copied();
            let index = usize::try_from(i).ok().zip(usize::try_from(j).ok());
            index.and_then(cell).unwrap_or(false)
        };
        let corner = |i: i64, j: i64| panel.place(self.x[i as usize], self.y[j as usize]);
        let (wide, high) = (self.x.len() as i64 - 1, self.y.len() as i64 - 1);
        for j in 0..=high {
            for i in 0..=wide {
                if self.hatched && is(i, j) && (i + j) % 4 == 0 {
                    let ends = [corner(i, j + 1), corner(i + 1, j)];
                    paper.line(INK, 1.0, &ends)?;
                }
                if i < wide && is(i, j) != is(i, j - 1) {
                    paper.line(INK, 1.6, &[corner(i, j), corner(i + 1, j)])?;
                }
                if j < high && is(i, j) != is(i - 1, j) {
                    paper.line(INK, 1.6, &[corner(i, j), corner(i, j + 1)])?;
                }
            }
        }
        Ok(())
    }
}
