//! Proximal policy optimisation with a clipped ratio (PPO-clip), on whole responses.

use super::{Baseline, InputKind, Inputs, Kind, Loss, Single, Spec};
use crate::backend::Backend;
use crate::error::Result;

crate::numbers! {
    /// Numbers of PPO-clip.
    pub struct Clip {
        /// β, the weight of the KL penalty in the reward
        beta in from(0.0) = 0.1;
        /// ε, by how much the ratio may leave 1 before it is clipped; inf clips nothing
        epsilon in from_to_infinity(0.0) = 0.2;
        /// b, the baseline: a number, such as the mean reward
        baseline in any() = 0.0;
    }
}

/// PPO's clipped surrogate, negated:
///
/// `−min(ρA, clip(ρ, 1 − ε, 1 + ε) A)`, with `ρ = π(y)/π_old(y)` and `A = ⟦R − β ln[π_old(y)/π_ref(y)] − b⟧`
///
/// * Shapes: `[B]` each, returns `[B]`. Units: reward. The KL penalty is part of the reward, as PPO for language
///   models has it; on the edge of the clip the slope is the inner one.
/// * Detached: A. Nothing trained is in it but what a program holds responses against.
/// * Source: Schulman et al. 2017, eq. 7; the penalty: Ziegler et al. 2019, eq. 2.
/// * Fixed point: of one round, that is with π_old fixed, the maximisers of the surrogate,
///   [`solve::ppo_clip::maximum`](crate::solve::ppo_clip::maximum), often a face. On policy, where every step has its
///   own π_old, the clip is not felt: the update is that of a policy gradient on `R_β − b`, and leads to π*.
pub struct PpoClip;

impl Loss for PpoClip {
    type Numbers = Clip;

    fn spec(&self) -> Spec {
        Spec {
            formula: "−min(ρA, clip(ρ, 1 ± ε)A), A = R − β ln π_old/π_ref − b",
            kind: Kind::Kinked,
            source: "Schulman et al. 2017, eq. 7",
            fixed_point: "past the clip of π_old, often a face",
            own_responses_only: Some(
                "it needs ln π_old of the policy that wrote the responses, which files do not have",
            ),
            ..Spec::new("ppo-clip", InputKind::Singles)
        }
    }

    fn loss<X: Backend>(&self, n: &Clip, inputs: &Inputs<X>) -> Result<X> {
        let Single { response, baseline } = inputs.single()?;
        let old = response.log_old()?;
        let penalty = old.sub(response.log_reference()?)?.affine(n.beta, 0.0)?;
        let advantage = (response.reward()?.sub(&penalty)?.sub(baseline)?).detach()?;
        let ratio = response.log_policy().sub(old)?.exp()?;
        let clipped = ratio.clamp(1.0 - n.epsilon, 1.0 + n.epsilon)?;
        // Of equals the second has the slope: within the clip and on its edge the ratio itself.
        let clipped = clipped.mul(&advantage)?;
        clipped.min(&ratio.mul(&advantage)?)?.neg()
    }

    fn baseline(&self, n: &Clip) -> Option<Baseline> {
        Some(Baseline::Given(n.baseline))
    }
}
