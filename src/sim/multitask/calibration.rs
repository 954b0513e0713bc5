//! Calibration of a fitted Advantage Model and of a fitted reward model, by number of labels, and the spread of their
//! scores from task to task.

use rayon::prelude::*;

use super::MultiTask;
use crate::bandit::{Beta, PairLaw, Shape, random_problem};
use crate::bandit::{Dataset, Evidence, Problem, Prompt, Simplex};
use crate::error::Result;
use crate::solve::advantage::{Form, fixed_point, ridge_reward_model};
use crate::solve::calibration::{self, Moments, accuracy, binned_error, diagram};

/// The penalty of a reward model fitted to labels that may be separable: `½·10⁻⁴ Σ r²` a prompt,
/// against a mean loss of order 1. So little that a finite estimate does not notice.
pub const TINY: f64 = 1e-4;

/// Sizes of the calibration study.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Labels {
    /// Labelled pairs, all laws uniform.
    pub labels: usize,
    /// Responses.
    pub arms: usize,
    /// Standard deviation of the rewards.
    pub scale: f64,
    /// The Advantage Model's m.
    pub margin: f64,
    /// Bandits drawn.
    pub seeds: u64,
}

/// One fitted model on one bandit.
#[derive(Debug, Clone, PartialEq)]
pub struct CalibrationRow {
    /// The model: `advantage`, `reward` (penalty 1e-4) or `reward, prior` (penalty 1/n: a
    /// standard normal prior).
    pub model: &'static str,
    /// The bandit.
    pub seed: u64,
    /// Labelled pairs.
    pub labels: usize,
    /// Exact `E|σ(δ) − p|`.
    pub error: f64,
    /// The same from ten bins.
    pub binned: f64,
    /// Share of pairs that it ranks as their labels do.
    pub accuracy: f64,
}

/// Fits each model to the same labels on `seeds` random bandits of one prompt; rows in the order of
/// seed and model.
///
/// # Errors
/// Sizes that make no sense.
pub fn calibration(study: &Labels) -> Result<Vec<CalibrationRow>> {
    let each: Vec<Vec<CalibrationRow>> = (0..study.seeds)
        .into_par_iter()
        .map(|seed| fitted(study, seed))
        .collect::<Result<_>>()?;
    Ok(each.concat())
}

fn fitted(study: &Labels, seed: u64) -> Result<Vec<CalibrationRow>> {
    let shape = Shape {
        prompts: 1,
        arms: study.arms,
        beta: 1.0,
        reward_scale: study.scale,
    };
    let reward = random_problem(shape, seed)?.prompts()[0].reward.clone();
    let uniform = Simplex::uniform(study.arms);
    let law = PairLaw::product(uniform.clone(), uniform.clone());
    let prompt = Prompt::new("prompts[0]", 1.0, &reward, &uniform, &law)?;
    let problem = Problem::new(Beta::new("beta", 1.0)?, vec![prompt])?;
    let data = Dataset::preferences(&problem, study.labels, seed, 0);
    let evidence = Evidence::from_dataset(&problem, &data);
    let models = [
        (
            "advantage",
            fixed_point(&problem, &evidence, study.margin, Form::SelfPairs)?,
        ),
        ("reward", ridge_reward_model(&problem, &evidence, TINY)?),
        (
            "reward, prior",
            ridge_reward_model(&problem, &evidence, 1.0 / study.labels as f64)?,
        ),
    ];
    (models.into_iter())
        .map(|(model, found)| {
            let table = found.table.unwrap_or_default();
            Ok(CalibrationRow {
                model,
                seed,
                labels: study.labels,
                error: calibration::error(&problem, &table)?,
                binned: binned_error(&diagram(&problem, &table, 10)?),
                accuracy: accuracy(&problem, &table)?,
            })
        })
        .collect()
}

/// Mean and spread of a model's scores in one task.
#[derive(Debug, Clone, PartialEq)]
pub struct MomentsRow {
    /// `true reward`, `advantage` or `reward`.
    pub model: &'static str,
    /// Labelled pairs, or none for the population.
    pub labels: Option<usize>,
    /// The task.
    pub task: &'static str,
    /// Mean and standard deviation under the behaviour.
    pub moments: Moments,
}

/// The scores' moments task by task, fitted on the population or on `labels` pairs.
///
/// Comparisons within a prompt say nothing of a prompt's own level, so a table fitted by eq. 1 keeps
/// the level it starts from (here: mean zero over the responses), and only its spread can follow the
/// reward's; the Advantage Model's level is part of its optimum.
///
/// # Errors
/// A margin that is not positive.
pub fn moments(
    tasks: &MultiTask,
    labels: Option<usize>,
    margin: f64,
    seed: u64,
) -> Result<Vec<MomentsRow>> {
    let problem = tasks.problem();
    let evidence = match labels {
        None => Evidence::population(problem),
        Some(n) => Evidence::from_dataset(problem, &Dataset::preferences(problem, n, seed, 0)),
    };
    let truth: Vec<Vec<f64>> = problem.prompts().iter().map(|p| p.reward.clone()).collect();
    let am = fixed_point(problem, &evidence, margin, Form::SelfPairs)?;
    let rm = ridge_reward_model(problem, &evidence, TINY)?;
    let models = [
        ("true reward", truth),
        ("reward", rm.table.unwrap_or_default()),
        ("advantage", am.table.unwrap_or_default()),
    ];
    let mut rows = Vec::new();
    for (model, table) in &models {
        for (i, task) in tasks.tasks().iter().enumerate() {
            let own = (problem.prompts().iter().zip(table).zip(tasks.groups()))
                .filter(|(_, group)| **group == i)
                .map(|((prompt, scores), _)| (prompt.weight, &scores[..], behaviour(prompt)));
            rows.push(MomentsRow {
                model,
                labels,
                task: task.name,
                moments: calibration::moments(own),
            });
        }
    }
    Ok(rows)
}

fn behaviour(prompt: &Prompt) -> Vec<f64> {
    let (first, second) = prompt.law.marginals();
    first
        .iter()
        .zip(&second)
        .map(|(p, q)| (p + q) / 2.0)
        .collect()
}
