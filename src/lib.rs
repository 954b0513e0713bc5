//! **pistar** (π\*) tells what an alignment objective converges to, exactly, on bandits small
//! enough to solve, and trains transformers with the same loss code.
//!
//! ```
//! use pistar::bandit::{Evidence, Problem};
//! use pistar::loss::Objective;
//!
//! let problem = Problem::from_json(
//!     r#"{"beta": 0.5, "prompts": [{"reward": [2.5, 2.0, 1.0],
//!         "behavior": [[0.1, 0.2, 0.7], [0.05, 0.05, 0.9]]}]}"#,
//! )?;
//! let population = Evidence::population(&problem);
//! let ipo = pistar::solve::fixed_point(Objective::IPO, &problem, &population)?;
//! assert!((ipo.regret.unwrap() - 0.152530660343).abs() < 1e-12);
//! # Ok::<(), pistar::Error>(())
//! ```
//!
//! The rooms, each importing only those after it: [`claims`] checks what papers claim; [`verify`] certifies
//! losses and reports on them; `llm` (with the feature of that name) trains transformers; [`continual`] learns task
//! after task and [`sim`] trains by sampling; [`solve`] finds fixed points;
//! [`bandit`] holds problems, behaviour distributions, policies and datasets; [`loss`] the objectives; [`backend`] the
//! arrays they are written on. All may use [`mod@file`] (how files are read and written), [`magnitude`] (how
//! large a number may be), [`text`] (numbers and lists in words), [`stats`], [`random`] and [`observer`] (what long
//! work says). The command is in `cli` (with the feature of that name).
#![warn(missing_docs)]

/// Says a line on standard error, which may have gone with its terminal: nobody is left to be told then.
#[cfg(feature = "cli")]
macro_rules! tell {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}

pub mod backend;
pub mod bandit;
pub mod claims;
#[cfg(feature = "cli")]
pub mod cli;
pub mod continual;
pub mod error;
#[cfg(feature = "plot")]
#[path = "../figures/mod.rs"]
mod figures;
pub mod file;
#[cfg(feature = "llm")]
pub mod llm;
pub mod loss;
pub mod magnitude;
pub mod observer;
pub mod prelude;
pub mod random;
#[cfg(feature = "cli")]
mod rows;
pub mod sim;
#[cfg(feature = "cli")]
#[path = "../sims/mod.rs"]
mod sims;
pub mod solve;
pub mod stats;
pub mod text;
pub mod verify;

pub use error::{Error, Result};

/// Makes the allocator that counts tensors a program's own, for its commands to say what a run took; without the
/// feature `llm` there are none. For a program's `main.rs`, beside [`cli::main`].
#[cfg(feature = "llm")]
#[macro_export]
macro_rules! measure_memory {
    () => {
        #[global_allocator]
        static HEAP: $crate::llm::internals::tensor::memory::Counting =
            $crate::llm::internals::tensor::memory::Counting;
    };
}

/// Makes the allocator that counts tensors a program's own; without the feature `llm` there are none.
#[cfg(not(feature = "llm"))]
#[macro_export]
macro_rules! measure_memory {
    () => {};
}

// Mutation testing builds one target only, so the integration tests join the unit tests there.
#[cfg(all(test, mutants))]
extern crate self as pistar;
#[cfg(all(test, mutants))]
#[path = "../tests/main.rs"]
mod integration;
