//! One objective trained on a block of seeds, through the generic loss code.

use std::ops::Range;
use std::rc::Rc;

use super::Config;
use super::batches::{Data, Tuple, Tuples};
use super::optimizer::State;
use crate::backend::Segments;
use crate::backend::nd::{Tape, Var};
use crate::bandit::Problem;
use crate::bandit::kl;
use crate::error::Result;
use crate::loss::{Baseline, InputKind, Inputs, Objective, Response};

pub(super) struct Learner<'a> {
    problem: &'a Problem,
    objective: Objective,
    seeds: usize,
    arms: usize,
    starts: Vec<usize>,
    rows: RowPlan,
    /// Numbers per arm, the same for every seed.
    reward: Vec<f64>,
    log_reference: Vec<f64>,
    log_optimum: Vec<Vec<f64>>,
    /// Per seed and arm.
    theta: Vec<f64>,
    log_policy: Vec<f64>,
    policy: Vec<f64>,
    gradient: Vec<f64>,
    state: State,
    recording: Recording,
    /// Weight of each row, seeds one after the other.
    weight: Vec<f64>,
}

/// Which responses make up each row of the loss.
enum RowPlan {
    /// The same rows at every step: of each counted tuple, its row (and second row).
    Fixed {
        rows_per_seed: usize,
        of_tuple: Vec<[u32; 2]>,
    },
    /// One row (two for single responses) per example of the minibatch.
    PerExample { rows_per_seed: usize },
}

impl RowPlan {
    fn rows_per_seed(&self) -> usize {
        match *self {
            Self::Fixed { rows_per_seed, .. } | Self::PerExample { rows_per_seed } => rows_per_seed,
        }
    }
}

/// The part of a tape that stays from step to step.
struct Recording {
    tape: Tape,
    inputs: Inputs<Var>,
    mark: usize,
    /// (seed and arm) of each entry of each slot's arrays.
    slots: Vec<Vec<u32>>,
    buffer: Vec<f64>,
}

impl<'a> Learner<'a> {
    pub(super) fn new(
        problem: &'a Problem,
        objective: Objective,
        tuples: &Tuples,
        seeds: usize,
        config: &Config,
    ) -> Result<Self> {
        let kind = objective.spec().inputs;
        let arms = tuples.arms();
        let flat = |f: &dyn Fn(&crate::bandit::Prompt) -> Vec<f64>| -> Vec<f64> {
            problem.prompts().iter().flat_map(f).collect()
        };
        let reward = flat(&|p| p.reward.clone());
        let log_reference = flat(&|p| p.log_reference.clone());
        let (rows, slots) = match &tuples.counted {
            Some(all) => {
                let (of_tuple, members) = fixed_rows(kind, all, arms);
                let slots = (members.iter())
                    .map(|slot| {
                        (0..seeds)
                            .flat_map(|s| slot.iter().map(move |a| (s * arms) as u32 + a))
                            .collect()
                    })
                    .collect();
                let rows_per_seed =
                    members[0].len() / if kind == InputKind::Groups { 2 } else { 1 };
                (
                    RowPlan::Fixed {
                        rows_per_seed,
                        of_tuple,
                    },
                    slots,
                )
            }
            None => {
                let (slots, per_example, rows) = match kind {
                    InputKind::ScoredPairs | InputKind::LabelledPairs => (2, 1, 1),
                    InputKind::Singles => (1, 2, 2),
                    InputKind::Groups => (1, 2, 1),
                };
                let entries = seeds * config.batch * per_example;
                let rows_per_seed = config.batch * rows;
                (
                    RowPlan::PerExample { rows_per_seed },
                    vec![vec![0; entries]; slots],
                )
            }
        };
        let recording = Recording::new(kind, slots, &reward, &log_reference)?;
        // A policy starts at the reference, a table of scores at zero.
        let start = if objective.trains_scores() {
            vec![0.0; arms]
        } else {
            log_reference.clone()
        };
        let theta: Vec<f64> = start.iter().copied().cycle().take(seeds * arms).collect();
        let mut learner = Self {
            problem,
            objective,
            seeds,
            arms,
            starts: tuples.starts.clone(),
            weight: vec![0.0; seeds * rows.rows_per_seed()],
            rows,
            reward,
            log_reference,
            log_optimum: problem.optimum().policy.log().to_vec(),
            log_policy: theta.clone(),
            policy: vec![0.0; theta.len()],
            gradient: vec![0.0; theta.len()],
            state: State::new(config.optimizer, theta.len()),
            theta,
            recording,
        };
        learner.refresh();
        Ok(learner)
    }

    /// One optimiser step of every seed on its minibatch.
    pub(super) fn step(
        &mut self,
        tuples: &Tuples,
        data: &[Data],
        batch: Range<usize>,
    ) -> Result<()> {
        self.weigh(tuples, data, batch)?;
        let recording = &mut self.recording;
        recording.load(&self.log_policy)?;
        if let Some(baseline) = self.objective.baseline() {
            let per_arm = baselines(
                self.problem,
                &baseline,
                &self.starts,
                &self.log_policy,
                &self.policy,
                &self.reward,
                &self.log_reference,
                self.arms,
            );
            recording.load_baseline(&per_arm)?;
        }
        let each = self
            .objective
            .loss(&recording.inputs, self.problem.beta())?;
        let leaves: Vec<&Var> = recording.leaves();
        let gradients = recording.tape.backward(&each, &self.weight, &leaves)?;
        recording.tape.rewind(recording.mark);
        self.gradient.fill(0.0);
        for (slot, gradient) in recording.slots.iter().zip(&gradients) {
            for (&at, g) in slot.iter().zip(gradient) {
                self.gradient[at as usize] += g;
            }
        }
        if !self.objective.trains_scores() {
            self.through_softmax();
        }
        self.state.step(&mut self.theta, &self.gradient);
        self.refresh();
        Ok(())
    }

    /// Regret of each seed.
    pub(super) fn regrets(&self) -> Vec<f64> {
        let beta = self.problem.beta();
        (0..self.seeds)
            .map(|seed| {
                let row = &self.log_policy[seed * self.arms..][..self.arms];
                let sum: f64 = (self.problem.prompts().iter().enumerate())
                    .map(|(x, prompt)| {
                        let range = self.starts[x]..self.starts[x + 1];
                        let divergence = if self.objective.trains_scores() {
                            let top = row[range.clone()]
                                .iter()
                                .copied()
                                .fold(f64::NEG_INFINITY, f64::max);
                            let mut log: Vec<f64> = (row[range].iter().zip(&prompt.log_reference))
                                .map(|(score, l)| l + (score - top) / beta)
                                .collect();
                            let normaliser = crate::bandit::log_sum_exp(&log);
                            log.iter_mut().for_each(|l| *l -= normaliser);
                            kl(&log, &self.log_optimum[x])
                        } else {
                            kl(&row[range], &self.log_optimum[x])
                        };
                        prompt.weight * divergence
                    })
                    .sum();
                beta * sum
            })
            .collect()
    }

    /// Sets the weight of each row, and for rows per example which arms they are.
    fn weigh(&mut self, tuples: &Tuples, data: &[Data], batch: Range<usize>) -> Result<()> {
        let each = 1.0 / batch.len() as f64;
        self.weight.fill(0.0);
        match &self.rows {
            RowPlan::Fixed {
                rows_per_seed,
                of_tuple,
            } => {
                for (data, weight) in data
                    .iter()
                    .zip(self.weight.chunks_exact_mut(*rows_per_seed))
                {
                    for (&count, rows) in data.counts.iter().zip(of_tuple) {
                        let w = f64::from(count) * each;
                        weight[rows[0] as usize] += w;
                        if rows[1] != NONE {
                            weight[rows[1] as usize] += w;
                        }
                    }
                }
            }
            RowPlan::PerExample { rows_per_seed } => {
                debug_assert!(tuples.counted.is_none());
                let kind = self.objective.spec().inputs;
                let recording = &mut self.recording;
                for (seed, data) in data.iter().enumerate() {
                    let base = (seed * self.arms) as u32;
                    for (i, tuple) in data.listed(batch.clone()).enumerate() {
                        let row = seed * rows_per_seed;
                        let (first, second) = ordered(kind, tuple);
                        match recording.slots.as_mut_slice() {
                            [one, two] => {
                                one[row + i] = base + first;
                                two[row + i] = base + second;
                                self.weight[row + i] = each;
                            }
                            [only] => {
                                let entry = 2
                                    * (seed
                                        * (rows_per_seed
                                            / if kind == InputKind::Singles { 2 } else { 1 })
                                        + i);
                                only[entry] = base + first;
                                only[entry + 1] = base + second;
                                if kind == InputKind::Singles {
                                    self.weight[entry] = each;
                                    self.weight[entry + 1] = each;
                                } else {
                                    self.weight[row + i] = each;
                                }
                            }
                            _ => {}
                        }
                    }
                }
                recording.load_arms(&self.reward, &self.log_reference)?;
            }
        }
        Ok(())
    }

    /// `∂/∂θ = g − π Σ g` per prompt.
    fn through_softmax(&mut self) {
        for seed in 0..self.seeds {
            for w in self.starts.windows(2) {
                let range = seed * self.arms + w[0]..seed * self.arms + w[1];
                let sum: f64 = self.gradient[range.clone()].iter().sum();
                for (g, p) in self.gradient[range.clone()]
                    .iter_mut()
                    .zip(&self.policy[range])
                {
                    *g -= p * sum;
                }
            }
        }
    }

    /// log π and π from θ.
    fn refresh(&mut self) {
        if self.objective.trains_scores() {
            self.log_policy.copy_from_slice(&self.theta);
            return;
        }
        for seed in 0..self.seeds {
            for w in self.starts.windows(2) {
                let range = seed * self.arms + w[0]..seed * self.arms + w[1];
                let theta = &self.theta[range.clone()];
                let top = theta.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let policy = &mut self.policy[range.clone()];
                let mut sum = 0.0;
                for (p, t) in policy.iter_mut().zip(theta) {
                    *p = (t - top).exp();
                    sum += *p;
                }
                policy.iter_mut().for_each(|p| *p /= sum);
                let shift = top + sum.ln();
                for (l, t) in self.log_policy[range].iter_mut().zip(theta) {
                    *l = t - shift;
                }
            }
        }
    }
}

const NONE: u32 = u32::MAX;

/// The pair as the objective sees it: the preferred response first where there are labels.
fn ordered(kind: InputKind, (y, z, preferred): Tuple) -> (u32, u32) {
    if kind == InputKind::LabelledPairs && !preferred {
        (z, y)
    } else {
        (y, z)
    }
}

/// Rows shared by all tuples that look the same to the objective: the rows of each tuple, and the
/// arms of each row per slot.
fn fixed_rows(kind: InputKind, tuples: &[Tuple], arms: usize) -> (Vec<[u32; 2]>, Vec<Vec<u32>>) {
    if kind == InputKind::Singles {
        let of_tuple = tuples.iter().map(|&(y, z, _)| [y, z]).collect();
        return (of_tuple, vec![(0..arms as u32).collect()]);
    }
    let mut rows: Vec<(u32, u32)> = tuples.iter().map(|&t| ordered(kind, t)).collect();
    let look = rows.clone();
    rows.sort_unstable();
    rows.dedup();
    let of_tuple = (look.iter())
        .map(|pair| [rows.binary_search(pair).unwrap_or_default() as u32, NONE])
        .collect();
    let members = if kind == InputKind::Groups {
        vec![rows.iter().flat_map(|&(y, z)| [y, z]).collect()]
    } else {
        let (first, second) = rows.into_iter().unzip();
        vec![first, second]
    };
    (of_tuple, members)
}

/// The baseline of every (seed, arm)'s prompt.
#[allow(clippy::too_many_arguments)]
fn baselines(
    problem: &Problem,
    baseline: &Baseline,
    starts: &[usize],
    log_policy: &[f64],
    policy: &[f64],
    reward: &[f64],
    log_reference: &[f64],
    arms: usize,
) -> Vec<f64> {
    let beta = problem.beta();
    let mut result = vec![0.0; policy.len()];
    for seed in (0..policy.len()).step_by(arms) {
        for (x, w) in starts.windows(2).enumerate() {
            let regularised =
                |a: usize| reward[a] - beta * (log_policy[seed + a] - log_reference[a]);
            let b = match baseline {
                Baseline::Given(b) => *b,
                Baseline::Value => (w[0]..w[1]).map(|a| policy[seed + a] * reward[a]).sum(),
                Baseline::SoftValue => (w[0]..w[1])
                    .map(|a| policy[seed + a] * regularised(a))
                    .sum(),
                Baseline::SoftValueUnder(laws) => (w[0]..w[1])
                    .map(|a| laws[x][a - w[0]] * regularised(a))
                    .sum(),
            };
            result[seed + w[0]..seed + w[1]].fill(b);
        }
    }
    result
}

impl Recording {
    fn new(
        kind: InputKind,
        slots: Vec<Vec<u32>>,
        reward: &[f64],
        log_reference: &[f64],
    ) -> Result<Self> {
        let tape = Tape::new();
        let response = |slot: &Vec<u32>| Response {
            log_policy: tape.leaf(vec![0.0; slot.len()]),
            log_reference: tape.constant(vec![0.0; slot.len()]),
            reward: tape.constant(vec![0.0; slot.len()]),
        };
        let inputs = match kind {
            InputKind::ScoredPairs | InputKind::LabelledPairs => Inputs::Pair {
                first: response(&slots[0]),
                second: response(&slots[1]),
            },
            InputKind::Singles => Inputs::Single {
                response: response(&slots[0]),
                baseline: tape.constant(vec![0.0; slots[0].len()]),
            },
            InputKind::Groups => Inputs::Group {
                responses: response(&slots[0]),
                groups: Rc::new(Segments::new(&vec![2; slots[0].len() / 2])?),
            },
        };
        let mark = tape.mark();
        let mut recording = Self {
            tape,
            inputs,
            mark,
            slots,
            buffer: Vec::new(),
        };
        recording.load_arms(reward, log_reference)?;
        Ok(recording)
    }

    fn responses(&self) -> Vec<&Response<Var>> {
        match &self.inputs {
            Inputs::Pair { first, second } => vec![first, second],
            Inputs::Single { response, .. } => vec![response],
            Inputs::Group { responses, .. } => vec![responses],
        }
    }

    fn leaves(&self) -> Vec<&Var> {
        self.responses()
            .into_iter()
            .map(|r| &r.log_policy)
            .collect()
    }

    /// Rewards and references of the rows' arms, from tables per arm.
    fn load_arms(&mut self, reward: &[f64], log_reference: &[f64]) -> Result<()> {
        let arms = reward.len();
        for slot in 0..self.slots.len() {
            for (table, pick) in [(reward, 0), (log_reference, 1)] {
                self.buffer.clear();
                self.buffer
                    .extend(self.slots[slot].iter().map(|&at| table[at as usize % arms]));
                let response = self.responses()[slot];
                let target = if pick == 0 {
                    &response.reward
                } else {
                    &response.log_reference
                };
                target.set(&self.buffer)?;
            }
        }
        Ok(())
    }

    /// The trained numbers of the rows' responses, from a table per (seed, arm).
    fn load(&mut self, log_policy: &[f64]) -> Result<()> {
        for slot in 0..self.slots.len() {
            self.buffer.clear();
            self.buffer
                .extend(self.slots[slot].iter().map(|&at| log_policy[at as usize]));
            self.responses()[slot].log_policy.set(&self.buffer)?;
        }
        Ok(())
    }

    /// The baseline of each row, from a table per (seed, arm).
    fn load_baseline(&mut self, table: &[f64]) -> Result<()> {
        if let Inputs::Single { baseline, .. } = &self.inputs {
            self.buffer.clear();
            self.buffer
                .extend(self.slots[0].iter().map(|&at| table[at as usize]));
            baseline.set(&self.buffer)?;
        }
        Ok(())
    }
}
