//! One drawing, two files: `STEM.svg` and `STEM.png` from the same code, or neither.
//!
//! Both backends count in whole pixels, so both are given an area of four units a point: that is
//! what keeps curves smooth in the SVG, and the PNG is averaged down from it to two pixels a point.

use std::ffi::OsString;
use std::path::Path;

use crate::file::{Staged, folder_of};
use anyhow::{Context, Result, ensure};
use plotters::prelude::*;

use super::paper::Paper;
use super::paper::{self, GRAIN, Medium};

/// Drawing units per pixel of the PNG, along each axis.
const SHRINK: usize = 2;

/// A figure: the same code draws it on whichever backend it is handed.
pub trait Draw {
    /// Draws the figure on `paper`, which starts out white and is measured in points.
    fn draw<DB>(&self, paper: &Paper<DB>) -> Result<()>
    where
        DB: DrawingBackend,
        DB::ErrorType: 'static;
}

/// Draws `figure`, `size` points wide and high, into `STEM.svg` and `STEM.png`.
///
/// Both are drawn in memory and written beside their destinations before either name is taken, so
/// a failure to draw or to write leaves whatever stood there.
pub fn render(stem: &Path, size: (u32, u32), figure: &impl Draw) -> Result<()> {
    paper::register()?;
    let svg = svg(size, figure).context("drawing the SVG")?;
    let png = png(size, figure).context("drawing the PNG")?;
    let mut staged = Staged::new(folder_of(stem))?;
    staged.bytes(name(stem, ".svg")?, svg.as_bytes())?;
    staged.bytes(name(stem, ".png")?, &png)?;
    Ok(staged.finish()?)
}

fn grains((w, h): (u32, u32)) -> Result<(u32, u32)> {
    let fits = |n: u32| (1..=8192).contains(&n);
    ensure!(
        fits(w) && fits(h),
        "cannot draw a figure of {w} × {h} points"
    );
    Ok((w * GRAIN, h * GRAIN))
}

fn svg((w, h): (u32, u32), figure: &impl Draw) -> Result<String> {
    let fine = grains((w, h))?;
    let mut out = String::new();
    {
        let area = SVGBackend::with_string(&mut out, fine).into_drawing_area();
        area.fill(&WHITE)?;
        let paper = Paper::new(area, Medium::Vector);
        figure.draw(&paper)?;
        paper.finish()?;
    }
    let drawn = format!("<svg width=\"{}\" height=\"{}\"", fine.0, fine.1);
    let shown = format!("<svg width=\"{w}\" height=\"{h}\" stroke-linejoin=\"round\"");
    Ok(out.replacen(&drawn, &shown, 1))
}

fn png(size: (u32, u32), figure: &impl Draw) -> Result<Vec<u8>> {
    let fine = grains(size)?;
    let (w, h) = (fine.0 as usize, fine.1 as usize);
    let mut pixels = vec![u8::MAX; 3 * w * h];
    {
        let area = BitMapBackend::with_buffer(&mut pixels, fine).into_drawing_area();
        let paper = Paper::new(area, Medium::Pixels);
        figure.draw(&paper)?;
        paper.finish()?;
    }
    let pixels = shrink(&pixels, w, h);
    let mut out = Vec::new();
    let small = (fine.0 / SHRINK as u32, fine.1 / SHRINK as u32);
    let mut encoder = png::Encoder::new(&mut out, small.0, small.1);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&pixels)?;
    writer.finish()?;
    Ok(out)
}

/// Averages each square of `SHRINK` × `SHRINK` RGB pixels into one.
fn shrink(pixels: &[u8], w: usize, h: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(pixels.len() / (SHRINK * SHRINK));
    for y in (0..h).step_by(SHRINK) {
        for x in (0..w).step_by(SHRINK) {
            for channel in 0..3 {
                let square = (0..SHRINK * SHRINK).map(|i| {
                    let at = (y + i / SHRINK) * w + x + i % SHRINK;
                    usize::from(pixels[3 * at + channel])
                });
                out.push((square.sum::<usize>() / (SHRINK * SHRINK)) as u8);
            }
        }
    }
    out
}

/// The last part of `stem` with `suffix`; a dot in the stem stays.
fn name(stem: &Path, suffix: &str) -> Result<OsString> {
    let mut name: OsString = stem
        .file_name()
        .with_context(|| format!("{} names no file", stem.display()))?
        .into();
    name.push(suffix);
    Ok(name)
}
