//! Kahneman–Tversky optimisation (KTO), DRO's baseline.

use super::Response;
use crate::backend::Backend;
use crate::error::Result;

/// KTO on rated responses: with `s = σ(β(u − z₀))`,
///
/// `λ_D (1 − s)` for a desirable response, `λ_U s` for an undesirable one
///
/// * Shapes: `[B]` each, returns `[B]`. `desirable` is 1 or 0 (or a probability between);
///   `anchor` is z₀, an estimate of KL(π‖π_ref) not below 0, shared by the batch.
/// * Detached: z₀.
/// * `weights`: λ_D and λ_U.
/// * Source: Ethayarajh et al. 2024; DRO, section 4.1 (baseline).
/// * Fixed point: undesirable arms lose all probability; on the others `μ s(1 − s)/π` is constant.
///   It does not depend on the size of rewards: [`solve::kto`](crate::solve::kto).
pub fn kto<X: Backend>(
    response: &Response<X>,
    desirable: &X,
    anchor: &X,
    beta: f64,
    weights: [f64; 2],
) -> Result<X> {
    let [good, bad] = weights;
    let x = (response.log_ratio()?.sub(&anchor.detach()?)?).affine(beta, 0.0)?;
    let lost = desirable.mul(&x.neg()?.sigmoid()?)?.affine(good, 0.0)?;
    let kept = (desirable.affine(-1.0, 1.0)?)
        .mul(&x.sigmoid()?)?
        .affine(bad, 0.0)?;
    lost.add(&kept)
}
