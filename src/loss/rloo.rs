//! REINFORCE leave-one-out (RLOO), on- or off-policy.

use super::{Group, InputKind, Inputs, Kind, Loss, Spec, Temperature, sizes};
use crate::backend::Backend;
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
pub struct Rloo;

impl Loss for Rloo {
    type Numbers = Temperature;

    fn spec(&self) -> Spec {
        Spec {
            formula: "mean_j −⟦R_β(y_j) − mean_{l≠j} R_β(y_l)⟧ ln π(y_j)",
            kind: Kind::Field,
            source: "Kool et al. 2019; CoPG, Property 2",
            fixed_point: "π* if the behaviour distribution covers the reference",
            ..Spec::new("rloo", InputKind::Groups)
        }
    }

    fn loss<X: Backend>(&self, n: &Temperature, inputs: &Inputs<X>) -> Result<X> {
        let Group { responses, groups } = inputs.group()?;
        let remedy = "leave-one-out needs two or more responses to each prompt";
        let sizes = sizes("rloo", groups, remedy)?;
        // R_j − (S − R_j)/(k−1) = (k R_j − S)/(k−1); the mean over the group divides by k.
        let k: Vec<f64> = groups.owner().iter().map(|&g| sizes[g as usize]).collect();
        let scale: Vec<f64> = k.iter().map(|k| 1.0 / (k * (k - 1.0))).collect();
        let regularised = responses.regularised_reward(n.beta)?;
        let total = regularised.segment_sum(groups)?.spread(groups)?;
        let contrast = regularised.mul(&regularised.constant(&k)?)?.sub(&total)?;
        let weight = contrast.mul(&regularised.constant(&scale)?)?.detach()?;
        weight
            .mul(responses.log_policy())?
            .segment_sum(groups)?
            .neg()
    }
}
