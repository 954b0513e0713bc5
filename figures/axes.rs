//! A panel with linear axes: grid, ticks, labels, and the way from data to paper.

use std::ops::RangeInclusive;

use anyhow::Result;
use plotters::prelude::*;

use super::paper::{Align, Paper};

/// Ink of titles and labels.
pub const INK: RGBColor = RGBColor(34, 34, 34);
/// Ink of axes and of what explains rather than shows.
pub const SOFT: RGBColor = RGBColor(96, 96, 96);
const GRID: RGBColor = RGBColor(232, 232, 232);

/// A rectangle of the paper that stands for a rectangle of the data.
pub struct Panel {
    /// Left and right edge, in points.
    pub across: (f64, f64),
    /// Upper and lower edge, in points.
    pub down: (f64, f64),
    /// What the left and the right edge stand for.
    pub x: (f64, f64),
    /// What the lower and the upper edge stand for.
    pub y: (f64, f64),
}

impl Panel {
    /// The place on paper of a point of the data; points beyond the panel land on its edge.
    pub fn place(&self, x: f64, y: f64) -> (f64, f64) {
        let part = |v: f64, (lo, hi): (f64, f64)| ((v - lo) / (hi - lo)).clamp(0.0, 1.0);
        let (left, right) = self.across;
        let (top, bottom) = self.down;
        (
            left + part(x, self.x) * (right - left),
            bottom - part(y, self.y) * (bottom - top),
        )
    }

    /// Draws grid, axes, ticks and numbers, with the title above; whole numbers only along x.
    pub fn frame<DB>(&self, paper: &Paper<DB>, title: &str) -> Result<()>
    where
        DB: DrawingBackend,
        DB::ErrorType: 'static,
    {
        let ((left, right), (top, bottom)) = (self.across, self.down);
        let step = step(self.y.1 - self.y.0, (bottom - top) / 42.0);
        for at in ticks(self.y, step) {
            let y = self.place(0.0, at).1;
            paper.line(GRID, 0.75, &[(left, y), (right, y)])?;
            paper.line(SOFT, 1.0, &[(left - 4.0, y), (left, y)])?;
            let label = number(at, step);
            paper.text(&label, 12.0, INK, Align::Right, (left - 8.0, y))?;
        }
        let step = self::step(self.x.1 - self.x.0, ((right - left) / 50.0).min(12.0)).max(1.0);
        for at in ticks(self.x, step) {
            let x = self.place(at, 0.0).0;
            paper.line(SOFT, 1.0, &[(x, bottom), (x, bottom + 4.0)])?;
            let label = number(at, step);
            paper.text(&label, 12.0, INK, Align::Centre, (x, bottom + 14.0))?;
        }
        paper.line(SOFT, 1.0, &[(left, top), (left, bottom), (right, bottom)])?;
        let middle = f64::midpoint(left, right);
        paper.text(title, 13.5, INK, Align::Centre, (middle, top - 14.0))
    }
}

/// The step of 1, 2 or 5 times a power of ten that cuts `span` into at most about `count` parts.
fn step(span: f64, count: f64) -> f64 {
    let least = span / count.max(1.0);
    let power = 10f64.powf(least.log10().floor());
    let times = [1.0, 2.0, 5.0].into_iter().find(|t| t * power >= least);
    times.unwrap_or(10.0) * power
}

fn ticks((lo, hi): (f64, f64), step: f64) -> impl Iterator<Item = f64> {
    let whole: RangeInclusive<i64> = (lo / step).ceil() as i64..=(hi / step).floor() as i64;
    whole.map(move |i| i as f64 * step)
}

/// `at` with the decimals that tell ticks `step` apart.
fn number(at: f64, step: f64) -> String {
    let plain = match -step.log10().floor() {
        places if places.abs() > 5.0 => format!("{at:.1e}"),
        places => format!("{at:.*}", places.max(0.0) as usize),
    };
    plain.replace('-', "−")
}
