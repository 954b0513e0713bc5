//! The figures, one file each: reads rows, draws, never simulates.

mod axes;
mod bands;
mod canvas;
mod chart;
pub mod copg_toy;
pub mod coverage;
pub mod ipo_bias;
mod legend;
mod looks;
mod map;
mod paper;
pub mod reward_noise;
mod sheet;

use std::path::Path;

/// A figure.
pub struct Figure {
    /// Its name on the command line: that of the sim whose rows it draws.
    pub name: &'static str,
    /// Draws the rows of a folder into `STEM.svg` and `STEM.png`.
    pub draw: fn(&Path, &Path) -> anyhow::Result<()>,
}

/// Every figure.
pub const ALL: &[Figure] = &[
    figure("copg-toy", copg_toy::draw),
    figure("ipo-bias", ipo_bias::draw),
    figure("coverage", coverage::draw),
    figure("reward-noise", reward_noise::draw),
];

const fn figure(name: &'static str, draw: fn(&Path, &Path) -> anyhow::Result<()>) -> Figure {
    Figure { name, draw }
}
