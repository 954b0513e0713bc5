//! Ranked prompts to learn from, and the gradients of what is done with them.

use super::sequence::{Sequence, Task};
use crate::backend::nd::sigmoid;
use crate::bandit::Prompt;
use crate::error::{Error, Result};
use crate::solve::copr::{Divergence, Target, linear_advantage, linear_advantages};

/// A prompt of a task with its ranked responses.
#[derive(Debug, Clone)]
pub(super) struct Example {
    /// The prompt's index in the sequence.
    pub prompt: usize,
    /// Share of the loss.
    pub weight: f64,
    /// β of its task.
    pub beta: f64,
    /// Y, worst first.
    pub arms: Vec<usize>,
    /// Linear advantages, in the order of `arms`.
    pub advantage: Vec<f64>,
}

/// The examples of a task, by the prompts' given rankings or else all arms ranked by reward.
pub(super) fn of_task(task: &Task, place: &str) -> Result<Vec<Example>> {
    (task.problem.prompts().iter().zip(&task.prompts).enumerate())
        .filter(|(_, (prompt, _))| prompt.weight > 0.0)
        .map(|(x, (prompt, &index))| {
            let (arms, advantage) = ranked(prompt);
            let beta = task.problem.beta();
            // Refuses rankings that the library's own constructors would not make.
            Target::new(&prompt.log_reference, arms.clone(), &advantage, beta).map_err(|_| {
                Error::invalid(
                    format!("{place}.prompts[{x}].ranking"),
                    "it is empty, repeats an arm or names one that does not exist",
                    "list distinct arms that the reference allows, from worst to best",
                )
            })?;
            Ok(Example {
                prompt: index,
                weight: prompt.weight,
                beta,
                arms,
                advantage,
            })
        })
        .collect()
}

fn ranked(prompt: &Prompt) -> (Vec<usize>, Vec<f64>) {
    if let Some(ranking) = &prompt.ranking {
        let len = ranking.len();
        return (
            ranking.iter().map(|&a| a as usize).collect(),
            (1..=len).map(|j| linear_advantage(j, len)).collect(),
        );
    }
    let advantage = linear_advantages(&prompt.reward);
    let mut arms: Vec<usize> = (0..prompt.arms()).collect();
    arms.sort_by(|&a, &b| prompt.reward[a].total_cmp(&prompt.reward[b]));
    let advantage = arms.iter().map(|&a| advantage[a]).collect();
    (arms, advantage)
}

/// Examples with their weights rescaled to sum to one.
pub(super) fn reweighted(mut examples: Vec<Example>) -> Vec<Example> {
    let total: f64 = examples.iter().map(|e| e.weight).sum();
    examples.iter_mut().for_each(|e| e.weight /= total);
    examples
}

/// An example and the sampling distribution to fit on it.
#[derive(Debug, Clone)]
pub(super) struct Fit {
    pub prompt: usize,
    pub weight: f64,
    pub target: Target,
}

impl Fit {
    /// The fits whose previous policy is that of parameters w (eq. 5).
    pub fn after(sequence: &Sequence, w: &[f64], examples: &[Example]) -> Result<Vec<Self>> {
        (examples.iter())
            .map(|e| {
                let before = sequence.log_policy(w, e.prompt);
                Ok(Self {
                    prompt: e.prompt,
                    weight: e.weight,
                    target: Target::new(&before, e.arms.clone(), &e.advantage, e.beta)?,
                })
            })
            .collect()
    }
}

/// `E_x divergence(P_θ, P*)`.
pub(super) fn divergence(sequence: &Sequence, w: &[f64], fits: &[Fit], which: Divergence) -> f64 {
    (fits.iter())
        .map(|fit| {
            let log_policy = sequence.log_policy(w, fit.prompt);
            fit.weight * fit.target.divergence(&log_policy, which)
        })
        .sum()
}

/// Adds `scale` times the gradient of the fit, with a weight on the best response's likelihood.
pub(super) fn add_fit(
    sequence: &Sequence,
    w: &[f64],
    fits: &[Fit],
    (which, likelihood): (Divergence, f64),
    scale: f64,
    into: &mut [f64],
) {
    for fit in fits {
        let log_policy = sequence.log_policy(w, fit.prompt);
        let gradient = (fit.target).gradient_with_likelihood(&log_policy, which, likelihood);
        sequence.pull_back(fit.prompt, &gradient, scale * fit.weight, into);
    }
}

/// DPO on all pairs of different rank of each example, equally often, the better one always winning,
/// with `reference[i]` the ln π_ref of example i's prompt: `−ln σ(β Δu)`.
pub(super) fn add_dpo(
    sequence: &Sequence,
    w: &[f64],
    examples: &[Example],
    reference: &[Vec<f64>],
    scale: f64,
    into: &mut [f64],
) {
    for (e, reference) in examples.iter().zip(reference) {
        let log_policy = sequence.log_policy(w, e.prompt);
        let mut gradient = vec![0.0; log_policy.len()];
        let mut pairs = 0.0;
        for (i, &loser) in e.arms.iter().enumerate() {
            for (j, &winner) in e.arms.iter().enumerate().skip(i + 1) {
                if e.advantage[i] == e.advantage[j] {
                    continue;
                }
                let u = |a: usize| log_policy[a] - reference[a];
                let push = e.beta * sigmoid(-e.beta * (u(winner) - u(loser)));
                gradient[winner] -= push;
                gradient[loser] += push;
                pairs += 1.0;
            }
        }
        if pairs > 0.0 {
            let scale = scale * e.weight / pairs;
            sequence.pull_back(e.prompt, &gradient, scale, into);
        }
    }
}
