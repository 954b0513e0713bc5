//! Continual alignment on bandits: one policy, a sequence of tasks, and what it forgets.
//!
//! COPR's Algorithm 1, its ablations and the paper's 15 rivals, on tabular or log-linear policies, or any other
//! that gives a number of every arm. Every gradient is that of a registered loss in exact expectation (or of a divergence from
//! what a policy gave every arm before), and every step full batch, so nothing is random but which prompts are replayed, and
//! that is seeded. COPR's constraints and thresholds are those of its eq. 8 to 13, its metrics those of its
//! appendix C with the ranges corrected. [`Method::ALL`] is the table of the methods.

mod estimates;
mod examples;
pub mod hooks;
mod lesson;
mod method;
pub mod metrics;
mod outputs;
mod plan;
mod sequence;
mod setting;
mod shares;
mod task_free;
mod text;
mod training;

pub use method::{Base, Keeps, Method, Weights};
pub use metrics::Metrics;
pub use plan::Plan;
pub use sequence::{Score, Sequence, SequenceShape, Task};
pub use setting::{POINTS, Range, Setting};
pub use training::{Make, Moment, Outcome, run, run_with};
