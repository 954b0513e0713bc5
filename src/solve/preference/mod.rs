//! DPO and the Bradley–Terry reward model: the scores `r = βu` that explain the labels best.
//!
//! Under Bradley–Terry labels of the true rewards that is R itself, up to a constant per component
//! of the comparison graph, so the policy is π*. On a finite dataset it is the Bradley–Terry
//! estimate, which is finite exactly when within every component each arm beats its way to each
//! other; otherwise some margins grow without bound, and gradient flow has a limit all the same.

mod estimate;
mod runoff;

use super::copg::centre;
use super::graph::{components, describe, strong_components};
use super::update::{Place, gradient};
use super::{Part, Rest, largest, tilt};
use crate::bandit::{Comparisons, Prompt, PromptEvidence};
use crate::error::Result;
use crate::loss::Objective;
use estimate::estimate;

const CLOSED_FORM: &str = "closed form";
const ESTIMATE: &str = "Bradley–Terry estimate, Newton";

/// The fixed point of DPO or of the reward model.
///
/// # Errors
/// No pairs, or listed pairs over more than 2,000 arms.
pub fn fixed_point(
    objective: Objective,
    x: usize,
    prompt: &Prompt,
    share: &PromptEvidence,
    beta: f64,
) -> Result<Part> {
    let pairs = share.compared();
    let parts = components(pairs, prompt.arms());
    let disconnected = (parts.len() > 1).then(|| describe(&parts, prompt.kept()));
    let (scores, method) = match pairs {
        Comparisons::Listed {
            edges,
            bradley_terry: false,
        } => {
            let groups = strong_components(edges, prompt.arms());
            if groups.len() > parts.len() {
                return runoff::limit(x, prompt, edges, &groups, &parts, beta);
            }
            let mut scores = vec![0.0; prompt.arms()];
            for part in &parts {
                let fitted = estimate(edges, part, x)?;
                part.iter().zip(fitted).for_each(|(&a, s)| scores[a] = s);
            }
            (scores, ESTIMATE)
        }
        // The labels are those of the problem's rewards, whatever rewards were logged besides.
        _ => (centre(&prompt.reward, &parts), CLOSED_FORM),
    };
    let log_policy = tilt(prompt, scores.iter().map(|s| s / beta));
    let table = if objective.trains_scores() {
        &scores
    } else {
        &log_policy
    };
    Ok(Part {
        residual: largest(gradient(
            objective,
            Place::new(x, prompt, share, beta),
            table,
        )?),
        log_policy: Some(log_policy),
        method,
        unique: parts.len() == 1,
        rest: Rest::of_components(&parts),
        error: None,
        note: disconnected,
    })
}
