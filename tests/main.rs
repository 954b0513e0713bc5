//! All integration tests, in one crate so that they link once.

mod advantage;
#[cfg(all(feature = "cli", not(mutants)))]
mod aggregate;
#[cfg(not(mutants))]
mod answers;
#[cfg(not(mutants))]
mod arrows;
mod backend;
mod bandit;
mod bpo;
mod calibration;
mod certificates;
#[cfg(not(mutants))]
mod claims;
#[cfg(all(feature = "cli", not(mutants)))]
mod cli;
mod common;
mod continual;
mod copg;
mod copr;
mod dataset;
mod dro;
mod evidence;
#[cfg(not(mutants))]
mod field;
#[cfg(all(feature = "cli", not(mutants)))]
mod files;
mod golden;
mod ipo;
mod kto;
mod multitask;
#[cfg(feature = "llm")]
mod parity;
mod policy_gradient;
mod preference;
mod ranking;
mod registry;
mod rivals;
mod rloo;
mod sample;
mod scored;
#[cfg(all(feature = "plot", not(mutants)))]
mod sims;
#[cfg(not(mutants))]
mod simulator;
mod slic;
mod stats;
#[cfg(not(mutants))]
mod verify;
