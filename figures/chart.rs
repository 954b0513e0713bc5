//! A chart: a panel, what is drawn in it in order, and labels at the ends of lines.

use std::f64::consts::TAU;

use anyhow::Result;
use plotters::prelude::*;

use super::axes::{Axis, INK, Panel, SOFT};
use super::legend::Look;
use super::map::{Map, Region};
use super::paper::{Align, Paper, width, wrap};
use crate::rows::spread::Point;

/// Space that tick numbers and the axis' name take on the left at least, and below.
const MARGIN: (f64, f64) = (74.0, 48.0);
/// Space that the panel keeps above, and a line of the chart's title there.
const ABOVE: f64 = 15.0;
/// See [`ABOVE`].
pub const TITLE_LINE: f64 = 17.0;
const TITLE: f64 = 14.0;
const EM: f64 = 13.0;
/// Distance of two lines of labels.
const LEADING: f64 = 17.0;
/// A dash of a line, and the stretch it stands in.
const DASH: (f64, f64) = (7.0, 11.5);

/// Something drawn in a panel.
pub enum Layer {
    /// A line through points, a marker at each if `marked`.
    Line {
        /// Its look.
        look: Look,
        /// The points, in order.
        points: Vec<(f64, f64)>,
        /// Whether its points are marked.
        marked: bool,
    },
    /// A line through points, in dashes.
    Dashed(RGBColor, Vec<(f64, f64)>),
    /// Small disks.
    Dots(RGBColor, Vec<(f64, f64)>),
    /// Markers alone.
    Points(Look, Vec<(f64, f64)>),
    /// The stretch between two curves: x, lower, upper.
    Band(RGBColor, Vec<(f64, f64, f64)>),
    /// An upright stroke at x from y to y.
    Bar(RGBColor, f64, (f64, f64)),
    /// A filled outline, nearly transparent.
    Shade(RGBColor, Vec<(f64, f64)>),
    /// Words at a place of the data.
    Words(String, Align, (f64, f64)),
    /// A heat map.
    Map(Map),
    /// Outlined cells.
    Region(Region),
}

/// A panel and what is in it.
pub struct Chart {
    /// Set above it.
    pub title: String,
    /// Its horizontal axis.
    pub x: Axis,
    /// Its vertical axis.
    pub y: Axis,
    /// Name of the horizontal axis.
    pub x_label: String,
    /// Name of the vertical axis.
    pub y_label: String,
    /// Drawn from the first to the last.
    pub layers: Vec<Layer>,
    /// Words to the right of the panel, at heights of the data, in the colour of what they name.
    pub labels: Vec<(RGBColor, String, f64)>,
}

impl Chart {
    /// An empty chart.
    pub fn new(title: impl Into<String>, x: (Axis, &str), y: (Axis, &str)) -> Self {
        Self {
            title: title.into(),
            x: x.0,
            y: y.0,
            x_label: x.1.into(),
            y_label: y.1.into(),
            layers: Vec::new(),
            labels: Vec::new(),
        }
    }

    /// Adds a layer.
    pub fn add(&mut self, layer: Layer) {
        self.layers.push(layer);
    }

    /// Adds a line, marked, with the band of its mean where it has one.
    pub fn series(&mut self, look: &Look, points: &[Point]) {
        if points.len() > 1 && points.iter().any(|p| p.2.is_some()) {
            let half = |h: Option<f64>| h.unwrap_or(0.0);
            let edges = points
                .iter()
                .map(|&(x, y, h)| (x, y - half(h), y + half(h)));
            self.add(Layer::Band(look.color, edges.collect()));
        }
        self.add(Layer::Line {
            look: look.clone(),
            points: points.iter().map(|&(x, y, _)| (x, y)).collect(),
            marked: true,
        });
    }

    /// Names a line at its right end.
    pub fn label(&mut self, color: RGBColor, words: impl Into<String>, y: f64) {
        self.labels.push((color, words.into(), y));
    }

    /// Space that the numbers up a panel of that height and the axis' name take on the left, in points.
    fn left(&self, high: f64) -> Result<f64> {
        let mut room = MARGIN.0;
        for (_, label) in Panel::rows(&self.y, high) {
            room = room.max(30.0 + width(&label, EM)?);
        }
        Ok(room)
    }

    /// Space that labels and the colour bar take on the right, in points.
    fn right(&self) -> Result<f64> {
        let mut room: f64 = 12.0;
        for (_, words, _) in &self.labels {
            room = room.max(30.0 + width(words, EM)?);
        }
        for layer in &self.layers {
            if let Layer::Map(map) = layer {
                room = room.max(map.room());
            }
        }
        Ok(room)
    }

    /// Number of lines that its title takes in a chart `wide` points wide.
    pub fn title_lines(&self, wide: f64) -> Result<usize> {
        Ok(wrap(&self.title, TITLE, wide)?.len())
    }

    /// Draws it into a rectangle of the paper, labels and all, with room for a title of `lines`.
    pub fn draw<DB>(
        &self,
        paper: &Paper<DB>,
        (left, top): (f64, f64),
        (wide, high): (f64, f64),
        lines: usize,
    ) -> Result<()>
    where
        DB: DrawingBackend,
        DB::ErrorType: 'static,
    {
        let down = (
            top + ABOVE + TITLE_LINE * lines as f64,
            top + high - MARGIN.1,
        );
        let beside = self.left(down.1 - down.0)?;
        let panel = Panel {
            across: (left + beside, left + wide - self.right()?),
            down,
            x: self.x,
            y: self.y,
        };
        panel.frame(paper)?;
        for (i, line) in wrap(&self.title, TITLE, wide)?.iter().enumerate() {
            let at = (left + wide / 2.0, top + 10.0 + TITLE_LINE * i as f64);
            paper.text(line, TITLE, INK, Align::Centre, at)?;
        }
        let ((left, right), (top, bottom)) = (panel.across, panel.down);
        let (middle, centre) = (f64::midpoint(left, right), f64::midpoint(top, bottom));
        let below = (middle, bottom + 36.0);
        paper.text(&self.x_label, EM, INK, Align::Centre, below)?;
        let beside = (left - beside + 11.0, centre);
        paper.text(&self.y_label, EM, INK, Align::Upwards, beside)?;
        for layer in &self.layers {
            layer.draw(paper, &panel)?;
        }
        self.names(paper, &panel)
    }

    /// The labels, moved apart where they would touch, each tied to its height.
    fn names<DB>(&self, paper: &Paper<DB>, panel: &Panel) -> Result<()>
    where
        DB: DrawingBackend,
        DB::ErrorType: 'static,
    {
        let right = panel.across.1;
        let wanted: Vec<f64> = (self.labels.iter())
            .map(|(_, _, y)| panel.place(panel.x.hi, *y).1)
            .collect();
        let set = apart(&wanted, LEADING, (panel.down.0 - 4.0, panel.down.1));
        for (((color, words, _), from), to) in self.labels.iter().zip(wanted).zip(set) {
            let tie = [
                (right + 2.0, from),
                (right + 8.0, from),
                (right + 16.0, to),
                (right + 20.0, to),
            ];
            paper.line(*color, 1.2, &tie)?;
            paper.text(words, EM, INK, Align::Left, (right + 24.0, to))?;
        }
        Ok(())
    }
}

impl Layer {
    fn draw<DB>(&self, paper: &Paper<DB>, panel: &Panel) -> Result<()>
    where
        DB: DrawingBackend,
        DB::ErrorType: 'static,
    {
        let place = |points: &[(f64, f64)]| -> Vec<(f64, f64)> {
            points.iter().map(|&(x, y)| panel.place(x, y)).collect()
        };
        match self {
            Self::Line {
                look,
                points,
                marked,
            } => {
                let points = place(points);
                paper.line(look.color, look.thick, &points)?;
                let marks = points.into_iter().filter(|_| *marked);
                marks.into_iter().try_for_each(|at| look.mark(paper, at))
            }
            Self::Dashed(color, points) => {
                let mut dashes = dashes(&place(points)).into_iter();
                dashes.try_for_each(|dash| paper.line(*color, 1.6, &dash))
            }
            Self::Dots(color, points) => (place(points).into_iter())
                .try_for_each(|at| paper.fill(*color, 1.0, &disk(at, 2.6))),
            Self::Points(look, points) => place(points)
                .into_iter()
                .try_for_each(|at| look.mark(paper, at)),
            Self::Band(color, edges) => {
                let upper = edges.iter().map(|&(x, _, high)| panel.place(x, high));
                let lower = edges.iter().rev().map(|&(x, low, _)| panel.place(x, low));
                paper.fill(*color, 0.2, &upper.chain(lower).collect::<Vec<_>>())
            }
            Self::Bar(color, x, (from, to)) => {
                paper.line(*color, 2.0, &place(&[(*x, *from), (*x, *to)]))
            }
            Self::Shade(color, outline) => paper.fill(*color, 0.14, &place(outline)),
            Self::Words(words, align, (x, y)) => {
                paper.text(words, EM, SOFT, *align, panel.place(*x, *y))
            }
            Self::Map(map) => map.draw(paper, panel),
            Self::Region(region) => region.draw(paper, panel),
        }
    }
}

fn disk((x, y): (f64, f64), radius: f64) -> Vec<(f64, f64)> {
    let angles = (0..16).map(|i| f64::from(i) * TAU / 16.0);
    angles
        .map(|t| (x + radius * t.cos(), y + radius * t.sin()))
        .collect()
}

/// A path cut into dashes, evenly along all of it.
fn dashes(path: &[(f64, f64)]) -> Vec<Vec<(f64, f64)>> {
    let (on, period) = DASH;
    let mut found: Vec<Vec<(f64, f64)>> = Vec::new();
    // How far along the path the segment begins.
    let mut before = 0.0;
    for ends in path.windows(2) {
        let ((x, y), (to_x, to_y)) = (ends[0], ends[1]);
        let length = (to_x - x).hypot(to_y - y);
        let at = |s: f64| {
            let part = (s - before) / length;
            (x + part * (to_x - x), y + part * (to_y - y))
        };
        let mut dash = (before / period).floor() * period;
        while length > 0.0 && dash < before + length {
            let (from, to) = (dash.max(before), (dash + on).min(before + length));
            match found.last_mut() {
                // One that goes round a corner.
                Some(last) if dash < before && to > from => last.push(at(to)),
                _ if to > from => found.push(vec![at(from), at(to)]),
                _ => {}
            }
            dash += period;
        }
        before += length;
    }
    found
}

/// Heights near the wanted ones, in their order, at least `gap` apart and inside `range` where they
/// fit: runs that would touch are centred on where they want to be.
fn apart(wanted: &[f64], gap: f64, range: (f64, f64)) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|&a, &b| wanted[a].total_cmp(&wanted[b]));
    // Runs of labels: the sum of the tops they would like, and how many they are.
    let mut runs: Vec<(f64, usize)> = Vec::new();
    let top = |(sum, count): (f64, usize)| {
        let last = range.1 - gap * (count - 1) as f64;
        (sum / count as f64).min(last).max(range.0)
    };
    for &i in &order {
        let mut run = (wanted[i], 1);
        while let Some(&above) = runs.last() {
            if top(above) + gap * above.1 as f64 <= top(run) {
                break;
            }
            runs.pop();
            // The lower run's top is that of the joint one, less the labels now above it.
            let shift = gap * (above.1 * run.1) as f64;
            run = (above.0 + run.0 - shift, above.1 + run.1);
        }
        runs.push(run);
    }
    let mut set = vec![0.0; wanted.len()];
    let mut at = order.into_iter();
    for run in runs {
        for (k, i) in at.by_ref().take(run.1).enumerate() {
            set[i] = top(run) + gap * k as f64;
        }
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The name of an axis lies between the edge and its numbers, which end before the axis.
    #[test]
    fn numbers_of_any_length_leave_room_for_the_name() {
        crate::figures::paper::register().unwrap();
        let name = 11.0 + EM / 2.0;
        for at in [0.0, 1.0, 0.001, -123_456.7, 1e-9, 1e300] {
            let y = Axis::around([at], 0.04);
            let chart = Chart::new("", (Axis::linear(0.0, 1.0), ""), (y, "name"));
            let room = chart.left(500.0).unwrap();
            for (_, number) in Panel::rows(&y, 500.0) {
                let begins = room - 8.0 - width(&number, EM).unwrap();
                assert!(begins > name, "{number}: {begins}");
            }
        }
    }

    #[test]
    fn dashes_go_round_corners() {
        let straight = dashes(&[(0.0, 0.0), (30.0, 0.0)]);
        assert_eq!(
            straight,
            [
                [(0.0, 0.0), (7.0, 0.0)],
                [(11.5, 0.0), (18.5, 0.0)],
                [(23.0, 0.0), (30.0, 0.0)]
            ]
        );
        let length = |dash: &Vec<(f64, f64)>| -> f64 {
            dash.windows(2)
                .map(|w| (w[1].0 - w[0].0).hypot(w[1].1 - w[0].1))
                .sum()
        };
        let steps: Vec<(f64, f64)> = (0..40).map(|i| (f64::from(i), f64::from(i % 2))).collect();
        let all = dashes(&steps);
        assert!(
            all[..all.len() - 1]
                .iter()
                .all(|dash| (length(dash) - 7.0).abs() < 1e-9)
        );
    }

    #[test]
    fn labels_keep_their_distance() {
        assert_eq!(apart(&[50.0, 10.0], 10.0, (0.0, 100.0)), [50.0, 10.0]);
        assert_eq!(apart(&[20.0, 20.0], 10.0, (0.0, 100.0)), [15.0, 25.0]);
        assert_eq!(apart(&[99.0, 100.0], 10.0, (0.0, 100.0)), [90.0, 100.0]);
        assert_eq!(
            apart(&[0.0, 1.0, 12.0], 10.0, (0.0, 100.0)),
            [0.0, 10.0, 20.0]
        );
        let many: Vec<f64> = (0..9).map(|i| f64::from(i * i % 7) * 9.0).collect();
        let mut set = apart(&many, 10.0, (0.0, 100.0));
        set.sort_by(f64::total_cmp);
        assert!(
            set.windows(2).all(|w| w[1] - w[0] >= 10.0 - 1e-9),
            "{set:?}"
        );
        assert!(set[0] >= 0.0 && set[8] <= 100.0 + 1e-9, "{set:?}");
    }
}
