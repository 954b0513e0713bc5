//! One objective a file. A loss sees per-response numbers only and returns one number per
//! example, unreduced; every loss is minimised.
//!
//! Notation: `u = ln π(y|x) − ln π_ref(y|x)` is the log-ratio of a response, `d = u(y) − u(y′)`
//! the margin of a pair (the preferred response first where there are labels), `R_β = R − βu`.

pub mod copg;
pub mod dpo;
pub mod ipo;
pub mod policy_gradient;
pub mod registry;
pub mod reward_model;
pub mod rloo;
pub mod slic;

use std::rc::Rc;

pub use registry::{Baseline, InputKind, Kind, Objective, Spec};

use crate::backend::{Backend, Segments};
use crate::error::Result;

/// What a loss knows of one response in every example, each `[B]`.
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
pub enum Inputs<X> {
    /// Two responses to one prompt; where there are labels, `first` is the preferred one.
    Pair {
        /// y (or the preferred response).
        first: Response<X>,
        /// y′ (or the rejected response).
        second: Response<X>,
    },
    /// One response and the baseline of its prompt, `[B]`.
    Single {
        /// y.
        response: Response<X>,
        /// b(x), no gradient flows through it.
        baseline: X,
    },
    /// Several responses to one prompt: `[N]` numbers in B groups.
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
            Self::Group { .. } => "groups of responses",
        }
    }
}

/// `d = u(first) − u(second)`, `[B]`, in nats.
pub fn margin<X: Backend>(first: &Response<X>, second: &Response<X>) -> Result<X> {
    first.log_ratio()?.sub(&second.log_ratio()?)
}
