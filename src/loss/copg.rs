//! Contrastive policy gradient (CoPG).

use super::{InputKind, Inputs, Loss, Response, Spec, Temperature};
use crate::backend::Backend;
use crate::error::Result;

const OPTIMUM: &str = "π* if the comparison graph is connected";

/// CoPG as the contrast of two weighted log-likelihoods, negated to be minimised:
///
/// `−ℓ = −(R_{β/2}(y) − R_{β/2}(y′)) u(y) − (R_{β/2}(y′) − R_{β/2}(y)) u(y′)`
///
/// * Shapes: `[B]` each, returns `[B]`. Units: reward × nats.
/// * Detached: nothing. The weights use `R_{β/2}` and carry their gradient; with detached weights
///   the same formula would converge to the optimum of temperature β/2.
/// * Errors: when lengths differ.
/// * Source: CoPG, eq. 5 and 6 (eq. 8 says "minimise"; ℓ is to be maximised).
/// * Fixed point: π*, for any two laws whose comparison graph connects the support of π_ref;
///   otherwise [`solve::copg`](crate::solve::copg) says what stays free.
pub struct Copg;

impl Loss for Copg {
    type Numbers = Temperature;

    fn spec(&self) -> Spec {
        Spec {
            formula: "−(R_{β/2}(y) − R_{β/2}(y′))·(u(y) − u(y′))",
            source: "CoPG, eq. 5, 6",
            fixed_point: OPTIMUM,
            ..Spec::new("copg", InputKind::ScoredPairs)
        }
    }

    fn loss<X: Backend>(&self, n: &Temperature, inputs: &Inputs<X>) -> Result<X> {
        let pair = inputs.pair()?;
        let (u, v) = (pair.first.log_ratio()?, pair.second.log_ratio()?);
        let half = |r: &Response<X>, u: &X| r.reward()?.sub(&u.affine(n.beta / 2.0, 0.0)?);
        let contrast = half(&pair.first, &u)?.sub(&half(&pair.second, &v)?)?;
        contrast.mul(&u.sub(&v)?)?.neg()
    }
}

/// The same number as [`Copg`], with the square completed:
///
/// `−ℓ = [(ΔR − βΔu)² − (ΔR)²] / 2β`
///
/// * Shapes: `[B]` each, returns `[B]`. Detached: nothing.
/// * Source: CoPG, eq. 15 divided by β.
/// * Fixed point: that of [`Copg`].
pub struct Completed;

impl Loss for Completed {
    type Numbers = Temperature;

    fn spec(&self) -> Spec {
        Spec {
            formula: "[(ΔR − βΔu)² − (ΔR)²] / 2β",
            source: "CoPG, eq. 15 / β",
            fixed_point: OPTIMUM,
            ..Spec::new("copg-completed", InputKind::ScoredPairs)
        }
    }

    fn loss<X: Backend>(&self, n: &Temperature, inputs: &Inputs<X>) -> Result<X> {
        let squared = Squared.loss(n, inputs)?;
        let pair = inputs.pair()?;
        let gap = pair.first.reward()?.sub(pair.second.reward()?)?;
        squared.sub(&gap.square()?)?.affine(0.5 / n.beta, 0.0)
    }
}

/// CoPG as its Algorithm 1 runs it:
///
/// `(R_β(y) − R_β(y′))²`
///
/// * Shapes: `[B]` each, returns `[B]`. Units: reward². Detached: nothing.
/// * Source: CoPG, Algorithm 1 (whose update line has one ∇ too many). Its gradient is 2β times
///   that of [`Copg`].
/// * Fixed point: that of [`Copg`].
pub struct Squared;

impl Loss for Squared {
    type Numbers = Temperature;

    fn spec(&self) -> Spec {
        Spec {
            formula: "(R_β(y) − R_β(y′))²",
            source: "CoPG, Algorithm 1",
            fixed_point: OPTIMUM,
            ..Spec::new("copg-squared", InputKind::ScoredPairs)
        }
    }

    fn loss<X: Backend>(&self, n: &Temperature, inputs: &Inputs<X>) -> Result<X> {
        let pair = inputs.pair()?;
        let first = pair.first.regularised_reward(n.beta)?;
        first
            .sub(&pair.second.regularised_reward(n.beta)?)?
            .square()
    }
}
