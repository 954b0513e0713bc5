//! A figure of one or more charts under a title, with a caption that says what is seen: alone it is
//! to be understood.

use std::path::Path;

use anyhow::Result;
use plotters::prelude::*;

use super::axes::{INK, SOFT};
use super::canvas::{Draw, render};
use super::chart::{Chart, TITLE_LINE};
use super::legend::{Legend, Look};
use super::paper::{Align, Paper, wrap};

const WIDTH: f64 = 960.0;
const MARGIN: f64 = 20.0;
const TITLE: f64 = 18.0;
const CAPTION: f64 = 13.5;
const LEADING: f64 = 19.0;
/// Space between charts.
const GAP: f64 = 14.0;

/// The figure.
#[derive(Default)]
pub struct Sheet {
    /// Set above all.
    pub title: String,
    /// Set below: what is seen, and what lines, bands and colours are.
    pub caption: String,
    /// The charts, row by row; those of a row share its width evenly.
    pub rows: Vec<Vec<Chart>>,
    /// Number of charts that a row has room for; 0: as many as are in it.
    pub columns: usize,
    /// Height of each, in points, with a title of one line.
    pub height: f64,
    /// Entries of the legend.
    pub legend: Vec<Look>,
    /// Meaning of dashed lines, if the legend is to say.
    pub dashed: Option<String>,
    /// The row that the legend stands above, from 0.
    pub legend_above: usize,
}

impl Sheet {
    /// Draws it into `STEM.svg` and `STEM.png`.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn save(self, stem: &Path) -> Result<()> {
        super::paper::register()?;
        let room = WIDTH - 2.0 * MARGIN;
        let lines = self.rows.iter().map(|row| {
            let titles = row.iter().map(|chart| chart.title_lines(self.share(row)));
            titles.reduce(|a, b| Ok(a?.max(b?))).unwrap_or(Ok(1))
        });
        let set = Set {
            title: wrap(&self.title, TITLE, room)?,
            caption: wrap(&self.caption, CAPTION, room)?,
            legend: Legend::set(self.legend.iter(), self.dashed.as_deref(), room)?,
            lines: lines.collect::<Result<_>>()?,
            sheet: &self,
        };
        let height = set.top(self.rows.len()) + LEADING * set.caption.len() as f64 + 14.0;
        render(stem, (WIDTH as u32, height.ceil() as u32), &set)
    }

    /// Width of a chart of that row.
    fn share(&self, row: &[Chart]) -> f64 {
        let count = row.len().max(self.columns) as f64;
        (WIDTH - 2.0 * MARGIN - GAP * (count - 1.0)) / count
    }
}

/// A sheet with its lines broken.
struct Set<'a> {
    title: Vec<String>,
    caption: Vec<String>,
    legend: Legend,
    /// Lines of the charts' titles, by row.
    lines: Vec<usize>,
    sheet: &'a Sheet,
}

impl Set<'_> {
    /// Height of the charts in a row.
    fn height(&self, lines: usize) -> f64 {
        self.sheet.height + TITLE_LINE * lines.saturating_sub(1) as f64
    }

    /// Where a row of charts begins, the legend above it passed; of the row after the last, where
    /// the caption does.
    fn top(&self, row: usize) -> f64 {
        let legend = if row >= self.sheet.legend_above {
            self.legend.height()
        } else {
            0.0
        };
        let rows = self.lines[..row]
            .iter()
            .map(|&lines| self.height(lines) + GAP);
        24.0 + 24.0 * self.title.len() as f64 + legend + rows.sum::<f64>()
    }
}

impl Draw for Set<'_> {
    fn draw<DB>(&self, paper: &Paper<DB>) -> Result<()>
    where
        DB: DrawingBackend,
        DB::ErrorType: 'static,
    {
        for (i, line) in self.title.iter().enumerate() {
            let at = (WIDTH / 2.0, 26.0 + 24.0 * i as f64);
            paper.text(line, TITLE, INK, Align::Centre, at)?;
        }
        let legend = self.top(self.sheet.legend_above) - self.legend.height() - 4.0;
        self.legend.draw(paper, WIDTH / 2.0, legend)?;
        for (j, (row, &lines)) in self.sheet.rows.iter().zip(&self.lines).enumerate() {
            let size = (self.sheet.share(row), self.height(lines));
            for (i, chart) in row.iter().enumerate() {
                let left = MARGIN + i as f64 * (size.0 + GAP);
                chart.draw(paper, (left, self.top(j)), size, lines)?;
            }
        }
        let below = self.top(self.sheet.rows.len());
        for (i, line) in self.caption.iter().enumerate() {
            let at = (MARGIN, below + 8.0 + LEADING * i as f64);
            paper.text(line, CAPTION, SOFT, Align::Left, at)?;
        }
        Ok(())
    }
}
