//! Exact fixed points: where the expected update of an objective vanishes.
//!
//! Every answer carries how it was found, its residual (the largest entry of the expected update
//! there), whether it is the only one, and what it is to the flow around it ([`Rest`]). Where it is not, the answer is the limit of gradient flow from the reference (for
//! SLiC, the vertex reached from it by unit steps), and the notes say what stays free.

pub mod advantage;
mod answer;
pub mod best_of_n;
pub mod bpo;
pub mod calibration;
pub mod copg;
pub mod copr;
pub mod dro;
mod exact;
pub(crate) mod flow;
pub mod general;
pub mod graph;
pub mod ipo;
pub mod kto;
mod laplacian;
mod min_cut;
pub mod minimise;
pub mod policy_gradient;
pub mod ppo_clip;
pub mod preference;
pub mod ranking;
pub mod slic;
mod squared_hinge;
pub mod update;

pub(crate) use crate::bandit::log_softmax;
use crate::bandit::{Evidence, Problem, Prompt};
use crate::error::Result;
use crate::loss::{Baseline, InputKind, Objective};
use crate::magnitude::{larger, largest};
pub use answer::{FixedPoint, Part};
pub use exact::{Exact, Start, exact};
pub use flow::Rest;

use answer::assemble;

/// Most arms for solvers whose time grows with the square of the number of arms.
pub const QUADRATIC_CAP: usize = 20_000;

/// Most arms for solvers whose time grows with its cube.
pub const CUBIC_CAP: usize = 2_000;

/// Most prompts for which a flow is followed, prompt after prompt: each takes some ten milliseconds.
pub const FLOWS_CAP: usize = 1_000;

/// The fixed point of an objective on the population or on a dataset: by what is known exactly of it ([`exact`]), or
/// else followed numerically ([`general`]).
///
/// # Errors
/// More arms or prompts than the solver's cap, or evidence of the wrong kind.
pub fn fixed_point(
    objective: Objective,
    problem: &Problem,
    evidence: &Evidence,
) -> Result<FixedPoint> {
    match exact(objective) {
        Some(known) => known.fixed_point(objective, problem, evidence),
        None => general::fixed_point(objective, problem, evidence),
    }
}

/// The limit of the policy-gradient field with any baseline.
///
/// # Errors
/// A baseline law that does not fit the problem.
pub fn policy_gradient(
    problem: &Problem,
    evidence: &Evidence,
    baseline: &Baseline,
) -> Result<FixedPoint> {
    let view = evidence.of(InputKind::Singles)?;
    assemble(problem, view, |x, prompt, share| {
        policy_gradient::limit(x, prompt, share, problem.beta(), baseline)
    })
}

/// Normalises `ln π_ref + u`.
fn tilt(prompt: &Prompt, u: impl Iterator<Item = f64>) -> Vec<f64> {
    let log: Vec<f64> = prompt
        .log_reference
        .iter()
        .zip(u)
        .map(|(l, u)| l + u)
        .collect();
    log_softmax(&log)
}
