//! The number of a prompt that single responses are held against.

use crate::error::{Error, Result};

/// The baseline of a policy gradient.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Baseline {
    /// A given number, the same for every prompt.
    Given(f64),
    /// E_π\[R\].
    Value,
    /// E_π\[R_β\], which is J.
    SoftValue,
    /// E_ν\[R_β\] for a given law ν, one per prompt.
    SoftValueUnder(Vec<Vec<f64>>),
}

impl Baseline {
    /// The baseline of prompt `x` at a policy, from one number per arm.
    ///
    /// # Errors
    /// A given law that is missing, has another number of arms, or is no distribution.
    pub fn at(
        &self,
        x: usize,
        log_policy: &[f64],
        log_reference: &[f64],
        reward: &[f64],
        beta: f64,
    ) -> Result<f64> {
        let arms = 0..log_policy.len();
        // An arm without probability counts nothing, however large its log-ratio.
        let mean = |law: &dyn Fn(usize) -> f64, of: &dyn Fn(usize) -> f64| -> f64 {
            arms.clone()
                .map(|a| (law(a), a))
                .filter(|(p, _)| *p > 0.0)
                .map(|(p, a)| p * of(a))
                .sum()
        };
        let policy = |a: usize| log_policy[a].exp();
        let regularised = |a: usize| reward[a] - beta * (log_policy[a] - log_reference[a]);
        Ok(match self {
            Self::Given(b) => *b,
            Self::Value => mean(&policy, &|a| reward[a]),
            Self::SoftValue => mean(&policy, &regularised),
            Self::SoftValueUnder(laws) => {
                let law = Self::law(laws, x, log_policy.len())?;
                mean(&|a| law[a], &regularised)
            }
        })
    }

    /// The given law of prompt `x`, checked.
    pub(crate) fn law(laws: &[Vec<f64>], x: usize, arms: usize) -> Result<&[f64]> {
        let law = laws.get(x).map_or(&[][..], Vec::as_slice);
        let sum: f64 = law.iter().sum();
        if law.len() == arms && law.iter().all(|p| *p >= 0.0) && (sum - 1.0).abs() <= 1e-9 {
            return Ok(law);
        }
        Err(Error::invalid(
            format!("baseline law of prompt {x}"),
            format!(
                "it has {} arms and sums to {sum}, the prompt has {arms} arms",
                law.len()
            ),
            "give one probability per kept arm of every prompt",
        ))
    }
}

/// The number V(x) that DRO takes where the problem is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Value {
    /// The prompt's given one; an error without.
    Given,
    /// The prompt's given one, or without the best for the policy, `V^π(x) = E_μ[R_β]`.
    Own,
    /// One for all prompts, the best for the policy: `E_ρ V^π(x)`.
    Constant,
    /// One for each token, of the prefix that it follows: on text only.
    Tokens,
}
