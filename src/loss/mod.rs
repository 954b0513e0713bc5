//! One objective a file. A loss sees per-response numbers only and returns one number per
//! example, unreduced; every loss is minimised.
//!
//! Notation: `u = ln π(y|x) − ln π_ref(y|x)` is the log-ratio of a response, `d = u(y) − u(y′)`
//! the margin of a pair (the preferred response first where there are labels), `R_β = R − βu`.

pub mod advantage;
mod baseline;
mod batch;
pub mod copg;
pub mod copr;
pub mod dpo;
pub mod dro;
pub mod ipo;
pub mod kto;
pub mod policy_gradient;
pub mod registry;
pub mod reward_model;
pub mod rloo;
pub mod slic;
mod spec;

use std::rc::Rc;

pub use baseline::{Baseline, Value};
pub use batch::{Batch, Cotangents, on_tape};
pub use registry::Objective;
pub use spec::{InputKind, Kind, Spec, Table};

use crate::backend::{Backend, Segments};
use crate::error::{Error, Result};

/// The numbers an objective has besides its inputs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parameters {
    /// β, the temperature (DRO's τ).
    pub beta: f64,
    /// m, the Advantage Model's margin.
    pub margin: Option<f64>,
}

impl Parameters {
    /// The margin, for an objective that needs one.
    ///
    /// # Errors
    /// If there is none.
    pub fn needed_margin(&self) -> Result<f64> {
        self.margin.ok_or_else(|| {
            let remedy = "give the problem a `margin`, the m of the Advantage Model";
            Error::invalid(
                "margin",
                "it is missing, and the objective needs it",
                remedy,
            )
        })
    }
}

impl From<f64> for Parameters {
    /// A temperature and nothing else.
    fn from(beta: f64) -> Self {
        let margin = None;
        Self { beta, margin }
    }
}

/// Numbers of one response in every example, each `[B]`.
#[derive(Clone)]
pub struct Response<X> {
    /// ln π(y|x), the trained number (for a reward model: its score).
    pub log_policy: X,
    /// ln π_ref(y|x).
    pub log_reference: X,
    /// R(x, y).
    pub reward: X,
}

impl<X: Backend> Response<X> {
    /// `u = ln π/π_ref`, `[B]`, in nats.
    pub fn log_ratio(&self) -> Result<X> {
        self.log_policy.sub(&self.log_reference)
    }
}

/// The numbers of a batch of B examples.
#[derive(Clone)]
#[non_exhaustive]
pub enum Inputs<X> {
    /// Two responses to one prompt; where there are labels, `first` is the preferred one.
    Pair {
        /// y (or the preferred response).
        first: Response<X>,
        /// y′ (or the rejected response).
        second: Response<X>,
    },
    /// One response and a number of its prompt, `[B]`.
    Single {
        /// y.
        response: Response<X>,
        /// The baseline b(x) of a policy gradient, or DRO's V(x).
        baseline: X,
    },
    /// One response, rated.
    Rated {
        /// y.
        response: Response<X>,
        /// 1 for a desirable response, 0 for an undesirable one, `[B]`.
        desirable: X,
        /// z₀, KTO's estimate of KL(π‖π_ref), `[B]`.
        anchor: X,
    },
    /// Several responses to one prompt: `[N]` numbers in B groups. In a ranked list they run from
    /// worst to best, and the reward is the advantage in the list.
    Group {
        /// The responses of all groups, in order.
        responses: Response<X>,
        /// Which belong together.
        groups: Rc<Segments>,
    },
}

impl<X> Inputs<X> {
    /// The kind's name, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Pair { .. } => "pairs",
            Self::Single { .. } => "single responses",
            Self::Rated { .. } => "rated responses",
            Self::Group { .. } => "groups or lists of responses",
        }
    }
}

/// `d = u(first) − u(second)`, `[B]`, in nats.
pub fn margin<X: Backend>(first: &Response<X>, second: &Response<X>) -> Result<X> {
    first.log_ratio()?.sub(&second.log_ratio()?)
}

/// Sizes of groups of two or more responses, for losses that compare them.
fn sizes(loss: &str, groups: &Segments, remedy: &str) -> Result<Vec<f64>> {
    let sizes: Vec<f64> = (0..groups.groups())
        .map(|g| groups.size(g) as f64)
        .collect();
    match sizes.iter().position(|&k| k < 2.0) {
        None => Ok(sizes),
        Some(g) => {
            let place = format!("{loss}: group {g}");
            Err(Error::invalid(place, "it has one response", remedy))
        }
    }
}
