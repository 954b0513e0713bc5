//! Report on a loss, one page: a registered one or your own.
//!
//! A loss of your own takes ten lines. It is written once and runs on every backend:
//!
//! ```
//! use pistar::prelude::*;
//! use pistar::verify::report::report;
//!
//! /// DPO that expects one label in ten to be wrong.
//! struct ConservativeDpo;
//!
//! impl Loss for ConservativeDpo {
//!     type Numbers = Temperature;
//!     fn spec(&self) -> Spec {
//!         Spec::new("conservative-dpo", InputKind::LabelledPairs)
//!     }
//!     fn loss<X: Backend>(&self, n: &Temperature, inputs: &Inputs<X>) -> Result<X> {
//!         let d = inputs.pair()?.difference()?;
//!         let kept = d.affine(-n.beta, 0.0)?.softplus()?.affine(0.9, 0.0)?;
//!         let flipped = d.affine(n.beta, 0.0)?.softplus()?.affine(0.1, 0.0)?;
//!         kept.add(&flipped)
//!     }
//! }
//!
//! let report = report(&ConservativeDpo)?;
//! assert_eq!(report.faults(), 0);
//! println!("{report}");
//! # Ok::<(), pistar::Error>(())
//! ```
//!
//! A check comes out `ok`, `differs` (a property the loss does not have, such as π* as its limit:
//! worth knowing, not wrong) or `fault` (a wrong gradient, NaN where policy and reference agree,
//! backends or solvers that disagree).
//!
//! A limit is where gradient flow on the table's logits goes from π_ref, with the class of the rest
//! ([`Rest`]): a rest that repels is told and left by a small push one way and the other; where logits
//! run off, the way is told, and the odds that the other arms keep; where the loss falls for ever there
//! is no limit. Where its slope jumps, minima are also sought by value. What has no limit has a row
//! that says why.

mod bandit;
mod batch;
mod coverage;
mod extremes;
mod finite;
mod fixed_point;
mod gradient;
mod invariance;
mod kinks;
mod page;
mod reference;
mod rows;

pub use bandit::{Data, default as default_problem};
pub use page::WIDTH;
pub use rows::LimitRow;

pub use crate::solve::Rest;

use crate::bandit::Problem;
use crate::error::Result;
use crate::loss::{Given, InputKind, Kind, Objective};
use crate::solve::exact;
use crate::solve::general::kinks::largest_jump;
use crate::solve::general::subject::{Candidate, Subject};

/// Subject of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Area {
    /// Derivatives, on every backend.
    Gradient,
    /// Order, padding and splitting of a batch.
    Batch,
    /// Policy = reference, and numbers far out.
    Numbers,
    /// Limits of the loss.
    FixedPoint,
    /// Labels without noise, and logs.
    FiniteData,
    /// Changes that leave its limit unchanged.
    Invariance,
    /// Arms that are shown rarely or never.
    Coverage,
}

impl Area {
    /// Every area, in the order of the page.
    pub const ALL: [Self; 7] = [
        Self::Gradient,
        Self::Batch,
        Self::Numbers,
        Self::FixedPoint,
        Self::FiniteData,
        Self::Invariance,
        Self::Coverage,
    ];

    /// Name of the area, in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gradient => "gradient",
            Self::Batch => "batch",
            Self::Numbers => "numbers",
            Self::FixedPoint => "fixed point",
            Self::FiniteData => "finite data",
            Self::Invariance => "invariance",
            Self::Coverage => "coverage",
        }
    }
}

/// Outcome of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// It has the property.
    Ok,
    /// It does not have the property, which need not be wrong.
    Differs,
    /// Something is wrong with it.
    Fault,
    /// The check does not apply, or its tool is not built in.
    Skipped,
}

impl Outcome {
    /// Name of the outcome, in a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Differs => "differs",
            Self::Fault => "fault",
            Self::Skipped => "skipped",
        }
    }
}

/// One property of a loss, checked.
#[derive(Debug, Clone)]
pub struct Check {
    /// Subject of the check.
    pub area: Area,
    /// The property.
    pub property: &'static str,
    /// Its outcome.
    pub outcome: Outcome,
    /// The number behind it: the largest violation, a distance, a regret.
    pub number: Option<f64>,
    /// The finding, in a sentence.
    pub says: String,
}

impl Check {
    fn new(area: Area, property: &'static str, outcome: Outcome, says: impl Into<String>) -> Self {
        Self {
            area,
            property,
            outcome,
            number: None,
            says: says.into(),
        }
    }

    fn with(mut self, number: f64) -> Self {
        self.number = Some(number);
        self
    }
}

/// Report on a loss: its limits and its checks.
#[derive(Debug, Clone)]
pub struct Report {
    /// Its name.
    pub loss: String,
    /// Kind of examples that it takes.
    pub inputs: InputKind,
    /// Kind of function that it says it is.
    pub kind: Kind,
    /// The objective that it is.
    pub objective: Objective,
    /// Its numbers, all of them.
    pub numbers: Given,
    /// The objective, if something is known of it exactly.
    pub registered: Option<Objective>,
    /// The bandit of [`limits`](Self::limits) and of the checks of where it converges and of finite
    /// data; the others are made on bandits of their own.
    pub problem: Problem,
    /// Size of the groups of all checks, for losses on groups; 2 stands for any size where 2, 4 and 8 were found to
    /// have the same expected update.
    pub group: Option<usize>,
    /// Its limits, by where the responses come from.
    pub limits: Vec<LimitRow>,
    /// Its checks.
    pub checks: Vec<Check>,
}

impl Report {
    /// Number of checks of an outcome.
    pub fn count(&self, outcome: Outcome) -> usize {
        self.checks.iter().filter(|c| c.outcome == outcome).count()
    }

    /// Number of faults.
    pub fn faults(&self) -> usize {
        self.count(Outcome::Fault)
    }
}

/// Checks a loss on random batches and exact populations. The same loss has the same report.
///
/// Limits are those on a bandit of three arms, R = (2.5, 2, 1) and β = 0.5, with a reference that is
/// not uniform; [`report_on`] takes another.
///
/// # Errors
/// If the loss refuses its own kind of inputs, or a solver fails.
pub fn report(loss: impl Into<Objective>) -> Result<Report> {
    report_on(loss, &bandit::default()?)
}

/// The part of [`report`] on changes of the problem that may leave the loss's limit unchanged: the level and the unit
/// of rewards, an arm split in two, the order of the responses.
///
/// # Errors
/// As [`report`].
pub fn invariance(loss: impl Into<Objective>) -> Result<Vec<Check>> {
    let loss = &Candidate {
        objective: loss.into(),
        numbers: bandit::default()?.numbers().clone(),
    };
    invariance::checks(&Subject::new(loss, largest_jump(loss)?)?)
}

/// [`report`] with the limits on a problem of one's own, at its β.
///
/// # Errors
/// Also a problem of more than 24 arms in all.
pub fn report_on(loss: impl Into<Objective>, problem: &Problem) -> Result<Report> {
    let objective = loss.into();
    let loss = &Candidate {
        objective,
        numbers: problem.numbers().clone(),
    };
    bandit::check(problem)?;
    let jump = largest_jump(loss)?;
    let mut checks = gradient::checks(loss)?;
    checks.push(kinks::check(loss.kind(), jump));
    checks.extend(batch::checks(loss)?);
    checks.extend(extremes::checks(loss)?);
    let subject = Subject::new(loss, jump)?;
    let limits = rows::rows(&subject, problem)?;
    checks.extend(fixed_point::checks(&subject, problem, &limits)?);
    checks.extend(finite::checks(&limits));
    checks.extend(invariance::checks(&subject)?);
    checks.extend(coverage::checks(&subject)?);
    Ok(Report {
        loss: objective.name().to_string(),
        inputs: loss.inputs(),
        kind: loss.kind(),
        objective,
        numbers: loss.at(&problem.given())?.numbers().clone(),
        registered: exact(objective).map(|_| objective),
        problem: problem.clone(),
        group: loss.inputs().is_groups().then_some(subject.size),
        limits,
        checks,
    })
}
