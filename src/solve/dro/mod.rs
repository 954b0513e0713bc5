//! Direct Reward Optimisation beyond its joint optimum (which is π\*, V\*): one value for all
//! prompts, its Algorithm 1 as printed, and what an error in a fixed value costs.
//!
//! All run on single responses from the mean law `μ̄ = (μ₁ + μ₂)/2`, with
//! `L(π, V) = ½ E_ρ E_μ̄ [(R − V − τu)²]` (eq. 4) and τ = β.

mod algorithm;
mod constant;
mod exact;
mod value_error;

pub use algorithm::{algorithm_1, algorithm_1_as_printed, joint_regression};
pub use constant::constant;
pub use value_error::{
    Minimum, ValueError, equation_5, fixed_value_policy, fixed_value_update, minima, value_error,
};

pub(super) use exact::EXACT;

use crate::bandit::{Prompt, PromptEvidence};

/// `V^π(x) = E_μ̄[R − βu]`, the value that minimises DRO's loss at a policy (Proposition 1).
///
/// Rewards are those of the evidence. An arm that no response shows counts nothing, whatever its
/// log-ratio; an arm that is shown and has probability 0 makes the value infinite.
pub fn value_of(prompt: &Prompt, share: &PromptEvidence, beta: f64, log_policy: &[f64]) -> f64 {
    let arms = share.mean_law().into_iter().enumerate();
    arms.filter(|&(_, mass)| mass > 0.0)
        .map(|(a, mass)| {
            mass * (share.reward[a] - beta * (log_policy[a] - prompt.log_reference[a]))
        })
        .sum()
}
