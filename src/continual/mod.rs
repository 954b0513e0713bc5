//! Continual alignment on bandits: one policy, a sequence of tasks, and what it forgets.
//!
//! COPR's Algorithm 1 and its rivals, on tabular or log-linear policies, or any other that gives a number of every
//! arm. Every gradient is that of a registered loss in exact expectation, and every step full batch, so nothing is random but which prompts are replayed, and that is
//! seeded. COPR's constraints and thresholds are those of its eq. 8 to 13, its metrics those of its
//! appendix C with the ranges corrected.

mod examples;
pub mod hooks;
pub mod metrics;
mod plan;
mod sequence;
mod shares;
mod training;

pub use metrics::Metrics;
pub use plan::{Method, Plan};
pub use sequence::{Score, Sequence, SequenceShape, Task};
pub use training::{Make, Moment, Outcome, run, run_with};
