//! The pairs of a phase: drawn from the behaviour policy and labelled, or all of them in expectation.

use std::collections::BTreeMap;

use super::{Config, Pairs};
use crate::backend::nd::sigmoid;
use crate::bandit::{Policy, Problem};
use crate::error::Result;
use crate::loss::{Batch, InputKind, on_tape};
use crate::random::{Categorical, Purpose, Stream};
use crate::solve::bpo::Inner;

/// (prompt, preferred arm, rejected arm).
type Preference = (u32, u32, u32);

/// Preferences and the share that each has in a batch; shares sum to 1.
pub(super) type Preferences = Vec<(Preference, f64)>;

/// Draws pairs from the behaviour policy and labels them.
pub(super) struct Annotator<'a> {
    problem: &'a Problem,
    pairs: Pairs,
    prompts: Categorical,
    /// The behaviour policy.
    behaviour: Vec<Vec<f64>>,
    arms: Vec<Categorical>,
    responses: Stream,
    labels: Stream,
}

impl<'a> Annotator<'a> {
    /// With the random streams of that index.
    pub(super) fn new(problem: &'a Problem, config: &Config, stream: u64) -> Self {
        let weights: Vec<f64> = problem.prompts().iter().map(|p| p.weight).collect();
        Self {
            problem,
            pairs: config.pairs,
            prompts: Categorical::new(&weights),
            behaviour: Vec::new(),
            arms: Vec::new(),
            responses: Stream::new(config.key, Purpose::Responses, stream),
            labels: Stream::new(config.key, Purpose::Labels, stream),
        }
    }

    /// Makes a policy the behaviour policy.
    pub(super) fn follow(&mut self, policy: &Policy) {
        self.behaviour = policy.probabilities();
        self.arms = (self.behaviour.iter())
            .map(|row| Categorical::new(row))
            .collect();
    }

    /// The pairs of an update.
    pub(super) fn batch(&mut self) -> Preferences {
        match self.pairs {
            Pairs::Drawn(n) => self.drawn(n),
            Pairs::Expected => self.expected(),
        }
    }

    /// How often each preference came up in `n` fresh pairs.
    fn drawn(&mut self, n: usize) -> Preferences {
        let mut counts: BTreeMap<Preference, u32> = BTreeMap::new();
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
        let total: u32 = counts.values().sum();
        let share = |count: u32| f64::from(count) / f64::from(total);
        (counts.into_iter())
            .map(|(preference, count)| (preference, share(count)))
            .collect()
    }

    /// Every preference `y ≻ z` with its probability: two draws of the prompt's behaviour in either order,
    /// `2 ρ(x) π_β(y|x) π_β(z|x) σ(R(y) − R(z))`; the same arm twice is preferred to itself.
    fn expected(&self) -> Preferences {
        let mut all = Vec::new();
        for (x, (prompt, law)) in (self.problem.prompts().iter().zip(&self.behaviour)).enumerate() {
            for (y, p) in law.iter().enumerate() {
                for (z, q) in law.iter().enumerate() {
                    let label = sigmoid(prompt.reward[y] - prompt.reward[z]);
                    let share = 2.0 * prompt.weight * p * q * label;
                    all.push(((x as u32, y as u32, z as u32), share));
                }
            }
        }
        all
    }
}

/// Adds the gradient of a batch's mean loss with respect to `ln π` of every arm, the prompts' arms end to end.
pub(super) fn add_gradient(
    problem: &Problem,
    inner: Inner,
    preferences: &Preferences,
    log_policy: &[f64],
    reference: &[Vec<f64>],
    into: &mut [f64],
) -> Result<()> {
    let starts: Vec<usize> = (reference.iter())
        .scan(0, |end, row| {
            let start = *end;
            *end += row.len();
            Some(start)
        })
        .collect();
    let mut batch = Batch::default();
    for &((x, won, lost), share) in preferences {
        for (slot, arm) in [won, lost].into_iter().enumerate() {
            let (x, arm) = (x as usize, arm as usize);
            batch.log_policy[slot].push(log_policy[starts[x] + arm]);
            batch.log_reference[slot].push(reference[x][arm]);
            batch.reward[slot].push(problem.prompts()[x].reward[arm]);
        }
        batch.weight.push(share);
    }
    let objective = inner.objective();
    let cotangents = on_tape(InputKind::LabelledPairs, &batch, |inputs| {
        objective.loss(inputs, problem.beta())
    })?;
    for (slot, g) in cotangents.gradient.iter().enumerate() {
        for (((x, won, lost), _), g) in preferences.iter().zip(g) {
            into[starts[*x as usize] + [*won, *lost][slot] as usize] += g;
        }
    }
    Ok(())
}
