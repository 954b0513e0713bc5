//! Policy gradient with a baseline, applied to responses of any law.

use super::Response;
use crate::backend::Backend;
use crate::error::Result;

/// A surrogate whose gradient is the negated policy-gradient update:
///
/// `−⟦R_β(y) − b⟧ ln π(y)`, with ⟦·⟧ detached
///
/// * Shapes: `[B]` each, returns `[B]`. Its value means nothing; its gradient is the field.
/// * Detached: the whole weight, the baseline included.
/// * Source: CoPG, section 5 (∇ℓ_PG sums this over both responses of a pair).
/// * Fixed point: depends on the baseline. π* for `b = E_ν[R_β]` under any law ν, π included,
///   when μ₁ + μ₂ covers π_ref; elsewhere for `b = 0` and for `b = E_π[R]`:
///   [`solve::policy_gradient`](mod@crate::solve::policy_gradient).
pub fn policy_gradient<X: Backend>(response: &Response<X>, baseline: &X, beta: f64) -> Result<X> {
    let regularised = response
        .reward
        .sub(&response.log_ratio()?.affine(beta, 0.0)?)?;
    let weight = regularised.sub(baseline)?.detach()?;
    weight.mul(&response.log_policy)?.neg()
}
