//! One objective a file. A loss sees per-response numbers only and returns one number per
//! example, unreduced; every loss is minimised.
//!
//! Notation: `u = ln π(y|x) − ln π_ref(y|x)` is the log-ratio of a response, `d = u(y) − u(y′)`
//! the difference of a pair (the preferred response first where there are labels), `R_β = R − βu`; ⟦·⟧ is detached.

pub mod advantage;
mod baseline;
mod batch;
mod bound;
pub mod copg;
pub mod copr;
pub mod dpo;
pub mod dro;
mod inputs;
pub mod ipo;
pub mod kto;
pub mod numbers;
pub mod policy_gradient;
pub mod ppo;
pub mod ppo_tokens;
pub mod pro;
mod registry;
pub mod reward_model;
pub mod rloo;
pub mod rrhf;
pub mod slic;
mod spec;
pub mod squared_hinge;

pub use baseline::{Baseline, Value};
pub use batch::{Batch, Cotangents, Proposals, on_tape};
pub use bound::{Bound, Run, Runs};
pub use inputs::{Column, Columns, Group, Inputs, Pair, Rated, Response, Single, Tokens, sizes};
pub use numbers::{Given, Number, Numbers, Range, Temperature};
pub use registry::{NumberOf, Objective, Registered, register};
pub use spec::{InputKind, Kind, Rating, Spec, Table};

use crate::backend::Backend;
use crate::error::Result;

/// A loss: its entry, its numbers and its formula.
///
/// The formula is generic because a loss runs on every backend: on arrays with reverse mode, under forward-mode
/// derivatives, with an operation spoiled, on tensors.
pub trait Loss: Sync + 'static {
    /// Its numbers: [`Temperature`] where β is all, `()` where there are none, or what [`numbers!`](crate::numbers)
    /// makes.
    type Numbers: Numbers;

    /// Its entry.
    fn spec(&self) -> Spec;

    /// The per-example loss, `[B]`, to be minimised.
    ///
    /// # Errors
    /// Those of the backend, or inputs of another kind than the entry's.
    fn loss<X: Backend>(&self, numbers: &Self::Numbers, inputs: &Inputs<X>) -> Result<X>;

    /// The baseline of a policy gradient, which single responses are held against.
    fn baseline(&self, numbers: &Self::Numbers) -> Option<Baseline> {
        let _ = numbers;
        None
    }
}
