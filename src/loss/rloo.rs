//! REINFORCE leave-one-out (RLOO), on- or off-policy.

use std::rc::Rc;

use super::{Response, sizes};
use crate::backend::{Backend, Segments};
use crate::error::Result;

/// A surrogate whose gradient is the negated RLOO update, the mean over the k responses of a
/// prompt of
///
/// `−⟦R_β(y_j) − mean_{l≠j} R_β(y_l)⟧ ln π(y_j)`, with ⟦·⟧ detached
///
/// * Shapes: `[N]` responses in B groups of two or more, returns `[B]`. Its value means nothing.
/// * Detached: the whole weight.
/// * Errors: a group of one response (there is nothing to leave out).
/// * Source: Kool et al. 2019; CoPG, Property 2 (whose sum lacks the 1/k).
/// * Fixed point: its expectation under i.i.d. responses from any law μ is ½∇L of CoPG with
///   μ₁ = μ₂ = μ, for every k: π* when μ covers the support of π_ref,
///   [`solve::copg`](crate::solve::copg).
pub fn rloo<X: Backend>(responses: &Response<X>, groups: &Rc<Segments>, beta: f64) -> Result<X> {
    let remedy = "leave-one-out needs two or more responses to each prompt";
    let sizes = sizes("rloo", groups, remedy)?;
    // R_j − (S − R_j)/(k−1) = (k R_j − S)/(k−1); the mean over the group divides by k.
    let k: Vec<f64> = groups.owner().iter().map(|&g| sizes[g as usize]).collect();
    let scale: Vec<f64> = k.iter().map(|k| 1.0 / (k * (k - 1.0))).collect();
    let regularised = (responses.reward).sub(&responses.log_ratio()?.affine(beta, 0.0)?)?;
    let total = regularised.segment_sum(groups)?.spread(groups)?;
    let contrast = regularised.mul(&regularised.constant(&k)?)?.sub(&total)?;
    let weight = contrast.mul(&regularised.constant(&scale)?)?.detach()?;
    weight
        .mul(&responses.log_policy)?
        .segment_sum(groups)?
        .neg()
}
