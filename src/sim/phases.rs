//! BPO by sampling (Xu et al. 2024, Algorithm 1): training in phases on pairs of the policy's own.
//!
//! Of T updates, each phase has K = T/F. At its start the behaviour policy becomes the policy; all
//! pairs of the phase are drawn from it, labelled once by the Bradley–Terry model and used once,
//! so a run spends T × batch labels whatever F. F = 1 is offline training, F = T on-policy.
//!
//! Algorithm 1's loop is read as `t < T`, and its store of pairs as emptied in every phase
//! (M = K × batch); read otherwise there would be a phase after the last, or pairs of an older
//! policy than the reference.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::Optimizer;
use super::optimizer::State;
use crate::backend::nd::sigmoid;
use crate::bandit::{Policy, Problem};
use crate::error::{Error, Result};
use crate::loss::{Batch, InputKind, on_tape};
use crate::random::{Categorical, Purpose, Stream};
use crate::solve::QUADRATIC_CAP;
use crate::solve::bpo::Inner;

/// Reference policy of the loss's log-ratios.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Reference {
    /// The behaviour policy of the phase: BPO.
    Behaviour,
    /// The initial reference throughout: online training without BPO, the control.
    Static,
    /// An average of past logits, `θ′ ← τθ + (1 − τ)θ′` after every update (eq. 6).
    Average {
        /// τ: 0 is [`Static`](Self::Static).
        tau: f64,
    },
}

/// Settings of a run of BPO.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The loss.
    pub inner: Inner,
    /// Its reference.
    pub reference: Reference,
    /// T, optimiser steps in all.
    pub updates: usize,
    /// F, a divisor of T.
    pub phases: usize,
    /// Labelled pairs per update.
    pub batch: usize,
    /// Updates between rows; the first and the last policy always get one.
    pub every: usize,
    /// Optimizer; its moments outlive a phase.
    pub optimizer: Optimizer,
    /// Number of seeds.
    pub seeds: usize,
    /// Seed (the key) of all random streams.
    pub key: u64,
    /// Worker threads; the rows do not depend on it.
    pub threads: usize,
}

/// One measurement of one seed.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Seed, from 0.
    pub seed: usize,
    /// Updates done.
    pub update: usize,
    /// Labels spent: the annotation budget so far.
    pub labels: usize,
    /// `J(π*) − J(π)` with the problem's β and initial reference.
    pub regret: f64,
    /// `E_π[R]`, the true reward.
    pub reward: f64,
    /// Probability that a response of π is preferred to one of the initial reference.
    pub win_rate: f64,
}

impl Config {
    /// Checks the settings.
    ///
    /// # Errors
    /// What does not, and what would.
    pub fn check(&self) -> Result<()> {
        let counts = [
            ("updates", self.updates, 1_000_000_000),
            ("phases", self.phases, 1_000_000_000),
            ("batch", self.batch, 100_000_000),
            ("every", self.every, 1_000_000_000),
            ("seeds", self.seeds, 1_000_000),
            ("threads", self.threads, 1024),
        ];
        for (name, n, most) in counts {
            if !(1..=most).contains(&n) {
                let problem = format!("it is {n}");
                return Err(Error::invalid(
                    name,
                    problem,
                    format!("ask for 1 to {most}"),
                ));
            }
        }
        if !self.updates.is_multiple_of(self.phases) {
            return Err(Error::invalid(
                "phases",
                format!(
                    "{} updates cannot be shared by {} phases equally",
                    self.updates, self.phases
                ),
                "use a number of phases that divides the number of updates",
            ));
        }
        if let Reference::Average { tau } = self.reference
            && !(0.0..=1.0).contains(&tau)
        {
            let problem = format!("it is {tau}");
            return Err(Error::invalid("tau", problem, "give a number from 0 to 1"));
        }
        self.optimizer.check()
    }
}

/// Trains every seed and returns the rows in the order of seed, update.
///
/// # Errors
/// A configuration that makes no sense, more than 20,000 arms, or a run that diverges.
pub fn run(problem: &Problem, config: &Config) -> Result<Vec<Row>> {
    config.check()?;
    let judge = Judge::new(problem)?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(config.threads)
        .build()
        .map_err(|e| Error::invalid("threads", e.to_string(), "use fewer threads"))?;
    let seeds: Vec<Result<Vec<Row>>> = pool.install(|| {
        (0..config.seeds)
            .into_par_iter()
            .map(|seed| train(problem, config, &judge, seed))
            .collect()
    });
    let mut rows = Vec::new();
    for seed in seeds {
        rows.extend(seed?);
    }
    Ok(rows)
}

/// What a policy is worth.
struct Judge<'a> {
    problem: &'a Problem,
    /// `P(a) − ½` against the initial reference.
    margins: Vec<Vec<f64>>,
}

impl<'a> Judge<'a> {
    fn new(problem: &'a Problem) -> Result<Self> {
        let margins = (problem.prompts().iter().enumerate())
            .map(|(x, prompt)| {
                if prompt.arms() > QUADRATIC_CAP {
                    return Err(Error::TooLarge {
                        what: "a win rate over all pairs of arms",
                        cap: QUADRATIC_CAP,
                        prompt: x,
                        arms: prompt.arms(),
                    });
                }
                Ok(prompt.win_margins(&prompt.log_reference))
            })
            .collect::<Result<_>>()?;
        Ok(Self { problem, margins })
    }

    fn row(&self, policy: &Policy, seed: usize, update: usize, labels: usize) -> Row {
        let (mut reward, mut win_rate) = (0.0, 0.5);
        for ((prompt, margins), log) in
            (self.problem.prompts().iter().zip(&self.margins)).zip(policy.log())
        {
            for ((l, r), m) in log.iter().zip(&prompt.reward).zip(margins) {
                let p = prompt.weight * l.exp();
                reward += p * r;
                win_rate += p * m;
            }
        }
        Row {
            seed,
            update,
            labels,
            regret: self.problem.regret(policy),
            reward,
            win_rate,
        }
    }
}

fn train(problem: &Problem, config: &Config, judge: &Judge, seed: usize) -> Result<Vec<Row>> {
    let mut annotator = Annotator {
        problem,
        prompts: Categorical::new(
            &problem
                .prompts()
                .iter()
                .map(|p| p.weight)
                .collect::<Vec<_>>(),
        ),
        arms: Vec::new(),
        responses: Stream::new(config.key, Purpose::Responses, seed as u64),
        labels: Stream::new(config.key, Purpose::Labels, seed as u64),
    };
    let mut theta = problem.reference().log().to_vec();
    let mut policy = Policy::softmax(&theta);
    let mut reference = theta.clone();
    let mut state = State::new(config.optimizer, theta.iter().map(Vec::len).sum());
    let mut rows = vec![judge.row(&policy, seed, 0, 0)];
    for update in 0..config.updates {
        if update.is_multiple_of(config.updates / config.phases) {
            annotator.follow(&policy);
            if config.reference == Reference::Behaviour {
                reference.clone_from_slice(policy.log());
            }
        }
        let batch = annotator.batch(config.batch);
        let gradient = gradient(problem, config.inner, &batch, &policy, &reference)?;
        let mut flat = theta.concat();
        state.step(&mut flat, &gradient.concat());
        let mut rest = flat.as_slice();
        for row in &mut theta {
            let (head, tail) = rest.split_at(row.len());
            row.copy_from_slice(head);
            rest = tail;
        }
        policy = Policy::softmax(&theta);
        if let Reference::Average { tau } = config.reference {
            for (r, p) in reference.iter_mut().flatten().zip(policy.log().concat()) {
                *r += tau * (p - *r);
            }
        }
        let done = update + 1;
        if done.is_multiple_of(config.every) || done == config.updates {
            let row = judge.row(&policy, seed, done, done * config.batch);
            if !row.regret.is_finite() {
                return Err(Error::invalid(
                    "learning rate",
                    format!(
                        "{} diverged at {:e} (regret {} after update {done} of seed {seed})",
                        config.inner.name(),
                        config.optimizer.lr(),
                        row.regret
                    ),
                    "use a smaller one",
                ));
            }
            rows.push(row);
        }
    }
    Ok(rows)
}

/// (prompt, preferred arm, rejected arm).
type Preference = (u32, u32, u32);

/// Draws pairs from the behaviour policy and labels them.
struct Annotator<'a> {
    problem: &'a Problem,
    prompts: Categorical,
    arms: Vec<Categorical>,
    responses: Stream,
    labels: Stream,
}

impl Annotator<'_> {
    /// Makes a policy the behaviour policy.
    fn follow(&mut self, policy: &Policy) {
        let rows = policy.probabilities();
        self.arms = rows.iter().map(|row| Categorical::new(row)).collect();
    }

    /// How often each preference came up in `n` fresh pairs.
    fn batch(&mut self, n: usize) -> BTreeMap<Preference, u32> {
        let mut counts = BTreeMap::new();
        for _ in 0..n {
            let x = self.prompts.draw(&mut self.responses);
            let y = self.arms[x].draw(&mut self.responses);
            let z = self.arms[x].draw(&mut self.responses);
            let reward = &self.problem.prompts()[x].reward;
            let preferred = self.labels.uniform() < sigmoid(reward[y] - reward[z]);
            let (won, lost) = if preferred { (y, z) } else { (z, y) };
            *counts
                .entry((x as u32, won as u32, lost as u32))
                .or_insert(0) += 1;
        }
        counts
    }
}

/// The gradient of a batch's mean loss with respect to the logits.
fn gradient(
    problem: &Problem,
    inner: Inner,
    counts: &BTreeMap<Preference, u32>,
    policy: &Policy,
    reference: &[Vec<f64>],
) -> Result<Vec<Vec<f64>>> {
    let total: u32 = counts.values().sum();
    let mut batch = Batch::default();
    for (&(x, won, lost), &count) in counts {
        for (slot, arm) in [won, lost].into_iter().enumerate() {
            let (x, arm) = (x as usize, arm as usize);
            batch.log_policy[slot].push(policy.log()[x][arm]);
            batch.log_reference[slot].push(reference[x][arm]);
            batch.reward[slot].push(problem.prompts()[x].reward[arm]);
        }
        batch.weight.push(f64::from(count) / f64::from(total));
    }
    let objective = inner.objective();
    let cotangents = on_tape(InputKind::LabelledPairs, &batch, |inputs| {
        objective.loss(inputs, problem.beta())
    })?;
    let mut gradient: Vec<Vec<f64>> = policy
        .log()
        .iter()
        .map(|row| vec![0.0; row.len()])
        .collect();
    for (slot, g) in cotangents.gradient.iter().enumerate() {
        for (&(x, won, lost), g) in counts.keys().zip(g) {
            gradient[x as usize][[won, lost][slot] as usize] += g;
        }
    }
    // Through the softmax: ∂/∂θ = g − π Σ g.
    for (row, log) in gradient.iter_mut().zip(policy.log()) {
        let sum: f64 = row.iter().sum();
        row.iter_mut()
            .zip(log)
            .for_each(|(g, l)| *g -= l.exp() * sum);
    }
    Ok(gradient)
}
