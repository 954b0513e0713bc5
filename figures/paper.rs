//! Paper that a figure is drawn on: text, lines and shapes placed in points, alike in SVG and PNG.

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::register_font;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Drawing units per point of the figure.
pub const GRAIN: u32 = 4;
/// The committed face first, then what a viewer of the SVG may have instead.
const FACE: &str = "DejaVu Sans, Verdana, sans-serif";
static FACE_BYTES: &[u8] = include_bytes!("fonts/DejaVuSans-subset.ttf");

/// plotters' SVG text is `size / 1.24` to the em; its bitmap text fills `size` from the face's
/// ascent to its descent, here 2384 units of 2048 to the em.
const SVG_EM: f64 = 1.24;
const BITMAP_EM: f64 = 2384.0 / 2048.0;
/// Height of a lower-case x in ems, by which an SVG viewer centres a line of text.
const X_HEIGHT: f64 = 1120.0 / 2048.0;

/// Makes the committed face known to plotters.
pub fn register() -> Result<()> {
    register_font(FACE, FontStyle::Normal, FACE_BYTES)
        .map_err(|_| anyhow!("the embedded font does not parse"))
}

/// Medium of the drawing: who sets its strokes and letters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Medium {
    /// The viewer sets text and joins lines.
    Vector,
    /// plotters sets text and joins lines.
    Pixels,
}

/// Alignment: the part of a line of text that stands at the given place; vertically it is centred there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Its beginning.
    Left,
    /// Its middle.
    Centre,
    /// Its end.
    Right,
    /// Its middle, the line reading upwards.
    Upwards,
}

/// The sheet a figure is drawn on. Places and lengths are in points from the upper left.
pub struct Paper<DB: DrawingBackend> {
    area: DrawingArea<DB, Shift>,
    medium: Medium,
}

fn grain(points: f64) -> i32 {
    (points * f64::from(GRAIN)).round() as i32
}

fn grains((x, y): (f64, f64)) -> (i32, i32) {
    (grain(x), grain(y))
}

/// Width of `words` in points, at an em of `em` points.
pub fn width(words: &str, em: f64) -> Result<f64> {
    register()?;
    let size = em * BITMAP_EM * f64::from(GRAIN);
    let (advance, _) = (FACE, size).into_font().box_size(words)?;
    Ok(f64::from(advance) / f64::from(GRAIN))
}

/// Breaks `text` at spaces into lines of at most `room` points; a line feed always breaks.
pub fn wrap(text: &str, em: f64, room: f64) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            let longer = format!("{line}{}{word}", if line.is_empty() { "" } else { " " });
            if !line.is_empty() && width(&longer, em)? > room {
                lines.push(std::mem::replace(&mut line, word.to_owned()));
            } else {
                line = longer;
            }
        }
        lines.push(line);
    }
    Ok(lines)
}

impl<DB> Paper<DB>
where
    DB: DrawingBackend,
    DB::ErrorType: 'static,
{
    /// Takes over a white drawing area, `GRAIN` units to the point.
    pub fn new(area: DrawingArea<DB, Shift>, medium: Medium) -> Self {
        Self { area, medium }
    }

    /// Hands what was drawn to the backend.
    pub fn finish(&self) -> Result<()> {
        Ok(self.area.present()?)
    }

    /// Width and height in points.
    pub fn size(&self) -> (f64, f64) {
        let (w, h) = self.area.dim_in_pixel();
        (f64::from(w / GRAIN), f64::from(h / GRAIN))
    }

    /// Sets `words` at an em of `em` points.
    pub fn text(
        &self,
        words: &str,
        em: f64,
        color: RGBColor,
        align: Align,
        at: (f64, f64),
    ) -> Result<()> {
        let em = em * f64::from(GRAIN);
        let (size, drop) = match self.medium {
            Medium::Vector => (em * SVG_EM, 0.0),
            // plotters puts the baseline half a size below the top of a box of size / 1.24.
            Medium::Pixels => {
                let size = em * BITMAP_EM;
                let baseline = size / 2.0 - size / SVG_EM / 2.0;
                (size, em * X_HEIGHT / 2.0 - baseline)
            }
        };
        let (hpos, turn) = match align {
            Align::Left => (HPos::Left, FontTransform::None),
            Align::Centre => (HPos::Center, FontTransform::None),
            Align::Right => (HPos::Right, FontTransform::None),
            Align::Upwards => (HPos::Center, FontTransform::Rotate270),
        };
        let (dx, dy) = turn.transform(0, drop.round() as i32);
        let (x, y) = grains(at);
        let style = (FACE, size).into_font().transform(turn).color(&color);
        let style = style.pos(Pos::new(hpos, VPos::Center));
        Ok(self.area.draw_text(words, &style, (x + dx, y + dy))?)
    }

    /// A connected line, `thick` points across.
    pub fn line(&self, color: RGBColor, thick: f64, points: &[(f64, f64)]) -> Result<()> {
        let mut path: Vec<_> = points.iter().map(|&p| grains(p)).collect();
        path.dedup();
        let thick = grain(thick).max(1);
        if self.medium == Medium::Vector {
            let style = color.stroke_width(thick as u32);
            return Ok(self.area.draw(&PathElement::new(path, style))?);
        }
        // plotters' own joins tear where a line turns sharply: draw each stretch and round the
        // corners.
        for ends in path.windows(2) {
            self.area
                .draw(&Polygon::new(stretch(ends[0], ends[1], thick), color))?;
        }
        for &corner in path.iter().skip(1).take(path.len().saturating_sub(2)) {
            self.area
                .draw(&Circle::new(corner, thick / 2, color.filled()))?;
        }
        Ok(())
    }

    /// A straight line in dashes of `on` points, one every `period` points, the first after `skip`.
    pub fn dashes(
        &self,
        color: RGBColor,
        thick: f64,
        (from, to): ((f64, f64), (f64, f64)),
        (on, period, skip): (f64, f64, f64),
    ) -> Result<()> {
        let length = (to.0 - from.0).hypot(to.1 - from.1);
        let at = |s: f64| {
            let t = s.min(length) / length;
            (from.0 + t * (to.0 - from.0), from.1 + t * (to.1 - from.1))
        };
        let starts = (0..).map(|i| skip + f64::from(i) * period);
        for start in starts.take_while(|&s| s < length) {
            self.line(color, thick, &[at(start), at(start + on)])?;
        }
        Ok(())
    }

    /// A filled outline; `opacity` 1 hides what is below.
    pub fn fill(&self, color: RGBColor, opacity: f64, outline: &[(f64, f64)]) -> Result<()> {
        let outline: Vec<_> = outline.iter().map(|&p| grains(p)).collect();
        Ok(self.area.draw(&Polygon::new(outline, color.mix(opacity)))?)
    }
}

/// The four corners of a straight stroke.
fn stretch(from: (i32, i32), to: (i32, i32), thick: i32) -> Vec<(i32, i32)> {
    let (x, y) = (f64::from(to.0 - from.0), f64::from(to.1 - from.1));
    let half = f64::from(thick) / 2.0 / x.hypot(y);
    let (nx, ny) = (-y * half, x * half);
    let corner = |(x, y): (i32, i32), side: f64| {
        let place = |at: i32, n: f64| (f64::from(at) + side * n).round() as i32;
        (place(x, nx), place(y, ny))
    };
    vec![
        corner(from, 1.0),
        corner(to, 1.0),
        corner(to, -1.0),
        corner(from, -1.0),
    ]
}
