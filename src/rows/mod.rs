//! The files that sims and studies leave behind: a table is a CSV file, a row of it a struct. Sims write them;
//! reports and figures read them.

pub mod am_calibration;
pub mod am_hacking;
pub mod bpo_phases;
#[cfg(feature = "llm")]
pub mod continual;
pub mod copg_toy;
pub mod copr_bound;
pub mod copr_continual;
pub mod coverage;
pub mod dro_value_error;
pub mod families;
pub mod ipo_bias;
pub mod reward_noise;
pub mod scores;
pub mod spread;
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
pub mod table;
