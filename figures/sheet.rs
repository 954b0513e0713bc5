//! A figure of one or more charts under a title, with a caption that says what is seen: alone it is
//! to be understood.

use std::path::Path;

use anyhow::Result;
use plotters::prelude::*;

use super::axes::{INK, SOFT};
use super::canvas::{Draw, render};
use super::chart::Chart;
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
pub struct Sheet {
    /// Set above all.
    pub title: String,
    /// Set below: what is seen, and what lines, bands and colours are.
    pub caption: String,
    /// The charts, row by row; those of a row share its width evenly.
    pub rows: Vec<Vec<Chart>>,
    /// Height of each, in points.
    pub height: f64,
    /// What the legend names.
    pub legend: Vec<Look>,
    /// What dashed lines are, if the legend is to say.
    pub dashed: Option<String>,
}

impl Sheet {
    /// Draws it into `STEM.svg` and `STEM.png`.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn save(self, stem: &Path) -> Result<()> {
        super::paper::register()?;
        let room = WIDTH - 2.0 * MARGIN;
        let set = Set {
            title: wrap(&self.title, TITLE, room)?,
            caption: wrap(&self.caption, CAPTION, room)?,
            legend: Legend::set(self.legend.iter(), self.dashed.as_deref(), room)?,
            sheet: &self,
        };
        render(stem, (WIDTH as u32, set.height().ceil() as u32), &set)
    }
}

/// A sheet with its lines broken.
struct Set<'a> {
    title: Vec<String>,
    caption: Vec<String>,
    legend: Legend,
    sheet: &'a Sheet,
}

impl Set<'_> {
    /// Height of what stands above the charts.
    fn head(&self) -> f64 {
        18.0 + 24.0 * self.title.len() as f64 + self.legend.height() + 6.0
    }

    fn charts(&self) -> f64 {
        self.sheet.rows.len() as f64 * (self.sheet.height + GAP)
    }

    fn height(&self) -> f64 {
        self.head() + self.charts() + LEADING * self.caption.len() as f64 + 14.0
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
        let legend = self.head() - self.legend.height() - 4.0;
        self.legend.draw(paper, WIDTH / 2.0, legend)?;
        for (j, row) in self.sheet.rows.iter().enumerate() {
            let each = (WIDTH - 2.0 * MARGIN - GAP * (row.len() - 1) as f64) / row.len() as f64;
            let mut titles = row.iter().map(|chart| chart.title_lines(each));
            let lines = titles.try_fold(1, |most, lines| anyhow::Ok(most.max(lines?)))?;
            for (i, chart) in row.iter().enumerate() {
                let left = MARGIN + i as f64 * (each + GAP);
                let top = self.head() + j as f64 * (self.sheet.height + GAP);
                chart.draw(paper, (left, top), (each, self.sheet.height), lines)?;
            }
        }
        let below = self.head() + self.charts();
        for (i, line) in self.caption.iter().enumerate() {
            let at = (MARGIN, below + 8.0 + LEADING * i as f64);
            paper.text(line, CAPTION, SOFT, Align::Left, at)?;
        }
        Ok(())
    }
}
