//! One prompt, several sampling distributions: what fitting them all comes to.

use super::sampling::Divergence;
use crate::bandit::log_sum_exp;
use crate::solve::log_softmax;

/// `ln P` of the minimiser of `Σ_i w_i divergence(P, P_i)`, the fit of the newest task with fixed
/// multipliers on the older ones where all tasks share one prompt: in reverse the geometric mixture
/// `∝ Π P_i^{w_i/Σw}`, forward the arithmetic one `Σ w_i P_i/Σw`.
///
/// `parts` are `(w_i, ln P_i)` over the same arms, with positive weights. Two tasks with weights λ
/// and 1 in reverse, the newer starting from the older's answer, give `P₁ e^{Adv₂/(β(1+λ))}`: the
/// multiplier is a temperature.
pub fn compromise(parts: &[(f64, &[f64])], which: Divergence) -> Vec<f64> {
    let arms = parts.first().map_or(0, |(_, log)| log.len());
    let total: f64 = parts.iter().map(|(w, _)| w).sum();
    let mixed: Vec<f64> = (0..arms)
        .map(|a| match which {
            Divergence::Reverse => parts.iter().map(|(w, log)| w / total * log[a]).sum(),
            Divergence::Forward => {
                let terms: Vec<f64> = parts.iter().map(|(w, log)| w.ln() + log[a]).collect();
                log_sum_exp(&terms)
            }
        })
        .collect();
    log_softmax(&mixed)
}
