//! The Bradley–Terry reward model.

use crate::backend::Backend;
use crate::error::Result;

/// `−ln σ(r(y⁺) − r(y⁻))`
///
/// * Shapes: scores `[B]` of the preferred and of the rejected response, returns `[B]`.
/// * Detached: nothing. Finite for every finite gap.
/// * Source: CoPG, section 6 (ℓ_RM).
/// * Fixed point: the true rewards up to a constant per component of the comparison graph; the
///   policy optimal for them is [`solve::preference`](crate::solve::preference).
pub fn reward_model<X: Backend>(preferred: &X, rejected: &X) -> Result<X> {
    rejected.sub(preferred)?.softplus()
}
