//! The Bradley–Terry reward model.

use super::{InputKind, Inputs, Loss, Spec, Table};
use crate::backend::Backend;
use crate::error::Result;

/// `−ln σ(r(y⁺) − r(y⁻) − m)`: the preferred response is to score higher by the margin m of its pair, which is 0 where
/// the data give none.
///
/// * Shapes: scores `[B]` of the preferred and of the rejected response, margins `[B]`; returns `[B]`.
/// * Detached: nothing. Finite for every finite gap.
/// * Source: CoPG, section 6 (ℓ_RM). With a margin Touvron et al. 2023 (Llama 2), eq. 2; the `margin` of TRL's
///   `RewardTrainer`. It is not the Advantage Model's m, which bounds every score.
/// * Fixed point, without margins: the true rewards up to a constant per component of the comparison graph; the
///   policy optimal for them is [`solve::preference`](crate::solve::preference).
pub struct RewardModel;

impl Loss for RewardModel {
    type Numbers = ();

    fn spec(&self) -> Spec {
        Spec {
            formula: "−ln σ(r(y⁺) − r(y⁻))",
            source: "CoPG, section 6",
            fixed_point: "R up to a shift; its optimal policy is π*",
            table: Table::Scores,
            ..Spec::new("reward-model", InputKind::LabelledPairs)
        }
    }

    fn loss<X: Backend>(&self, (): &(), inputs: &Inputs<X>) -> Result<X> {
        let pair = inputs.pair()?;
        let preferred = pair.first.log_policy().sub(pair.margin()?)?;
        pair.second.log_policy().sub(&preferred)?.softplus()
    }
}
