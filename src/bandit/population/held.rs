//! The numbers that single responses are held against.

use super::Feed;
use crate::bandit::{Problem, Prompt, PromptEvidence, View};
use crate::error::{Error, Result};
use crate::loss::{InputKind, Value};

/// The number of each prompt that its single responses are held against: baseline, value or z₀;
/// none for other examples. `log_policy` holds the trained number of each arm.
///
/// # Errors
/// A baseline that does not fit the problem, or a value that is to be given and is not.
pub fn held(
    problem: &Problem,
    view: &View,
    feed: &Feed,
    log_policy: &[Vec<f64>],
) -> Result<Option<Vec<f64>>> {
    let beta = problem.beta();
    let rows = || problem.prompts().iter().zip(&view.prompts).enumerate();
    if feed.inputs == InputKind::Rated {
        let kl = |x: usize, prompt: &Prompt| -> f64 {
            (log_policy[x].iter().zip(&prompt.log_reference))
                .map(|(l, r)| l.exp() * (l - r))
                .sum()
        };
        let mean: f64 = rows().map(|(x, (p, share))| share.mass * kl(x, p)).sum();
        let anchor = if feed.rating.kl { mean.max(0.0) } else { 0.0 };
        return Ok(Some(vec![anchor; log_policy.len()]));
    }
    if let Some(baseline) = &feed.baseline {
        let at = |(x, (prompt, share)): (usize, (&Prompt, &PromptEvidence))| {
            baseline.at(
                x,
                &log_policy[x],
                &prompt.log_reference,
                &share.reward,
                beta,
            )
        };
        return rows().map(at).collect::<Result<_>>().map(Some);
    }
    let Some(value) = feed.value else {
        return Ok(None);
    };
    let own = |x: usize, prompt: &Prompt, share: &PromptEvidence| -> f64 {
        (share.mean_law().iter().enumerate())
            .filter(|(_, m)| **m > 0.0)
            .map(|(a, m)| {
                let u = log_policy[x][a] - prompt.log_reference[a];
                m * (share.reward[a] - beta * u)
            })
            .sum()
    };
    let constant: f64 = rows()
        .filter(|(_, (_, share))| share.mass > 0.0)
        .map(|(x, (p, share))| share.mass * own(x, p, share))
        .sum();
    rows()
        .map(|(x, (prompt, share))| match (value, prompt.value) {
            (Value::Given | Value::Own, Some(given)) => Ok(given),
            (Value::Own, None) => Ok(own(x, prompt, share)),
            (Value::Constant | Value::Tokens, _) => Ok(constant),
            (Value::Given, None) => Err(missing(x, "value", "the number V(x) to hold fixed")),
        })
        .collect::<Result<_>>()
        .map(Some)
}

/// The error for an optional field of a prompt that an objective needs.
pub fn missing(x: usize, field: &str, what: &str) -> Error {
    Error::invalid(
        format!("prompts[{x}].{field}"),
        "it is missing, and the objective needs it",
        format!("give each prompt a `{field}`: {what}"),
    )
}
