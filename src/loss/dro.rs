//! Direct reward optimisation (DRO): regression of a policy and a value on single responses.

use std::rc::Rc;

use super::{Response, sizes};
use crate::backend::{Backend, Segments};
use crate::error::Result;

/// DRO-V:
///
/// `½ (R − V − βu)²`
///
/// * Shapes: `[B]` each, returns `[B]`. Units: reward². β is the paper's τ.
/// * Detached: nothing; gradients reach the policy and the value. To keep V fixed, detach it.
/// * Source: DRO, eq. 4.
/// * Fixed point, jointly in (π, V): (π*, V*) when the law covers the support of π_ref
///   ([`solve::dro`](crate::solve::dro)). With V frozen at another number than V* the policy is
///   biased: it is that of a policy gradient with baseline V,
///   [`solve::policy_gradient`](mod@crate::solve::policy_gradient).
pub fn dro_v<X: Backend>(response: &Response<X>, value: &X, beta: f64) -> Result<X> {
    regularised(response, beta)?
        .sub(value)?
        .square()?
        .affine(0.5, 0.0)
}

/// DRO with V at its best, `V^π = E_μ[R_β]`, which leaves half a variance; per group of k responses
/// its unbiased estimate
///
/// `Σ_j (R_β(y_j) − mean R_β)² / 2(k − 1)`
///
/// * Shapes: `[N]` responses in B groups of two or more, returns `[B]`. Detached: nothing.
/// * Errors: a group of one response, which has no variance.
/// * Source: DRO, section 3.2, V minimised out.
/// * Fixed point: π* when the law covers the support of π_ref. Its gradient is −β/2 times that of
///   CoPG's L with μ₁ = μ₂ = μ.
pub fn dro_v_eliminated<X: Backend>(
    responses: &Response<X>,
    groups: &Rc<Segments>,
    beta: f64,
) -> Result<X> {
    let remedy = "a variance needs two or more responses to each prompt";
    let sizes = sizes("dro-v-eliminated", groups, remedy)?;
    let f = regularised(responses, beta)?;
    let each: Vec<f64> = sizes.iter().map(|k| 1.0 / k).collect();
    let scale: Vec<f64> = sizes.iter().map(|k| 0.5 / (k - 1.0)).collect();
    let mean = f.segment_sum(groups)?.mul(&f.constant(&each)?)?;
    f.sub(&mean.spread(groups)?)?
        .square()?
        .segment_sum(groups)?
        .mul(&f.constant(&scale)?)
}

/// DRO's Algorithm 1, whose policy and value updates are two halves of one surrogate:
///
/// `−⟦R − V⟧ ln π + (c/2) u² + ½ (⟦R_β⟧ − V)²`, with ⟦·⟧ detached
///
/// c is the coefficient of the squared log-ratio. Dividing the policy gradient of eq. 8 by β leaves
/// c = β; the algorithm prints c = 1.
///
/// * Shapes: `[B]` each, returns `[B]`. Its value means nothing.
/// * Source: DRO, eq. 7 and 8, Algorithm 1.
/// * Fixed point: (π*, V*) for c = β. As printed it is that only for β = 1: biased for β < 1,
///   in general not attracting for β > 1, [`solve::dro`](crate::solve::dro).
pub fn dro_algorithm_1<X: Backend>(
    response: &Response<X>,
    value: &X,
    beta: f64,
    c: f64,
) -> Result<X> {
    let advantage = response.reward.sub(value)?.detach()?;
    let gain = advantage.mul(&response.log_policy)?;
    let penalty = response.log_ratio()?.square()?.affine(0.5 * c, 0.0)?;
    let target = regularised(response, beta)?.detach()?;
    let fit = target.sub(value)?.square()?.affine(0.5, 0.0)?;
    penalty.sub(&gain)?.add(&fit)
}

/// `R_β = R − βu`.
fn regularised<X: Backend>(response: &Response<X>, beta: f64) -> Result<X> {
    response
        .reward
        .sub(&response.log_ratio()?.affine(beta, 0.0)?)
}
