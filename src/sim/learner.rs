//! One objective trained on a block of seeds, through the generic loss code.

use std::ops::Range;
use std::rc::Rc;

use super::Config;
use super::batches::{Data, Tuples};
use super::optimizer::State;
use super::plan::RowPlan;
use super::recording::Recording;
use crate::bandit::population::{Feed, policy_of};
use crate::bandit::{Problem, Prompt};
use crate::error::Result;
use crate::loss::{Baseline, Objective};

pub(super) struct Learner<'a> {
    problem: &'a Problem,
    objective: Objective,
    feed: Feed,
    /// Where each prompt's arms start.
    starts: Vec<usize>,
    /// Every (seed, prompt)'s range of (seed, arm) entries, with the prompt's index.
    rows: Rc<[(usize, Range<usize>)]>,
    /// Numbers per arm, the same for every seed.
    reward: Vec<f64>,
    log_reference: Vec<f64>,
    /// Numbers per seed and arm. For a table of scores `log_policy` is the table.
    theta: Vec<f64>,
    log_policy: Vec<f64>,
    policy: Vec<f64>,
    gradient: Vec<f64>,
    state: State,
    plan: RowPlan,
    recording: Recording,
}

impl<'a> Learner<'a> {
    pub(super) fn new(
        problem: &'a Problem,
        objective: Objective,
        tuples: &Tuples,
        seeds: usize,
        config: &Config,
    ) -> Result<Self> {
        let flat = |f: fn(&Prompt) -> &[f64]| -> Vec<f64> {
            problem
                .prompts()
                .iter()
                .flat_map(|p| f(p).iter().copied())
                .collect()
        };
        let reward = flat(|p| &p.reward);
        let log_reference = flat(|p| &p.log_reference);
        let feed = Feed::of(objective);
        let plan = RowPlan::new(feed.inputs, tuples, seeds, config.batch);
        let mut recording = Recording::new(feed.inputs, &plan.slots)?;
        recording.load_arms(&plan.slots, &reward, &log_reference)?;
        // A policy starts at the reference, a table of scores at zero.
        let start = if feed.scores() {
            vec![0.0; reward.len()]
        } else {
            log_reference.clone()
        };
        let theta = start.repeat(seeds);
        let rows = (0..seeds)
            .flat_map(|seed| {
                let shift = seed * reward.len();
                let range = move |w: &[usize]| shift + w[0]..shift + w[1];
                tuples.starts.windows(2).map(range).enumerate()
            })
            .collect();
        let mut learner = Self {
            problem,
            objective,
            feed,
            starts: tuples.starts.clone(),
            rows,
            reward,
            log_reference,
            log_policy: theta.clone(),
            policy: vec![0.0; theta.len()],
            gradient: vec![0.0; theta.len()],
            state: State::new(config.optimizer, theta.len()),
            theta,
            plan,
            recording,
        };
        learner.refresh();
        Ok(learner)
    }

    /// One optimiser step of every seed on its minibatch.
    pub(super) fn step(&mut self, data: &[Data], batch: Range<usize>) -> Result<()> {
        self.plan.load(data, batch);
        let slots = &self.plan.slots;
        if !self.plan.is_fixed() {
            self.recording
                .load_arms(slots, &self.reward, &self.log_reference)?;
        }
        self.recording.load_policy(slots, &self.log_policy)?;
        if let Some(baseline) = &self.feed.baseline {
            let baselines = self.baselines(baseline)?;
            self.recording.load_baseline(slots, &baselines)?;
        }
        let (objective, parameters) = (self.objective, self.problem.parameters());
        let gradients = self.recording.gradients(&self.plan.weight, |inputs| {
            objective.loss(inputs, parameters)
        })?;
        self.gradient.fill(0.0);
        for (slot, gradient) in slots.iter().zip(&gradients) {
            for (&at, g) in slot.iter().zip(gradient) {
                self.gradient[at as usize] += g;
            }
        }
        if !self.feed.scores() {
            self.through_softmax();
        }
        self.state.step(&mut self.theta, &self.gradient);
        self.refresh();
        Ok(())
    }

    /// Regret of each seed.
    pub(super) fn regrets(&self) -> Vec<f64> {
        let rows = self.theta.chunks_exact(self.reward.len());
        rows.map(|row| {
            let table: Vec<Vec<f64>> = self
                .starts
                .windows(2)
                .map(|w| row[w[0]..w[1]].to_vec())
                .collect();
            self.problem
                .regret(&policy_of(self.problem, &self.feed, &table))
        })
        .collect()
    }

    /// The baseline of every (seed, arm)'s prompt.
    fn baselines(&self, baseline: &Baseline) -> Result<Vec<f64>> {
        let (beta, arms) = (self.problem.beta(), self.reward.len());
        let mut result = vec![0.0; self.policy.len()];
        for (x, row) in self.rows.iter() {
            let of_arms = row.start % arms..row.start % arms + row.len();
            let (reference, reward) = (&self.log_reference[of_arms.clone()], &self.reward[of_arms]);
            let b = baseline.at(*x, &self.log_policy[row.clone()], reference, reward, beta)?;
            result[row.clone()].fill(b);
        }
        Ok(result)
    }

    /// `∂/∂θ = g − π Σ g` per prompt.
    fn through_softmax(&mut self) {
        for (_, row) in self.rows.clone().iter() {
            let sum: f64 = self.gradient[row.clone()].iter().sum();
            for (g, p) in self.gradient[row.clone()]
                .iter_mut()
                .zip(&self.policy[row.clone()])
            {
                *g -= p * sum;
            }
        }
    }

    /// log π and π from θ.
    fn refresh(&mut self) {
        if self.feed.scores() {
            self.log_policy.copy_from_slice(&self.theta);
            return;
        }
        for (_, row) in self.rows.clone().iter() {
            let theta = &self.theta[row.clone()];
            let top = theta.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let policy = &mut self.policy[row.clone()];
            let mut sum = 0.0;
            for (p, t) in policy.iter_mut().zip(theta) {
                *p = (t - top).exp();
                sum += *p;
            }
            policy.iter_mut().for_each(|p| *p /= sum);
            let shift = top + sum.ln();
            for (l, t) in self.log_policy[row.clone()].iter_mut().zip(theta) {
                *l = t - shift;
            }
        }
    }
}
