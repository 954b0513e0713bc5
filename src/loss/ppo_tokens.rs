//! Proximal policy optimisation token by token: PPO with a critic, and without one (GRPO).

use std::rc::Rc;

use super::{InputKind, Inputs, Kind, Loss, Spec, Tokens, Value};
use crate::backend::{Backend, Segments};
use crate::error::Result;

/// The reason why they are not defined on a bandit.
const TEXT_ONLY: &str =
    "its advantages are of tokens: on a bandit, where a response is one, it is ppo-clip";

/// The reason why files do not do.
const OWN: &str =
    "it needs ln π_old of every token by the policy that wrote it, which files do not have";

crate::numbers! {
    /// Numbers of PPO token by token.
    pub struct Critic {
        /// β, the weight of the KL penalty in the reward
        beta in from(0.0) = 0.1;
        /// ε, by how much the ratio may leave 1 before it is clipped; inf clips nothing
        epsilon in from_to_infinity(0.0) = 0.2;
        /// Weight of the estimate k1 of KL, u = ln π/π_ref, in the loss; on-policy its gradient is 0 in expectation
        k1 in any() = 0.0;
        /// Weight of the estimate k2 of KL, u²/2, in the loss; on-policy its gradient is that of the next token's
        /// KL(π‖π_ref)
        k2 in any() = 0.0;
        /// Weight of the estimate k3 of KL, e^−u − 1 + u, in the loss; on-policy its gradient is that of the next token's
        /// KL(π_ref‖π)
        k3 in any() = 0.0;
        /// Weight of the values' squared errors beside the policy's loss
        value_coefficient in from(0.0) = 0.1;
        /// By how much V may leave its old value before it is clipped; inf clips nothing
        value_clip in from_to_infinity(0.0) = 0.2;
    }
}

crate::numbers! {
    /// Numbers of PPO token by token without a critic.
    pub struct Plain {
        /// β, the weight of the KL penalty in the reward
        beta in from(0.0) = 0.1;
        /// ε, by how much the ratio may leave 1 before it is clipped; inf clips nothing
        epsilon in from_to_infinity(0.0) = 0.2;
        /// Weight of the estimate k1 of KL, u = ln π/π_ref, in the loss; on-policy its gradient is 0 in expectation
        k1 in any() = 0.0;
        /// Weight of the estimate k2 of KL, u²/2, in the loss; on-policy its gradient is that of the next token's
        /// KL(π‖π_ref)
        k2 in any() = 0.0;
        /// Weight of the estimate k3 of KL, e^−u − 1 + u, in the loss; on-policy its gradient is that of the next token's
        /// KL(π_ref‖π)
        k3 in any() = 0.0;
    }
}

/// PPO with a critic, summed over the tokens of a response:
///
/// `Σₜ −min(ρA, clip(ρ, 1 ± ε)A) + k₁u + ½k₂u² + k₃(e^−u − 1 + u) + c ½ max((V − R̂)², (V_old + clip(V − V_old, ±ε_V) − R̂)²)`
///
/// with `ρ = π/π_old` and `u = ln π/π_ref` of the token after its prefix, and A, R̂ of generalised advantage estimation.
///
/// * Shapes: `[T]` tokens in N responses in B groups, returns `[B]`. Units: reward, and reward² of the values.
/// * Detached: A, R̂, V_old and ln π_old are numbers of when the responses were written.
/// * Source: Schulman et al. 2017, eq. 7 and 9; the penalty in the reward (k1) and the values' clip as in Ziegler et al.
///   2019 and TRL; k1 to k3: Schulman, "Approximating KL divergence" (2020).
/// * Fixed point: on one's own responses, at π_old, with γ = λ = 1 and no whitening its expected gradient is that of
///   −J(π), the expected reward less β KL(π‖π_ref).
pub struct PpoTokens;

/// [`PpoTokens`] without a critic: A is one number for all tokens of a response (GRPO, DAPO, RLOO token by token).
///
/// * Source: Shao et al. 2024 (DeepSeekMath), eq. 3, whose penalty is k3.
pub struct PpoPlain;

impl Loss for PpoTokens {
    type Numbers = Critic;

    fn spec(&self) -> Spec {
        Spec {
            formula: "Σ −min(ρA, clip(ρ, 1 ± ε)A) + c ½(V − R̂)², token by token",
            source: "Schulman et al. 2017, eq. 7, 9",
            value: Some(Value::Tokens),
            ..of_tokens("ppo")
        }
    }

    fn loss<X: Backend>(&self, n: &Critic, inputs: &Inputs<X>) -> Result<X> {
        let all = inputs.tokens()?;
        let policy = surrogate(all, n.beta, n.epsilon, [n.k1, n.k2, n.k3])?;
        let (value, old, target) = (all.value()?, all.old_value()?, all.target()?);
        let clipped = old.add(&value.sub(old)?.clamp(-n.value_clip, n.value_clip)?)?;
        // Of equals the second has the slope: within the clip V itself.
        let errors = clipped
            .sub(target)?
            .square()?
            .max(&value.sub(target)?.square()?)?;
        summed(
            all,
            &policy.add(&errors.affine(0.5 * n.value_coefficient, 0.0)?)?,
        )
    }
}

impl Loss for PpoPlain {
    type Numbers = Plain;

    fn spec(&self) -> Spec {
        Spec {
            formula: "Σ −min(ρA, clip(ρ, 1 ± ε)A), token by token",
            source: "Shao et al. 2024, eq. 3",
            ..of_tokens("grpo")
        }
    }

    fn loss<X: Backend>(&self, n: &Plain, inputs: &Inputs<X>) -> Result<X> {
        let all = inputs.tokens()?;
        summed(all, &surrogate(all, n.beta, n.epsilon, [n.k1, n.k2, n.k3])?)
    }
}

fn of_tokens(name: &'static str) -> Spec {
    Spec {
        kind: Kind::Kinked,
        fixed_point: "stationary where J is, on one's own responses",
        own_responses_only: Some(OWN),
        text_only: Some(TEXT_ONLY),
        ..Spec::new(name, InputKind::Tokens)
    }
}

/// `−min(ρA, clip(ρ, 1 ± ε)A)` of each token, with estimates of KL weighted so. β is in A.
fn surrogate<X: Backend>(all: &Tokens<X>, beta: f64, epsilon: f64, k: [f64; 3]) -> Result<X> {
    let (tokens, advantage) = (&all.tokens, all.advantage()?);
    let ratio = tokens.log_policy().sub(tokens.log_old()?)?.exp()?;
    let clipped = ratio.clamp(1.0 - epsilon, 1.0 + epsilon)?.mul(advantage)?;
    // Of equals the second has the slope: within the clip and on its edge the ratio itself.
    let mut each = clipped.min(&ratio.mul(advantage)?)?.neg()?;
    if beta == 0.0 && k == [0.0; 3] {
        return Ok(each);
    }
    // Whoever made the advantages looked at the reference too.
    let u = tokens.log_ratio()?;
    let [k1, k2, k3] = k;
    if k1 != 0.0 {
        each = each.add(&u.affine(k1, 0.0)?)?;
    }
    if k2 != 0.0 {
        each = each.add(&u.square()?.affine(0.5 * k2, 0.0)?)?;
    }
    if k3 != 0.0 {
        let third = u.neg()?.exp()?.add(&u)?.affine(k3, -k3)?;
        each = each.add(&third)?;
    }
    Ok(each)
}

/// Sums of tokens' numbers over responses, and of these over groups.
fn summed<X: Backend>(all: &Tokens<X>, each: &X) -> Result<X> {
    let segments: [&Rc<Segments>; 2] = [&all.responses, &all.groups];
    each.segment_sum(segments[0])?.segment_sum(segments[1])
}
