//! The sampling distribution, and the divergences of a policy from it.

use super::advantage::linear_advantage;
use crate::bandit::{Prompt, kl, log_sum_exp};
use crate::error::{Error, Result};
use crate::solve::log_softmax;

/// `ln P*` over Y (Def. 1, eq. 5): `ln π_ref + Adv/β`, normalised over Y.
///
/// The two slices run over Y. A constant added to the advantages changes nothing (A.4), and no
/// partition function over all responses is needed.
pub fn sampling_distribution(log_reference_on_y: &[f64], advantage: &[f64], beta: f64) -> Vec<f64> {
    let top = (advantage.iter().copied()).fold(f64::NEG_INFINITY, f64::max);
    let log: Vec<f64> = (log_reference_on_y.iter().zip(advantage))
        .map(|(l, adv)| l + (adv - top) / beta)
        .collect();
    log_softmax(&log)
}

/// `ln P_θ` over Y (eq. 6): a policy conditioned on `arms`, in their order. The policy must have
/// mass on at least one of them.
pub fn restrict(log_policy: &[f64], arms: &[usize]) -> Vec<f64> {
    let log: Vec<f64> = arms.iter().map(|&a| log_policy[a]).collect();
    log_softmax(&log)
}

/// Direction of the KL divergence that the fit minimises. Both vanish where `P_θ = P*`; where that is out of reach
/// (several targets at once, say) their minima differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Divergence {
    /// `KL(P_θ‖P*)`, the paper's eq. 7.
    Reverse,
    /// `KL(P*‖P_θ)`, what the paper's lines of PyTorch compute, summed over Y. Their default
    /// reduction also divides by the number of elements.
    Forward,
}

/// A sampling distribution to fit, and the arms it is over.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Y, as indices of kept arms, worst first.
    pub arms: Vec<usize>,
    /// `ln P*`, in the order of `arms`.
    pub log: Vec<f64>,
}

impl Target {
    /// The target of a ranking with linear advantages, `ranking` listing kept arms from worst to
    /// best.
    ///
    /// # Errors
    /// A ranking that is empty, repeats an arm or names one that does not exist.
    pub fn ranked(prompt: &Prompt, ranking: &[u32], beta: f64) -> Result<Self> {
        let len = ranking.len();
        let advantage: Vec<f64> = (1..=len).map(|j| linear_advantage(j, len)).collect();
        let arms = ranking.iter().map(|&a| a as usize).collect();
        Self::new(&prompt.log_reference, arms, &advantage, beta)
    }

    /// The target of any advantages, given in the order of `arms`.
    ///
    /// # Errors
    /// No arm, an arm twice, one that does not exist, or another number of advantages.
    pub fn new(
        log_reference: &[f64],
        arms: Vec<usize>,
        advantage: &[f64],
        beta: f64,
    ) -> Result<Self> {
        let mut seen = vec![false; log_reference.len()];
        let fail = |problem: String| {
            let remedy = "list distinct arms that the reference allows, from worst to best";
            Err(Error::invalid("ranking", problem, remedy))
        };
        if arms.is_empty() {
            return fail("it is empty".into());
        }
        for &a in &arms {
            match seen.get_mut(a) {
                None => return fail(format!("arm {a} does not exist")),
                Some(true) => return fail(format!("arm {a} is there twice")),
                Some(unseen) => *unseen = true,
            }
        }
        if advantage.len() != arms.len() {
            return Err(Error::Shape {
                operation: "advantages of a ranking",
                left: arms.len(),
                right: advantage.len(),
            });
        }
        let on_y: Vec<f64> = arms.iter().map(|&a| log_reference[a]).collect();
        let log = sampling_distribution(&on_y, advantage, beta);
        Ok(Self { arms, log })
    }

    /// The best arm.
    pub fn top(&self) -> usize {
        self.arms[self.arms.len() - 1]
    }

    /// `π(Y)`.
    pub fn mass(&self, log_policy: &[f64]) -> f64 {
        self.log_mass(log_policy).exp()
    }

    /// `ln π(Y)`.
    pub fn log_mass(&self, log_policy: &[f64]) -> f64 {
        let log: Vec<f64> = self.arms.iter().map(|&a| log_policy[a]).collect();
        log_sum_exp(&log)
    }

    /// The divergence of P_θ from P*, in nats.
    pub fn divergence(&self, log_policy: &[f64], which: Divergence) -> f64 {
        let log = restrict(log_policy, &self.arms);
        match which {
            Divergence::Reverse => kl(&log, &self.log),
            Divergence::Forward => kl(&self.log, &log),
        }
    }

    /// Its gradient with respect to all logits of the prompt: on Y `P_θ (ln(P_θ/P*) − KL)` in
    /// reverse and `P_θ − P*` forward, which sum to zero; off Y nothing.
    pub fn gradient(&self, log_policy: &[f64], which: Divergence) -> Vec<f64> {
        let log = restrict(log_policy, &self.arms);
        let divergence = match which {
            Divergence::Reverse => kl(&log, &self.log),
            Divergence::Forward => 0.0,
        };
        let mut gradient = vec![0.0; log_policy.len()];
        for ((&a, &l), &target) in self.arms.iter().zip(&log).zip(&self.log) {
            gradient[a] = match which {
                Divergence::Reverse if l == f64::NEG_INFINITY => 0.0,
                Divergence::Reverse => l.exp() * (l - target - divergence),
                Divergence::Forward => l.exp() - target.exp(),
            };
        }
        gradient
    }

    /// The gradient of the fit plus `likelihood` times `−ln π(top)`:
    /// `∇divergence + likelihood·(π − 1_top)`.
    pub fn gradient_with_likelihood(
        &self,
        log_policy: &[f64],
        which: Divergence,
        likelihood: f64,
    ) -> Vec<f64> {
        let mut gradient = self.gradient(log_policy, which);
        if likelihood != 0.0 {
            for (g, l) in gradient.iter_mut().zip(log_policy) {
                *g += likelihood * l.exp();
            }
            gradient[self.top()] -= likelihood;
        }
        gradient
    }
}
