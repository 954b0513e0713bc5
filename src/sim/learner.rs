//! One objective trained on a block of seeds, through the generic loss code.

use std::ops::Range;
use std::rc::Rc;

use super::Config;
use super::batches::{Data, Tuples};
use super::plan::RowPlan;
use super::recording::{Arms, Recording, scatter};
use super::trained::{Table, Trained, tables};
use crate::bandit::population::{Feed, policy_of};
use crate::bandit::{Problem, Prompt};
use crate::error::Result;
use crate::loss::{Baseline, Objective};

pub(super) struct Learner<'a> {
    problem: &'a Problem,
    feed: Feed,
    /// Where each prompt's arms start.
    starts: Vec<usize>,
    /// Every (seed, prompt)'s range of (seed, arm) entries, with the prompt's index.
    rows: Rc<[(usize, Range<usize>)]>,
    arms: Arms,
    trained: Box<dyn Trained + 'a>,
    plan: RowPlan,
    recording: Recording,
}

impl<'a> Learner<'a> {
    /// Trains what `make` makes, or else a table.
    pub(super) fn new(
        problem: &'a Problem,
        objective: Objective,
        tuples: &Tuples,
        seeds: Range<usize>,
        config: &Config,
        make: Option<&super::Make<'a>>,
    ) -> Result<Self> {
        let flat = |f: fn(&Prompt) -> &[f64]| -> Vec<f64> {
            problem
                .prompts()
                .iter()
                .flat_map(|p| f(p).iter().copied())
                .collect()
        };
        let loss = objective.bind(&problem.given())?;
        let feed = Feed::of(&loss)?;
        let arms = Arms {
            reward: flat(|p| &p.reward),
            log_reference: flat(|p| &p.log_reference),
            log_old: (problem.prompts().iter())
                .flat_map(|p| {
                    let (first, second) = p.law.marginals();
                    let mean = first.into_iter().zip(second);
                    mean.map(|(a, b)| (0.5 * (a + b)).ln()).collect::<Vec<_>>()
                })
                .collect(),
        };
        let reward = &arms.reward;
        let plan = RowPlan::new(feed.inputs, tuples, seeds.len(), config.batch);
        let mut recording = Recording::new(loss, &plan.slots)?;
        recording.load_arms(&plan.slots, &arms)?;
        let rows: Rc<[(usize, Range<usize>)]> = (0..seeds.len())
            .flat_map(|seed| {
                let shift = seed * reward.len();
                let range = move |w: &[usize]| shift + w[0]..shift + w[1];
                tuples.starts.windows(2).map(range).enumerate()
            })
            .collect();
        let trained = match make {
            Some(make) => make(objective, seeds)?,
            // A policy starts at the reference, a table of scores at zero.
            None if feed.scores() => {
                let zeros = vec![0.0; reward.len()].repeat(seeds.len());
                Box::new(Table::new(zeros, Rc::new([]), config.optimizer))
            }
            None => tables(problem, seeds.len(), config.optimizer)?,
        };
        Ok(Self {
            problem,
            feed,
            starts: tuples.starts.clone(),
            rows,
            arms,
            trained,
            plan,
            recording,
        })
    }

    /// One optimiser step of every seed on its minibatch.
    pub(super) fn step(&mut self, data: &[Data], batch: Range<usize>) -> Result<()> {
        self.plan.load(data, batch);
        let Self {
            problem,
            feed,
            rows,
            arms,
            plan,
            recording,
            ..
        } = self;
        if !plan.is_fixed() {
            recording.load_arms(&plan.slots, arms)?;
        }
        self.trained.step(&mut |log_policy, gradient| {
            recording.load_policy(&plan.slots, log_policy)?;
            if let Some(baseline) = &feed.baseline {
                let beta = problem.beta();
                let Arms {
                    reward,
                    log_reference,
                    ..
                } = arms;
                let baselines = baselines(baseline, rows, log_policy, log_reference, reward, beta)?;
                recording.load_baseline(&plan.slots, &baselines)?;
            }
            let gradients = recording.gradients(&plan.weight)?;
            scatter(&plan.slots, &gradients, 1.0, gradient);
            Ok(())
        })
    }

    /// Regret of each seed.
    pub(super) fn regrets(&self) -> Result<Vec<f64>> {
        let table = self.trained.table()?;
        let rows = table.chunks_exact(self.arms.reward.len());
        let regrets = rows.map(|row| {
            let table: Vec<Vec<f64>> = self
                .starts
                .windows(2)
                .map(|w| row[w[0]..w[1]].to_vec())
                .collect();
            self.problem
                .regret(&policy_of(self.problem, &self.feed, &table))
        });
        Ok(regrets.collect())
    }
}

/// The baseline of every (seed, arm)'s prompt.
fn baselines(
    baseline: &Baseline,
    rows: &[(usize, Range<usize>)],
    log_policy: &[f64],
    log_reference: &[f64],
    reward: &[f64],
    beta: f64,
) -> Result<Vec<f64>> {
    let arms = reward.len();
    let mut result = vec![0.0; log_policy.len()];
    for (x, row) in rows {
        let of_arms = row.start % arms..row.start % arms + row.len();
        let (reference, reward) = (&log_reference[of_arms.clone()], &reward[of_arms]);
        let b = baseline.at(*x, &log_policy[row.clone()], reference, reward, beta)?;
        result[row.clone()].fill(b);
    }
    Ok(result)
}
