//! PPO in exact expectation on shared features, with rehearsal, task by task.

use super::MultiTask;
use super::rehearsal::Kept;
use crate::backend::nd::sigmoid;
use crate::bandit::{Policy, kl};
use crate::error::{Error, Result};
use crate::loss::{Batch, Bound, Given, Objective};
use crate::sim::Trained;
use crate::sim::log_linear::LogLinear;
use crate::sim::share::Share;

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
/// Settings or a table of scores that make no sense, or a learning rate at which θ runs away.
pub fn train(
    tasks: &MultiTask,
    scores: &[Vec<f64>],
    rehearsal: &[Kept],
    settings: &Settings,
) -> Result<(Vec<Row>, Policy)> {
    settings.check()?;
    let mut policy = LogLinear::new(&tasks.logits, ("lr", settings.lr));
    train_with(tasks, scores, rehearsal, settings, &mut policy)
}

/// [`train`] with another policy than `π_θ`, which begins at the initial one and takes steps of its own size: the same
/// losses on the same responses.
///
/// # Errors
/// As [`train`]; a policy on other arms; and those of the policy.
pub fn train_with(
    tasks: &MultiTask,
    scores: &[Vec<f64>],
    rehearsal: &[Kept],
    settings: &Settings,
    policy: &mut dyn Trained,
) -> Result<(Vec<Row>, Policy)> {
    settings.check()?;
    let prompts = tasks.problem().prompts();
    let lengths = prompts.iter().map(|p| p.arms());
    let mismatch = (lengths.zip(scores)).find(|(arms, row)| *arms != row.len());
    let shape = |left, right| Error::Shape {
        operation: "training on scores",
        left,
        right,
    };
    if prompts.len() != scores.len() {
        return Err(shape(prompts.len(), scores.len()));
    }
    if let Some((arms, row)) = mismatch {
        return Err(shape(arms, row.len()));
    }
    let trained: Vec<usize> = (0..prompts.len()).filter(|&x| tasks.trained(x)).collect();
    let mut focus: Vec<usize> = rehearsal.iter().map(|kept| kept.prompt).collect();
    focus.extend(&trained);
    focus.sort_unstable();
    focus.dedup();
    policy.focus(&focus);
    let rehearsal = rehearse(tasks, rehearsal, settings.gamma)?;
    let numbers = Given::from(tasks.problem().beta()).with("epsilon", settings.epsilon);
    let ppo = Objective::PPO_CLIP.bind(&numbers)?;
    let mut now = tasks.logits.policy_of(&policy.table()?)?;
    let mut rows = measure(tasks, scores, &now, 0);
    for round in 1..=settings.rounds {
        let surrogate = collect(tasks, &trained, scores, &now, settings.critic, &ppo)?;
        for _ in 0..settings.steps {
            policy.step(&mut |numbers, gradient| {
                surrogate.at(numbers)?.add(1.0, gradient);
                rehearsal.at(numbers)?.add(1.0, gradient);
                Ok(())
            })?;
        }
        now = tasks.logits.policy_of(&policy.table()?)?;
        rows.extend(measure(tasks, scores, &now, round));
    }
    Ok((rows, now))
}

/// The likelihood of the rehearsal's examples.
fn rehearse(tasks: &MultiTask, kept: &[Kept], gamma: f64) -> Result<Share> {
    let arm = |k: &Kept| (tasks.logits.rows()[k.prompt].start + k.arm) as u32;
    let batch = Batch {
        sizes: vec![1; kept.len()],
        weight: vec![1.0 / kept.len() as f64; kept.len()],
        ..Batch::default()
    };
    let loss = Objective::SFT.bind(&Given::new())?;
    Share::new(loss, gamma, batch, vec![kept.iter().map(arm).collect()])
}

/// PPO's surrogate on every response of the trained prompts, each with its probability under the old policy.
fn collect(
    tasks: &MultiTask,
    trained: &[usize],
    scores: &[Vec<f64>],
    old: &Policy,
    critic: Critic,
    ppo: &Bound,
) -> Result<Share> {
    let beta = tasks.problem().beta();
    let mut batch = Batch::default();
    let (mut arms, mut values) = (Vec::new(), Vec::new());
    for &x in trained {
        let (reference, old) = (&tasks.problem().prompts()[x].log_reference, &old.log()[x]);
        let regularised = (scores[x].iter().zip(old).zip(reference))
            .map(|((score, l), r)| l.exp() * (score - beta * (l - r)));
        values.push(regularised.sum::<f64>());
        batch.log_old[0].extend(old);
        batch.log_reference[0].extend(reference);
        batch.reward[0].extend(&scores[x]);
        (batch.weight).extend(old.iter().map(|l| l.exp() / trained.len() as f64));
        arms.extend(tasks.logits.rows()[x].clone().map(|a| a as u32));
    }
    let shared = values.iter().sum::<f64>() / values.len() as f64;
    for (&x, value) in trained.iter().zip(values) {
        let baseline = match critic {
            Critic::Shared => shared,
            Critic::Exact => value,
        };
        (batch.baseline).extend(scores[x].iter().map(|_| baseline));
    }
    Share::new(ppo.clone(), 1.0, batch, vec![arms])
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
