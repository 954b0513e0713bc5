//! A panel: grid, ticks, labels, and the way from data to paper, along linear or logarithmic axes.

use std::ops::RangeInclusive;

use anyhow::Result;
use plotters::prelude::*;

use super::paper::{Align, Paper};

/// Ink of titles and labels.
pub const INK: RGBColor = RGBColor(34, 34, 34);
/// Ink of axes and of what explains rather than shows.
pub const SOFT: RGBColor = RGBColor(96, 96, 96);
const GRID: RGBColor = RGBColor(232, 232, 232);
const EM: f64 = 12.5;

/// Scale of an edge of a panel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Axis {
    /// Value at the left or lower end.
    pub lo: f64,
    /// Value at the right or upper end.
    pub hi: f64,
    scale: Scale,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Scale {
    Linear,
    /// Linear, with ticks at whole numbers only.
    Whole,
    /// Linear, without ticks.
    Bare,
    Log,
}

/// A tick: where, and what is written there; nothing at a minor one.
pub type Tick = (f64, String);

impl Axis {
    /// Equal steps.
    pub fn linear(lo: f64, hi: f64) -> Self {
        let scale = Scale::Linear;
        Self { lo, hi, scale }
    }

    /// Equal steps around the values, with so much room at either end; around values that are all the
    /// same, or nearly, a tenth of them.
    pub fn around(values: impl IntoIterator<Item = f64>, room: f64) -> Self {
        let (mut lo, mut hi) = (f64::MAX, f64::MIN);
        for v in values {
            (lo, hi) = (lo.min(v), hi.max(v));
        }
        let size = lo.abs().max(hi.abs());
        let more = if hi - lo > 1e-9 * size {
            room * (hi - lo)
        } else if size < 1e-300 {
            1.0
        } else {
            0.1 * size
        };
        Self::linear(lo - more, hi + more)
    }

    /// Equal steps, told by whole numbers.
    pub fn whole(lo: f64, hi: f64) -> Self {
        let scale = Scale::Whole;
        Self { lo, hi, scale }
    }

    /// Equal steps that nothing tells: what stands along them has names.
    pub fn bare(lo: f64, hi: f64) -> Self {
        let scale = Scale::Bare;
        Self { lo, hi, scale }
    }

    /// Equal factors; `lo` is positive.
    pub fn log(lo: f64, hi: f64) -> Self {
        let scale = Scale::Log;
        Self { lo, hi, scale }
    }

    /// Equal factors, from a power of ten to a power of ten around the positive `values`, and not
    /// below `least`: what is smaller lands on the edge.
    pub fn decades(values: impl IntoIterator<Item = f64>, least: f64) -> Self {
        let (mut lo, mut hi) = (f64::INFINITY, least);
        for v in values.into_iter().filter(|v| v.is_finite()) {
            (lo, hi) = (lo.min(v.max(least)), hi.max(v));
        }
        let power = |v: f64, round: fn(f64) -> f64| 10f64.powf(round(v.log10()));
        let lo = power(lo.min(hi), |p| (p + 1e-9).floor());
        Self::log(lo, power(hi, |p| (p - 1e-9).ceil()).max(10.0 * lo))
    }

    /// Position of `v` along the axis, from 0 to 1; values beyond land on an end.
    pub fn part(&self, v: f64) -> f64 {
        let along = match self.scale {
            Scale::Linear | Scale::Whole | Scale::Bare => (v - self.lo) / (self.hi - self.lo),
            Scale::Log if v <= 0.0 => 0.0,
            Scale::Log => (v / self.lo).ln() / (self.hi / self.lo).ln(),
        };
        along.clamp(0.0, 1.0)
    }

    /// Ticks, at most about `count` of them labelled.
    pub fn ticks(&self, count: f64) -> Vec<Tick> {
        let (lo, hi) = (self.lo, self.hi);
        match self.scale {
            Scale::Log => self.powers(count),
            Scale::Bare => Vec::new(),
            Scale::Linear | Scale::Whole => {
                let step = match self.scale {
                    // A handful of whole numbers are all told.
                    Scale::Whole if hi - lo <= 6.0 => 1.0,
                    Scale::Whole => step(hi - lo, count).max(1.0),
                    _ => step(hi - lo, count),
                };
                let slack = 1e-9 * step;
                let whole: RangeInclusive<i64> =
                    ((lo - slack) / step).ceil() as i64..=((hi + slack) / step).floor() as i64;
                let at = whole.map(|i| i as f64 * step);
                at.map(|at| (at, number(at, step))).collect()
            }
        }
    }

    /// Powers of ten, the labelled ones evenly apart; 2 and 5 times them where there are few.
    fn powers(&self, count: f64) -> Vec<Tick> {
        let first = (self.lo.log10() - 1e-9).ceil() as i32;
        let last = (self.hi.log10() + 1e-9).floor() as i32;
        let every = (f64::from(last - first + 1) / count).ceil().max(1.0) as i32;
        let mut ticks = Vec::new();
        for power in first - 1..=last {
            let labelled = (power - first) % every == 0 && power >= first;
            let few = f64::from(last - first + 1) <= count / 2.5;
            for times in [1.0, 2.0, 5.0] {
                let at = times * 10f64.powi(power);
                if (self.lo * (1.0 - 1e-9)..=self.hi * (1.0 + 1e-9)).contains(&at) {
                    let label = match (times > 1.0, labelled) {
                        (false, true) => decade(power),
                        (true, _) if few => factor(times, power),
                        (true, _) => continue,
                        (false, false) => String::new(),
                    };
                    ticks.push((at, label));
                }
            }
        }
        ticks
    }
}

/// A rectangle of the paper that stands for a rectangle of the data.
pub struct Panel {
    /// Left and right edge, in points.
    pub across: (f64, f64),
    /// Upper and lower edge, in points.
    pub down: (f64, f64),
    /// Scale of the horizontal axis.
    pub x: Axis,
    /// Scale of the vertical axis.
    pub y: Axis,
}

impl Panel {
    /// The place on paper of a point of the data; points beyond the panel land on its edge.
    pub fn place(&self, x: f64, y: f64) -> (f64, f64) {
        let ((left, right), (top, bottom)) = (self.across, self.down);
        (
            left + self.x.part(x) * (right - left),
            bottom - self.y.part(y) * (bottom - top),
        )
    }

    /// Ticks up an axis of that height.
    pub fn rows(y: &Axis, high: f64) -> Vec<Tick> {
        y.ticks(high / 42.0)
    }

    /// Draws grid, axes, ticks and numbers.
    pub fn frame<DB>(&self, paper: &Paper<DB>) -> Result<()>
    where
        DB: DrawingBackend,
        DB::ErrorType: 'static,
    {
        let ((left, right), (top, bottom)) = (self.across, self.down);
        for (at, label) in Self::rows(&self.y, bottom - top) {
            let y = self.place(self.x.lo, at).1;
            paper.line(GRID, 0.75, &[(left, y), (right, y)])?;
            paper.line(SOFT, 1.0, &[(left - 4.0, y), (left, y)])?;
            paper.text(&label, EM, INK, Align::Right, (left - 8.0, y))?;
        }
        for (at, label) in self.x.ticks(((right - left) / 50.0).min(12.0)) {
            let x = self.place(at, self.y.lo).0;
            paper.line(SOFT, 1.0, &[(x, bottom), (x, bottom + 4.0)])?;
            paper.text(&label, EM, INK, Align::Centre, (x, bottom + 15.0))?;
        }
        paper.line(SOFT, 1.0, &[(left, top), (left, bottom), (right, bottom)])
    }
}

/// The step of 1, 2 or 5 times a power of ten that cuts `span` into at most about `count` parts.
fn step(span: f64, count: f64) -> f64 {
    let least = span / count.max(1.0);
    let power = 10f64.powf(least.log10().floor());
    let times = [1.0, 2.0, 5.0].into_iter().find(|t| t * power >= least);
    times.unwrap_or(10.0) * power
}

/// `at` with the decimals that tell ticks `step` apart.
fn number(at: f64, step: f64) -> String {
    let plain = match -step.log10().floor() {
        places if places.abs() > 5.0 => {
            // As many digits as tell ticks apart, however close they lie.
            let digits = at.abs().max(step).log10().floor() + places;
            format!("{at:.*e}", digits.clamp(1.0, 17.0) as usize)
        }
        places => format!("{at:.*}", places.max(0.0) as usize),
    };
    plain.replace('-', "−")
}

/// A power of ten in words: plain near 1, with a raised exponent elsewhere.
fn decade(power: i32) -> String {
    match power {
        -2..=3 => factor(1.0, power),
        _ => format!("10{}", raised(power)),
    }
}

fn factor(times: f64, power: i32) -> String {
    match power {
        -3..=3 => format!("{:.*}", -power.min(0) as usize, times * 10f64.powi(power)),
        _ => format!("{times}·10{}", raised(power)),
    }
}

fn raised(power: i32) -> String {
    let digit = |c: char| match c {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        '4' => '⁴',
        '5' => '⁵',
        '6' => '⁶',
        '7' => '⁷',
        '8' => '⁸',
        '9' => '⁹',
        _ => '⁰',
    };
    power.to_string().chars().map(digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: Axis, count: f64) -> Vec<String> {
        let ticks = axis.ticks(count).into_iter().map(|t| t.1);
        ticks.filter(|label| !label.is_empty()).collect()
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(
            labels(Axis::linear(0.0, 0.6), 4.0),
            ["0.0", "0.2", "0.4", "0.6"]
        );
        assert_eq!(labels(Axis::whole(2.0, 4.0), 10.0), ["2", "3", "4"]);
        assert_eq!(
            labels(Axis::log(1e-6, 1.0), 4.0),
            ["10⁻⁶", "10⁻⁴", "0.01", "1"]
        );
        assert_eq!(labels(Axis::log(0.3, 3.0), 10.0), ["0.5", "1", "2"]);
    }

    #[test]
    fn no_two_ticks_are_called_the_same() {
        for at in [0.0, 1.0, -3.0, 1e-300, 0.123_456_789, 1e6, 2e15, 1e300] {
            for share in [0.0, 1e-14, 1e-9, 1e-6, 1e-3, 1.0, 1e3] {
                let axis = Axis::around([at, at + share * at], 0.04);
                assert!(
                    axis.lo < axis.hi && axis.lo <= at && at <= axis.hi,
                    "{at} {share}"
                );
                let mut all = labels(axis, 6.0);
                let count = all.len();
                all.dedup();
                assert!(all.len() == count && count > 1, "{at} {share}: {all:?}");
            }
        }
    }

    #[test]
    fn logarithms_stop_at_the_edge() {
        let axis = Axis::decades([0.0, 3e-4, 0.2], 1e-6);
        assert_eq!((axis.lo, axis.hi), (1e-6, 1.0));
        assert_eq!(
            (axis.part(0.0), axis.part(-1.0), axis.part(5.0)),
            (0.0, 0.0, 1.0)
        );
        assert!((axis.part(1e-3) - 0.5).abs() < 1e-12);
        let flat = Axis::decades([0.1, 0.1], 1e-6);
        assert_eq!((flat.lo, flat.hi), (0.1, 1.0));
        assert!(Axis::decades([], 1e-3).hi > 1e-3);
    }
}
