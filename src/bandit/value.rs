//! Exact quantities of a policy: V*, π*, J, regret and KL, all in log space.

use super::logistic::half_logistic_sums;
use super::policy::{Policy, log_softmax, log_sum_exp};
use super::problem::{Problem, Prompt};

/// The optimum of the KL-regularised problem.
#[derive(Debug, Clone)]
pub struct Optimum {
    /// `π* = π_ref e^{(R − V*)/β}`.
    pub policy: Policy,
    /// `V*(x) = β ln Σ π_ref e^{R/β}`.
    pub value: Vec<f64>,
    /// `J(π*) = Σ ρ V*`.
    pub objective: f64,
}

/// `KL(p‖q) = Σ p ln(p/q)` from log-probabilities, in nats.
///
/// Summed as `Σ q·(eᵟ(δ − 1) + 1)` with `δ = ln p − ln q`, whose terms are all non-negative, so a
/// divergence of 1e-20 keeps its digits. Infinite where p has mass and q has none.
pub fn kl(log_p: &[f64], log_q: &[f64]) -> f64 {
    (log_p.iter().zip(log_q))
        .map(|(&lp, &lq)| {
            if lp == f64::NEG_INFINITY {
                return lq.exp();
            }
            if lq == f64::NEG_INFINITY {
                return f64::INFINITY;
            }
            let delta = lp - lq;
            if delta.abs() < 0.5 {
                // Σ_{k≥2} δᵏ (k − 1)/k!
                let (mut power, mut sum) = (delta, 0.0);
                for k in 2..20 {
                    power *= delta / f64::from(k);
                    sum += power * f64::from(k - 1);
                }
                lq.exp() * sum
            } else {
                lp.exp() * (delta - 1.0) + lq.exp()
            }
        })
        .sum()
}

impl Prompt {
    /// `(V*, ln π*)` at temperature `beta`. The largest reward is subtracted before dividing by β.
    pub fn optimum(&self, beta: f64) -> (f64, Vec<f64>) {
        let top = self
            .reward
            .iter()
            .copied()
            .fold(f64::NEG_INFINITY, f64::max);
        let log: Vec<f64> = (self.reward.iter().zip(&self.log_reference))
            .map(|(r, l)| l + (r - top) / beta)
            .collect();
        (top + beta * log_sum_exp(&log), log_softmax(&log))
    }

    /// `J(π) = E_π[R − β ln π/π_ref]` at this prompt.
    pub fn objective(&self, log_policy: &[f64], beta: f64) -> f64 {
        (log_policy.iter().zip(&self.reward).zip(&self.log_reference))
            .filter(|((l, _), _)| **l != f64::NEG_INFINITY)
            .map(|((&l, r), reference)| l.exp() * (r - beta * (l - reference)))
            .sum()
    }

    /// `P(a) − ½`, where `P(a) = E_{b∼π} σ(R_a − R_b)` is how often arm a is preferred to a draw
    /// of π. Time grows with the square of the number of arms.
    pub fn win_margins(&self, log_policy: &[f64]) -> Vec<f64> {
        let law: Vec<f64> = log_policy.iter().map(|l| l.exp()).collect();
        let sums = half_logistic_sums(&self.reward, &law, &law);
        sums.into_iter().map(|(margin, _)| margin).collect()
    }
}

impl Problem {
    /// π*, V* and J*.
    pub fn optimum(&self) -> Optimum {
        let (value, log): (Vec<f64>, Vec<_>) = self
            .prompts()
            .iter()
            .map(|p| p.optimum(self.beta()))
            .unzip();
        let objective = self.mean(value.iter().copied());
        Optimum {
            policy: Policy::from_log(log),
            value,
            objective,
        }
    }

    /// `J(π)`.
    pub fn objective(&self, policy: &Policy) -> f64 {
        let each = self.prompts().iter().zip(policy.log());
        self.mean(each.map(|(prompt, log)| prompt.objective(log, self.beta())))
    }

    /// `J(π*) − J(π)`, computed as `β E_ρ KL(π‖π*)`, which does not cancel.
    pub fn regret(&self, policy: &Policy) -> f64 {
        let optimum = self.optimum();
        self.beta() * self.kl(policy, &optimum.policy)
    }

    /// `E_ρ KL(p‖q)`.
    pub fn kl(&self, p: &Policy, q: &Policy) -> f64 {
        self.mean(p.log().iter().zip(q.log()).map(|(p, q)| kl(p, q)))
    }

    /// `E_ρ` of one number per prompt. A prompt of weight zero counts nothing, even if infinite.
    fn mean(&self, values: impl Iterator<Item = f64>) -> f64 {
        (self.prompts().iter().zip(values))
            .filter(|(prompt, _)| prompt.weight > 0.0)
            .map(|(prompt, value)| prompt.weight * value)
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kl_keeps_its_digits_when_tiny() {
        // Two arms, p = ½ + ε: KL = 2ε² + O(ε⁴).
        let eps: f64 = 1e-11;
        let p = [(0.5 + eps).ln(), (0.5 - eps).ln()];
        let log_half = 0.5f64.ln();
        let got = kl(&p, &[log_half; 2]);
        assert!((got / (2.0 * eps * eps) - 1.0).abs() < 1e-4, "{got}");
        let p = [0.25f64.ln(), 0.75f64.ln()];
        let direct = 0.25 * (0.25f64 / 0.5).ln() + 0.75 * (0.75f64 / 0.5).ln();
        assert!((kl(&p, &[log_half; 2]) - direct).abs() < 1e-15);
        let certain = [0.0, f64::NEG_INFINITY];
        assert!((kl(&certain, &[log_half; 2]) - 2f64.ln()).abs() < 1e-15);
        assert_eq!(kl(&[log_half; 2], &certain), f64::INFINITY);
    }
}
