//! Expected updates in closed form: what the gradient of each population loss comes to, prompt by
//! prompt, without visiting pairs where the algebra allows. The residual of every answer is its
//! largest entry; the certificates compare it with the loss itself.

use crate::backend::nd::sigmoid;
use crate::bandit::{Comparisons, Prompt, PromptEvidence, log_sum_exp};
use crate::error::Result;
use crate::loss::Objective;

use super::policy_gradient;

/// The gradient of the population loss with respect to one prompt's logits (for a reward model:
/// its scores), per unit of the prompt's mass:
///
/// | objective | gradient |
/// |---|---|
/// | copg, copg-completed | `−L_w (R − βu)` |
/// | copg-squared | `−2β L_w (R − βu)` |
/// | rloo | `−½ L_w̄ (R − βu)`, w̄ of μ̄ × μ̄ |
/// | dpo | `β Σ_b w_ab (σ(βu_a − βu_b) − p_ab)` |
/// | reward-model | `Σ_b w_ab (σ(r_a − r_b) − p_ab)` |
/// | ipo | `2 (L_w u − r/β)`, `r_a = Σ_b w_ab (p_ab − ½)` |
/// | ipo-copg | `2β² (L_w u − r/β)` |
/// | ipo-gpo | `2β² (L_w u − 2r/β)` |
/// | slic | `−β Σ_b w_ab (p_ab [βu_ab < 1] − p_ba [βu_ba < 1])` |
/// | pg-* | `−m (R_β − b) + π Σ m (R_β − b)` |
///
/// # Errors
/// Evidence without pairs for an objective that needs them, or a baseline law that does not fit.
pub fn gradient(
    objective: Objective,
    x: usize,
    prompt: &Prompt,
    share: &PromptEvidence,
    beta: f64,
    table: &[f64],
) -> Result<Vec<f64>> {
    use Objective as O;
    let u = || -> Vec<f64> {
        table
            .iter()
            .zip(&prompt.log_reference)
            .map(|(t, l)| t - l)
            .collect()
    };
    let regularised = || -> Vec<f64> {
        share
            .reward
            .iter()
            .zip(u())
            .map(|(r, u)| r - beta * u)
            .collect()
    };
    let scaled =
        |by: f64, values: Vec<f64>| -> Vec<f64> { values.into_iter().map(|v| by * v).collect() };
    if let Some(baseline) = objective.baseline() {
        let normaliser = log_sum_exp(table);
        let log_policy: Vec<f64> = table.iter().map(|t| t - normaliser).collect();
        let update = policy_gradient::update(x, prompt, share, beta, &baseline, &log_policy)?;
        return Ok(scaled(-1.0, update));
    }
    Ok(match objective {
        O::Copg | O::CopgCompleted => scaled(-1.0, share.compared()?.laplacian(&regularised())),
        O::CopgSquared => scaled(-2.0 * beta, share.compared()?.laplacian(&regularised())),
        O::Rloo => scaled(-0.5, mean_pairs(share).laplacian(&regularised())),
        O::Dpo => scaled(beta, preference_gap(share, &scaled(beta, u()))?),
        O::RewardModel => preference_gap(share, table)?,
        O::Ipo => least_squares_gap(share, &u(), 2.0, 1.0 / beta)?,
        O::IpoCopg => least_squares_gap(share, &u(), 2.0 * beta * beta, 1.0 / beta)?,
        O::IpoGpo => least_squares_gap(share, &u(), 2.0 * beta * beta, 2.0 / beta)?,
        O::Slic => hinge(share, &u(), beta)?,
        O::PgZero | O::PgValue | O::PgSoftValue => unreachable!("a baseline was found above"),
    })
}

/// Pairs of independent responses from the mean law μ̄ = (μ₁ + μ₂)/2.
pub(super) fn mean_pairs(share: &PromptEvidence) -> Comparisons {
    let mean = share.mean_law();
    Comparisons::Product {
        first: mean.clone(),
        second: mean,
    }
}

fn preference_gap(share: &PromptEvidence, scores: &[f64]) -> Result<Vec<f64>> {
    let pairs = share.compared()?;
    let pull = pairs.pull(&share.reward);
    Ok(pairs
        .logistic_pull(scores)
        .iter()
        .zip(pull)
        .map(|(a, b)| a - b)
        .collect())
}

fn least_squares_gap(
    share: &PromptEvidence,
    u: &[f64],
    scale: f64,
    target: f64,
) -> Result<Vec<f64>> {
    let pairs = share.compared()?;
    let pull = pairs.pull(&share.reward);
    Ok(pairs
        .laplacian(u)
        .iter()
        .zip(pull)
        .map(|(lu, r)| scale * (lu - target * r))
        .collect())
}

fn hinge(share: &PromptEvidence, u: &[f64], beta: f64) -> Result<Vec<f64>> {
    let mut gradient = vec![0.0; u.len()];
    for e in share.compared()?.edges(&share.reward) {
        let (a, b) = (e.a as usize, e.b as usize);
        let z = beta * (u[a] - u[b]);
        let active = |won: f64, z: f64| if z < 1.0 { won } else { 0.0 };
        let push = beta * (active(e.wins, z) - active(e.losses, -z));
        gradient[a] -= push;
        gradient[b] += push;
    }
    Ok(gradient)
}

/// The Bradley–Terry gradient of listed comparisons among the arms `inside`.
pub(super) fn inner_preference_gradient(
    edges: &[crate::bandit::Edge],
    scores: &[f64],
    inside: &[bool],
) -> Vec<f64> {
    let mut gradient = vec![0.0; scores.len()];
    for e in edges {
        let (a, b) = (e.a as usize, e.b as usize);
        if a != b && inside[a] && inside[b] {
            let d = scores[a] - scores[b];
            let g = e.losses * sigmoid(d) - e.wins * sigmoid(-d);
            gradient[a] += g;
            gradient[b] -= g;
        }
    }
    gradient
}
