//! The experiment on hacking and forgetting: one policy, several ways to score it, many worlds.

use rayon::prelude::*;

use super::rehearsal::select;
use super::{Critic, MultiTask, Row, Settings, TASKS, train};
use crate::bandit::Evidence;
use crate::error::Result;
use crate::solve::advantage::{Form, fixed_point};

/// Scores that PPO maximises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scores {
    /// The rewards with their offsets: of all the reward models that fit best on the population
    /// (they differ by a constant per prompt) the one as loud as the tasks are.
    Reward,
    /// The same less each prompt's mean and over its spread under the initial policy: plain
    /// normalisation, as a control.
    Standardised,
    /// The Advantage Model's optimum on the population, pairs from the initial policy.
    Advantage,
}

/// One way to train.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Variant {
    /// Its name in the rows.
    pub name: &'static str,
    /// Scores that it maximises.
    pub scores: Scores,
    /// Baseline subtracted from the scores.
    pub critic: Critic,
    /// Weight of the rehearsal.
    pub gamma: f64,
}

const fn variant(name: &'static str, scores: Scores, critic: Critic, gamma: f64) -> Variant {
    Variant {
        name,
        scores,
        critic,
        gamma,
    }
}

/// Weight of the rehearsal in the variants that say none: ten times the paper's.
pub const GAMMA: f64 = 0.1;

/// The variants compared: each kind of score with a shared and an exact critic, and with rehearsal.
pub const VARIANTS: [Variant; 8] = [
    variant("reward", Scores::Reward, Critic::Shared, 0.0),
    variant("reward, exact critic", Scores::Reward, Critic::Exact, 0.0),
    variant("reward + rehearsal", Scores::Reward, Critic::Shared, GAMMA),
    variant("standardised", Scores::Standardised, Critic::Shared, 0.0),
    variant("advantage", Scores::Advantage, Critic::Shared, 0.0),
    variant(
        "advantage, exact critic",
        Scores::Advantage,
        Critic::Exact,
        0.0,
    ),
    variant(
        "advantage + rehearsal 0.01",
        Scores::Advantage,
        Critic::Shared,
        0.01,
    ),
    REHEARSED,
];

/// The Advantage Model's scores with rehearsal.
pub const REHEARSED: Variant = variant(
    "advantage + rehearsal",
    Scores::Advantage,
    Critic::Shared,
    GAMMA,
);

impl Variant {
    /// The same with another weight of the rehearsal, unless it has none or one of its own.
    #[must_use]
    pub fn at(self, gamma: f64) -> Self {
        let gamma = if self.gamma == GAMMA {
            gamma
        } else {
            self.gamma
        };
        Self { gamma, ..self }
    }
}

/// Sizes of the experiment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Experiment {
    /// Random worlds.
    pub seeds: u64,
    /// Key of their streams.
    pub key: u64,
    /// Responses of a prompt.
    pub arms: usize,
    /// Temperature.
    pub beta: f64,
    /// Size of the features that a task has for itself, next to 1 for those it shares.
    pub private: f64,
    /// The Advantage Model's m.
    pub margin: f64,
    /// Rounds and steps of PPO.
    pub settings: Settings,
    /// Clusters, examples kept in each, responses drawn for each prompt.
    pub rehearsal: (usize, usize, usize),
}

impl Default for Experiment {
    fn default() -> Self {
        Self {
            seeds: 20,
            key: 0,
            arms: 8,
            beta: 0.1,
            private: 0.1,
            margin: 2.5,
            settings: Settings {
                rounds: 40,
                steps: 4,
                lr: 0.3,
                epsilon: 0.2,
                critic: Critic::Shared,
                gamma: 0.0,
            },
            rehearsal: (4, 3, 4),
        }
    }
}

/// A row of one variant in one world.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// The variant.
    pub variant: &'static str,
    /// The world.
    pub seed: u64,
    /// The measurement.
    pub row: Row,
}

/// Trains `variants` in every world of [`TASKS`]; rows in the order of seed, variant, round, task.
///
/// # Errors
/// Sizes that make no sense.
pub fn experiment(config: &Experiment, variants: &[Variant]) -> Result<Vec<Measured>> {
    let worlds: Vec<Vec<Measured>> = (0..config.seeds)
        .into_par_iter()
        .map(|seed| world(config, variants, seed))
        .collect::<Result<_>>()?;
    Ok(worlds.concat())
}

fn world(config: &Experiment, variants: &[Variant], seed: u64) -> Result<Vec<Measured>> {
    let stream = config.key.wrapping_mul(1_000_003).wrapping_add(seed);
    let tasks = MultiTask::draw(&TASKS, config.arms, config.beta, config.private, stream)?;
    let initial = tasks.problem().reference();
    let mut rows = Vec::new();
    for v in variants {
        let scores = tasks.scores(v.scores, config.margin)?;
        let kept = if v.gamma > 0.0 {
            select(&tasks, &initial, &scores, config.rehearsal, stream)?
        } else {
            Vec::new()
        };
        let settings = Settings {
            critic: v.critic,
            gamma: v.gamma,
            ..config.settings
        };
        let (trained, _) = train(&tasks, &scores, &kept, &settings)?;
        rows.extend(trained.into_iter().map(|row| Measured {
            variant: v.name,
            seed,
            row,
        }));
    }
    Ok(rows)
}

impl MultiTask {
    /// A table of scores for every prompt.
    ///
    /// # Errors
    /// A margin that is not positive.
    pub fn scores(&self, scores: Scores, margin: f64) -> Result<Vec<Vec<f64>>> {
        let problem = self.problem();
        let rewards = problem.prompts().iter().map(|p| p.reward.clone());
        match scores {
            Scores::Reward => Ok(rewards.collect()),
            Scores::Standardised => Ok((problem.prompts().iter().zip(rewards))
                .map(|(prompt, row)| {
                    let law = prompt.log_reference.iter().map(|l| l.exp());
                    let mean: f64 = law.clone().zip(&row).map(|(p, r)| p * r).sum();
                    let variance: f64 = law.zip(&row).map(|(p, r)| p * (r - mean).powi(2)).sum();
                    let spread = if variance > 0.0 { variance.sqrt() } else { 1.0 };
                    row.iter().map(|r| (r - mean) / spread).collect()
                })
                .collect()),
            Scores::Advantage => {
                let population = Evidence::population(problem);
                let found = fixed_point(problem, &population, margin, Form::SelfPairs)?;
                Ok(found.table.unwrap_or_default())
            }
        }
    }
}
