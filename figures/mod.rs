//! The figures, one file each: reads rows, draws, never simulates.

pub mod am_calibration;
pub mod am_hacking;
mod axes;
mod bands;
pub mod bpo_phases;
mod canvas;
mod chart;
#[cfg(feature = "llm")]
pub mod continual;
pub mod copg_toy;
pub mod copr_bound;
pub mod copr_continual;
pub mod coverage;
pub mod dro_value_error;
pub mod ipo_bias;
mod legend;
mod map;
mod palette;
mod paper;
pub mod reward_noise;
#[cfg(feature = "llm")]
pub mod runs;
mod sheet;
#[cfg(feature = "llm")]
pub mod study;
#[cfg(feature = "llm")]
pub mod study_ablations;
#[cfg(feature = "llm")]
pub mod study_bpo;
#[cfg(feature = "llm")]
pub mod study_copr;
#[cfg(feature = "llm")]
pub mod study_rehearsal;

use crate::observer::Observer;
use std::path::Path;

/// A figure.
pub struct Figure {
    /// Its name on the command line: that of the sim whose rows it draws.
    pub name: &'static str,
    /// Draws the rows of a folder into `STEM.svg` and `STEM.png`.
    pub draw: fn(&Path, &Path, &dyn Observer) -> anyhow::Result<()>,
}

/// Every figure.
pub const ALL: &[Figure] = &[
    figure("copg-toy", copg_toy::draw),
    figure("ipo-bias", ipo_bias::draw),
    figure("coverage", coverage::draw),
    figure("reward-noise", reward_noise::draw),
    figure("dro-value-error", dro_value_error::draw),
    figure("copr-bound", copr_bound::draw),
    figure("copr-continual", copr_continual::draw),
    figure("bpo-phases", bpo_phases::draw),
    figure("am-calibration", am_calibration::draw),
    figure("am-hacking", am_hacking::draw),
    #[cfg(feature = "llm")]
    figure("study-bpo", study_bpo::draw),
    #[cfg(feature = "llm")]
    figure("study-copg", study::copg),
    #[cfg(feature = "llm")]
    figure("study-copr", study_copr::draw),
    #[cfg(feature = "llm")]
    figure("study-dro", study::dro),
    #[cfg(feature = "llm")]
    figure("study-dro-ablations", study_ablations::draw),
    #[cfg(feature = "llm")]
    figure("study-rehearsal", study_rehearsal::draw),
];

const fn figure(
    name: &'static str,
    draw: fn(&Path, &Path, &dyn Observer) -> anyhow::Result<()>,
) -> Figure {
    Figure { name, draw }
}
