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

/// `−ln σ(r(y⁺) − r(y⁻) − margin)`: the preferred response is to score higher by a margin of its pair.
///
/// * Shapes: scores `[B]` of the preferred and of the rejected response, margins `[B]`; returns `[B]`.
/// * Detached: nothing. Finite for every finite gap. A margin of 0 gives [`reward_model`].
/// * Source: Touvron et al. 2023 (Llama 2), eq. 2; the `margin` of TRL's `RewardTrainer`. It is not the
///   Advantage Model's m, which bounds every score.
pub fn reward_model_with_margin<X: Backend>(preferred: &X, rejected: &X, margin: &X) -> Result<X> {
    reward_model(&preferred.sub(margin)?, rejected)
}
