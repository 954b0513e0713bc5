//! The figures, one file each: reads rows, draws, never simulates.

mod axes;
mod bands;
mod canvas;
pub mod copg_toy;
mod legend;
mod paper;

use std::path::Path;

/// A figure.
pub struct Figure {
    /// Its name on the command line: that of the sim whose rows it draws.
    pub name: &'static str,
    /// Draws the rows of a folder into `STEM.svg` and `STEM.png`.
    pub draw: fn(&Path, &Path) -> anyhow::Result<()>,
}

/// Every figure.
pub const ALL: &[Figure] = &[Figure {
    name: "copg-toy",
    draw: copg_toy::draw,
}];
