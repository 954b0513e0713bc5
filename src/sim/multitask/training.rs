//! PPO in exact expectation on shared features, with rehearsal, task by task.

use super::MultiTask;
use super::rehearsal::Kept;
use crate::backend::nd::sigmoid;
use crate::bandit::{Policy, kl};
use crate::error::{Error, Result};
use crate::solve::ppo_clip;

/// Baseline subtracted from a score to make an advantage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Critic {
    /// The mean over all training prompts: one number for every task (a moving average).
    Shared,
    /// The exact mean of each prompt.
    Exact,
}

/// Settings of PPO.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Rounds; each takes the current policy as the old one.
    pub rounds: usize,
    /// Steps of gradient ascent in a round.
    pub steps: usize,
    /// Learning rate.
    pub lr: f64,
    /// The clip's ε.
    pub epsilon: f64,
    /// The baseline.
    pub critic: Critic,
    /// γ, the weight of the rehearsal's log-likelihood.
    pub gamma: f64,
}

impl Settings {
    fn check(&self) -> Result<()> {
        let numbers = [("lr", self.lr), ("epsilon", self.epsilon)];
        if let Some((name, value)) = numbers.iter().find(|(_, v)| !(v.is_finite() && *v > 0.0)) {
            let remedy = "give a finite number greater than 0";
            return Err(Error::invalid(*name, format!("it is {value}"), remedy));
        }
        if !(self.gamma.is_finite() && self.gamma >= 0.0) {
            let remedy = "give a finite number, 0 or more";
            return Err(Error::invalid(
                "gamma",
                format!("it is {}", self.gamma),
                remedy,
            ));
        }
        Ok(())
    }
}

/// Measurement of one task after one round.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Rounds done; 0 is the initial policy.
    pub round: usize,
    /// The task.
    pub task: &'static str,
    /// Mean score under the policy: what training sees.
    pub score: f64,
    /// Mean reward.
    pub reward: f64,
    /// `P(y ≻ y₀)`, y from the policy and y₀ from the initial one, by the true preferences.
    pub win: f64,
    /// `KL(π‖π_init)`.
    pub kl: f64,
}

/// Trains `π_θ` from θ = 0 on `E[score] − β KL(π‖π_init)` by PPO-clip, plus
/// `γ · mean ln π_θ(y|x)` over the rehearsal's examples (eq. 9 with the logarithm and the sign it
/// needs beside an objective that is maximised).
///
/// The KL penalty enters the reward of each round, as PPO for language models does.
///
/// # Errors
/// Settings or a table of scores that make no sense.
pub fn train(
    tasks: &MultiTask,
    scores: &[Vec<f64>],
    rehearsal: &[Kept],
    settings: &Settings,
) -> Result<(Vec<Row>, Policy)> {
    settings.check()?;
    let problem = tasks.problem();
    let lengths = problem.prompts().iter().map(|p| p.arms());
    let mismatch = (lengths.zip(scores)).find(|(arms, row)| *arms != row.len());
    let shape = |left, right| Error::Shape {
        operation: "training on scores",
        left,
        right,
    };
    if problem.prompts().len() != scores.len() {
        return Err(shape(problem.prompts().len(), scores.len()));
    }
    if let Some((arms, row)) = mismatch {
        return Err(shape(arms, row.len()));
    }
    let trained = (0..tasks.groups().len())
        .filter(|&x| tasks.trained(x))
        .count() as f64;
    let mut theta = vec![0.0; tasks.width()];
    let mut rows = measure(tasks, scores, &tasks.policy(&theta), 0);
    for round in 1..=settings.rounds {
        let old = tasks.policy(&theta);
        let advantages = advantages(tasks, scores, &old, settings.critic);
        for _ in 0..settings.steps {
            let policy = tasks.policy(&theta);
            let mut cotangent: Vec<Vec<f64>> = (advantages.iter().enumerate())
                .map(|(x, advantage)| {
                    let (now, old) = (&policy.log()[x], &old.log()[x]);
                    let each = ppo_clip::cotangent(now, old, advantage, settings.epsilon);
                    let weight = if tasks.trained(x) { 1.0 / trained } else { 0.0 };
                    each.iter().map(|g| weight * g).collect()
                })
                .collect();
            for kept in rehearsal {
                cotangent[kept.prompt][kept.arm] += settings.gamma / rehearsal.len() as f64;
            }
            let gradient = tasks.pull_back(&policy, &cotangent);
            (theta.iter_mut().zip(&gradient)).for_each(|(t, g)| *t += settings.lr * g);
        }
        rows.extend(measure(tasks, scores, &tasks.policy(&theta), round));
    }
    Ok((rows, tasks.policy(&theta)))
}

/// `score − β ln(π_old/π_init)` less the critic's baseline.
fn advantages(
    tasks: &MultiTask,
    scores: &[Vec<f64>],
    old: &Policy,
    critic: Critic,
) -> Vec<Vec<f64>> {
    let problem = tasks.problem();
    let mut rewards: Vec<Vec<f64>> = (problem.prompts().iter().zip(scores).zip(old.log()))
        .map(|((prompt, scores), log)| {
            (scores.iter().zip(log).zip(&prompt.log_reference))
                .map(|((s, l), r)| s - problem.beta() * (l - r))
                .collect()
        })
        .collect();
    let means: Vec<f64> = (rewards.iter().zip(old.log()))
        .map(|(row, log)| row.iter().zip(log).map(|(r, l)| l.exp() * r).sum())
        .collect();
    let trained: Vec<f64> = (means.iter().enumerate())
        .filter(|(x, _)| tasks.trained(*x))
        .map(|(_, m)| *m)
        .collect();
    let shared = trained.iter().sum::<f64>() / trained.len() as f64;
    for (row, mean) in rewards.iter_mut().zip(&means) {
        let baseline = match critic {
            Critic::Shared => shared,
            Critic::Exact => *mean,
        };
        row.iter_mut().for_each(|r| *r -= baseline);
    }
    rewards
}

/// A row for each task.
fn measure(tasks: &MultiTask, scores: &[Vec<f64>], policy: &Policy, round: usize) -> Vec<Row> {
    let prompts = tasks.problem().prompts();
    (tasks.tasks().iter().enumerate())
        .map(|(i, task)| {
            let mut row = Row {
                round,
                task: task.name,
                score: 0.0,
                reward: 0.0,
                win: 0.0,
                kl: 0.0,
            };
            let own: Vec<usize> = (0..prompts.len())
                .filter(|&x| tasks.groups()[x] == i)
                .collect();
            for &x in &own {
                let (prompt, log) = (&prompts[x], &policy.log()[x]);
                let mean = |v: &[f64]| -> f64 { log.iter().zip(v).map(|(l, v)| l.exp() * v).sum() };
                row.score += mean(&scores[x]);
                row.reward += mean(&prompt.reward);
                row.win += win_rate(log, &prompt.log_reference, &prompt.reward);
                row.kl += kl(log, &prompt.log_reference);
            }
            let count = own.len().max(1) as f64;
            for sum in [&mut row.score, &mut row.reward, &mut row.win, &mut row.kl] {
                *sum /= count;
            }
            row
        })
        .collect()
}

/// `E_{y ~ π, y₀ ~ π₀} σ(R(y) − R(y₀))`.
pub(crate) fn win_rate(log: &[f64], initial: &[f64], reward: &[f64]) -> f64 {
    let mut sum = 0.0;
    for (l, r) in log.iter().zip(reward) {
        for (l0, r0) in initial.iter().zip(reward) {
            sum += (l + l0).exp() * sigmoid(r - r0);
        }
    }
    sum
}
