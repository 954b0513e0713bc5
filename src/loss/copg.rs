//! Contrastive policy gradient (CoPG).

use super::Response;
use crate::backend::Backend;
use crate::error::Result;

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
pub fn copg<X: Backend>(first: &Response<X>, second: &Response<X>, beta: f64) -> Result<X> {
    let (u, v) = (first.log_ratio()?, second.log_ratio()?);
    let half = |r: &Response<X>, u: &X| r.reward.sub(&u.affine(beta / 2.0, 0.0)?);
    let contrast = half(first, &u)?.sub(&half(second, &v)?)?;
    contrast.mul(&u.sub(&v)?)?.neg()
}

/// The same number as [`copg`], with the square completed:
///
/// `−ℓ = [(ΔR − βΔu)² − (ΔR)²] / 2β`
///
/// * Shapes: `[B]` each, returns `[B]`. Detached: nothing.
/// * Source: CoPG, eq. 15 divided by β.
/// * Fixed point: that of [`copg`].
pub fn copg_completed<X: Backend>(
    first: &Response<X>,
    second: &Response<X>,
    beta: f64,
) -> Result<X> {
    let squared = copg_squared(first, second, beta)?;
    let reward_gap = first.reward.sub(&second.reward)?;
    squared.sub(&reward_gap.square()?)?.affine(0.5 / beta, 0.0)
}

/// CoPG as its Algorithm 1 runs it:
///
/// `(R_β(y) − R_β(y′))²`
///
/// * Shapes: `[B]` each, returns `[B]`. Units: reward². Detached: nothing.
/// * Source: CoPG, Algorithm 1 (whose update line has one ∇ too many). Its gradient is 2β times
///   that of [`copg`].
/// * Fixed point: that of [`copg`].
pub fn copg_squared<X: Backend>(first: &Response<X>, second: &Response<X>, beta: f64) -> Result<X> {
    let regularised = |r: &Response<X>| r.reward.sub(&r.log_ratio()?.affine(beta, 0.0)?);
    regularised(first)?.sub(&regularised(second)?)?.square()
}
