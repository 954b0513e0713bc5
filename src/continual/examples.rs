//! Ranked prompts to learn from.

use super::sequence::Task;
use crate::bandit::Prompt;
use crate::error::{Error, Result};
use crate::solve::copr::{Target, linear_advantage, linear_advantages};

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
    /// Rewards of all arms.
    pub reward: Vec<f64>,
}

/// The examples of a task, by the prompts' given rankings or else all arms ranked by reward; `beta` in place of the
/// problem's.
pub(super) fn of_task(task: &Task, beta: Option<f64>, place: &str) -> Result<Vec<Example>> {
    (task.problem.prompts().iter().zip(&task.prompts).enumerate())
        .filter(|(_, (prompt, _))| prompt.weight > 0.0)
        .map(|(x, (prompt, &index))| {
            let (arms, advantage) = ranked(prompt);
            let beta = beta.unwrap_or(task.problem.beta());
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
                reward: prompt.reward.clone(),
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
