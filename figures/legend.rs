//! Look of series, and the legend that names them, set in as many lines as it needs.

use std::f64::consts::TAU;

use anyhow::Result;
use plotters::prelude::*;

use super::axes::{INK, SOFT};
use super::paper::{Align, Paper, width};

const EM: f64 = 13.0;
const LINE: f64 = 22.0;
/// Length of a sample, the space to its words, and the space between entries.
const SAMPLE: (f64, f64, f64) = (30.0, 8.0, 26.0);
const MARKER: f64 = 4.2;

/// The marks that tell lines apart without their colour.
#[derive(Clone, Copy)]
pub enum Marker {
    /// A disk.
    Disk,
    /// A square on its side.
    Square,
    /// A square on its tip.
    Diamond,
    /// A triangle on its side.
    Up,
    /// A triangle on its tip.
    Down,
}

/// Look of a series.
#[derive(Clone)]
pub struct Look {
    /// Name in the legend.
    pub name: String,
    /// Its line and marker.
    pub color: RGBColor,
    /// Thickness of its line, in points.
    pub thick: f64,
    /// Marker on its line.
    pub marker: Marker,
}

impl Look {
    /// Draws the marker around `(x, y)`, rimmed in white.
    pub fn mark<DB>(&self, paper: &Paper<DB>, (x, y): (f64, f64)) -> Result<()>
    where
        DB: DrawingBackend,
        DB::ErrorType: 'static,
    {
        let (corners, turn, reach) = match self.marker {
            Marker::Disk => (32, 0.0, 1.0),
            Marker::Square => (4, 0.125, 1.2),
            Marker::Diamond => (4, 0.0, 1.3),
            Marker::Up => (3, 0.25, 1.35),
            Marker::Down => (3, 0.75, 1.35),
        };
        let shape = |radius: f64| -> Vec<_> {
            (0..corners)
                .map(|i| TAU * (f64::from(i) / f64::from(corners) + turn))
                .map(|angle| (x + radius * angle.cos(), y - radius * angle.sin()))
                .collect()
        };
        // A rim of even width reaches further beyond a sharper corner.
        let rim = 1.0 / (TAU / 2.0 / f64::from(corners)).cos();
        paper.fill(WHITE, 1.0, &shape(MARKER * reach + rim))?;
        paper.fill(self.color, 1.0, &shape(MARKER * reach))
    }
}

/// Entries in lines.
pub struct Legend {
    lines: Vec<(f64, Vec<Entry>)>,
}

struct Entry {
    x: f64,
    words: String,
    look: Option<Look>,
}

impl Legend {
    /// Sets the `looks` and then what dashes mean, if they are used, in lines of at most `room`
    /// points.
    pub fn set<'a>(
        looks: impl Iterator<Item = &'a Look>,
        dashed: Option<&str>,
        room: f64,
    ) -> Result<Self> {
        let (sample, space, between) = SAMPLE;
        let named = looks.map(|look| (look.name.clone(), Some(look.clone())));
        let mut lines: Vec<(f64, Vec<Entry>)> = Vec::new();
        for (words, look) in named.chain(dashed.map(|words| (words.to_owned(), None))) {
            let wide = sample + space + width(&words, EM)?;
            match lines.last_mut() {
                Some((end, line)) if *end + between + wide <= room => {
                    let x = *end + between;
                    line.push(Entry { x, words, look });
                    *end = x + wide;
                }
                _ => lines.push((
                    wide,
                    vec![Entry {
                        x: 0.0,
                        words,
                        look,
                    }],
                )),
            }
        }
        Ok(Self { lines })
    }

    /// Height in points.
    pub fn height(&self) -> f64 {
        LINE * self.lines.len() as f64
    }

    /// Draws the lines centred on `middle`, from `top` down.
    pub fn draw<DB>(&self, paper: &Paper<DB>, middle: f64, top: f64) -> Result<()>
    where
        DB: DrawingBackend,
        DB::ErrorType: 'static,
    {
        let (sample, space, _) = SAMPLE;
        for (i, (wide, line)) in self.lines.iter().enumerate() {
            let y = top + (i as f64 + 0.5) * LINE;
            for Entry { x, words, look } in line {
                let x = middle - wide / 2.0 + x;
                let ends = ((x, y), (x + sample, y));
                match look {
                    Some(look) => {
                        paper.line(look.color, look.thick, &[ends.0, ends.1])?;
                        look.mark(paper, (x + sample / 2.0, y))?;
                    }
                    None => paper.dashes(SOFT, 1.5, ends, (7.0, 11.5, 0.0))?,
                }
                paper.text(words, EM, INK, Align::Left, (x + sample + space, y))?;
            }
        }
        Ok(())
    }
}
