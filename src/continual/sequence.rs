//! Tasks in order, and the parameters they share.

use ndarray::Array1;
use ndarray_rand::RandomExt;
use ndarray_rand::rand_distr::StandardNormal;

use crate::bandit::{Policy, Problem, Shape, random_problem};
use crate::error::{Error, Result};
use crate::random::{Purpose, Stream};
use crate::sim::log_linear::{LogLinear, Logits};

/// One task: a problem, and which prompts of the whole sequence its prompts are.
#[derive(Debug, Clone)]
pub struct Task {
    /// Rewards, weights, β; rankings where given, else responses are ranked by reward.
    pub problem: Problem,
    /// Index of each of its prompts among all prompts.
    pub prompts: Vec<usize>,
}

/// Definition of a policy's accuracy on a task, a number in [0, 1]: per prompt one of these, averaged by the prompts'
/// weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Score {
    /// The expected reward of the policy's response, 0 at the worst arm and 1 at the best, like the
    /// paper's normalised preference scores. A prompt whose arms are all alike counts 1. It rewards a
    /// sharper policy, and an optimum for a given β is not the sharpest.
    Reward,
    /// The share of pairs of arms of unequal reward that the log-ratio `ln π/π₀` puts in the right
    /// order, half for a tie; 1 where there is no such pair. Blind to how sharp the policy is.
    Order,
}

impl Task {
    /// The accuracy of a policy on this task's prompts.
    pub fn accuracy(&self, policy: &Policy, score: Score) -> f64 {
        (self.problem.prompts().iter().zip(policy.log()))
            .map(|(prompt, log)| {
                let score = match score {
                    Score::Reward => reward_score(&prompt.reward, log),
                    Score::Order => {
                        let ratio: Vec<f64> = (log.iter().zip(&prompt.log_reference))
                            .map(|(l, reference)| l - reference)
                            .collect();
                        order_score(&prompt.reward, &ratio)
                    }
                };
                prompt.weight * score
            })
            .sum::<f64>()
            .clamp(0.0, 1.0)
    }
}

fn reward_score(reward: &[f64], log_policy: &[f64]) -> f64 {
    let low = reward.iter().copied().fold(f64::INFINITY, f64::min);
    let high = reward.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if high <= low {
        return 1.0;
    }
    (log_policy.iter().zip(reward))
        .map(|(l, r)| l.exp() * ((r - low) / (high - low)))
        .sum()
}

fn order_score(reward: &[f64], ratio: &[f64]) -> f64 {
    let (mut right, mut pairs) = (0.0, 0.0);
    for a in 0..reward.len() {
        for b in 0..a {
            if reward[a] == reward[b] {
                continue;
            }
            let (better, worse) = if reward[a] > reward[b] {
                (a, b)
            } else {
                (b, a)
            };
            // At the start the log-ratios are equal up to rounding.
            let gap = ratio[better] - ratio[worse];
            right += if gap.abs() < 1e-9 {
                0.5
            } else {
                f64::from(u8::from(gap > 0.0))
            };
            pairs += 1.0;
        }
    }
    if pairs > 0.0 { right / pairs } else { 1.0 }
}

/// A sequence of tasks for one policy, which starts at the reference.
///
/// A table forgets only on prompts that tasks share. Where every task has prompts of its own, tasks
/// interfere through shared parameters: a log-linear policy `π ∝ π₀ e^{φ(x, a)·w}`.
#[derive(Debug, Clone)]
pub struct Sequence {
    tasks: Vec<Task>,
    pub(super) logits: Logits,
}

impl Sequence {
    /// Tasks on the same prompts, with a free table of logits.
    ///
    /// # Errors
    /// No task, or tasks whose prompts differ in number, arms or reference.
    pub fn shared(problems: Vec<Problem>) -> Result<Self> {
        let first = first(&problems)?.reference().log().to_vec();
        for (t, problem) in problems.iter().enumerate() {
            if problem.reference().log() != first.as_slice() {
                return Err(Error::invalid(
                    format!("tasks[{t}]"),
                    "its prompts differ from those of tasks[0] in number, arms or reference",
                    "tasks on shared prompts differ in their rewards, weights and rankings only",
                ));
            }
        }
        let all: Vec<usize> = (0..first.len()).collect();
        let tasks = (problems.into_iter())
            .map(|problem| Task {
                problem,
                prompts: all.clone(),
            })
            .collect();
        Ok(Self {
            tasks,
            logits: Logits::table(&first),
        })
    }

    /// Tasks on prompts of their own, with a free table of logits: nothing can be forgotten.
    ///
    /// # Errors
    /// No task.
    pub fn apart(problems: Vec<Problem>) -> Result<Self> {
        first(&problems)?;
        let (tasks, start) = own_prompts(problems);
        Ok(Self {
            tasks,
            logits: Logits::table(&start),
        })
    }

    /// Tasks on prompts of their own, with a log-linear policy; `features[t][x][a]` is the vector of
    /// an arm kept by the reference.
    ///
    /// # Errors
    /// No task, features that do not fit the problems, differ in length or are not finite.
    pub fn linear(problems: Vec<Problem>, features: Vec<Vec<Vec<Vec<f64>>>>) -> Result<Self> {
        first(&problems)?;
        let (tasks, start) = own_prompts(problems);
        let prompts: usize = features.iter().map(Vec::len).sum();
        let count = (features.iter().flatten().flatten().next()).map_or(0, Vec::len);
        let fail = |place: String, problem: &str| {
            let remedy = "give every kept arm of every prompt of every task one vector, all of one \
                          length, of finite numbers";
            Err(Error::invalid(place, problem, remedy))
        };
        if features.len() != tasks.len() || prompts != start.len() {
            return fail(
                "features".into(),
                "there are more or fewer tables than prompts",
            );
        }
        for (t, (task, given)) in tasks.iter().zip(&features).enumerate() {
            if given.len() != task.prompts.len() {
                return fail(
                    format!("features[{t}]"),
                    "there are more or fewer tables than prompts",
                );
            }
            for (x, (prompt, rows)) in task.problem.prompts().iter().zip(given).enumerate() {
                let fits = rows.len() == prompt.arms()
                    && (rows.iter())
                        .all(|row| row.len() == count && row.iter().all(|v| v.is_finite()));
                if !fits || count == 0 {
                    return fail(
                        format!("features[{t}][{x}]"),
                        "a vector is missing, empty, of another length or not finite",
                    );
                }
            }
        }
        Ok(Self {
            tasks,
            logits: Logits::linear(&start, &features.concat()),
        })
    }

    /// A random sequence, its responses ranked by reward.
    ///
    /// # Errors
    /// A size or scale of nothing, or an overlap outside [0, 1].
    pub fn random(shape: &SequenceShape, seed: u64) -> Result<Self> {
        shape.check()?;
        let problem = |t: usize| -> Result<Problem> {
            let of = Shape {
                prompts: shape.prompts,
                arms: shape.arms,
                beta: shape.beta,
                reward_scale: 1.0,
            };
            // Tasks of one sequence never share a seed with those of another below 2^32 tasks.
            let problem = random_problem(of, seed.wrapping_add((t as u64) << 32))?;
            Ok(problem.map_prompts(|_, prompt| prompt.ranking = None))
        };
        let Some(overlap) = shape.overlap else {
            let base = problem(0)?;
            let problems = (0..shape.tasks)
                .map(|t| {
                    let rewards = problem(t)?;
                    Ok(base.map_prompts(|x, prompt| {
                        prompt.reward.clone_from(&rewards.prompts()[x].reward);
                    }))
                })
                .collect::<Result<_>>()?;
            return Self::shared(problems);
        };
        let (size, block) = (shape.tasks + 1, shape.block);
        let (common, own) = (overlap.sqrt(), (1.0 - overlap).sqrt());
        let mut stream = Stream::new(seed, Purpose::Problem, 3);
        let mut normal = |n: usize| -> Array1<f64> {
            Array1::random_using(n, StandardNormal, stream.rng()) / (n as f64).sqrt()
        };
        let (mut problems, mut features) = (Vec::new(), Vec::new());
        for t in 0..shape.tasks {
            let direction = normal(2 * block) * ((2 * block) as f64).sqrt();
            let rows: Vec<Vec<Vec<f64>>> = (0..shape.prompts)
                .map(|_| {
                    (0..shape.arms)
                        .map(|_| {
                            let (first, second) = (normal(block) * common, normal(block) * own);
                            let mut row = vec![0.0; size * block];
                            (row[..block].iter_mut().zip(first)).for_each(|(v, f)| *v = f);
                            (row[(t + 1) * block..].iter_mut().zip(second))
                                .for_each(|(v, s)| *v = s);
                            row
                        })
                        .collect()
                })
                .collect();
            problems.push(problem(t)?.map_prompts(|x, prompt| {
                for (reward, row) in prompt.reward.iter_mut().zip(&rows[x]) {
                    let own = &row[(t + 1) * block..(t + 2) * block];
                    let active = row[..block].iter().chain(own);
                    *reward = active.zip(&direction).map(|(f, d)| f * d).sum();
                }
            }));
            features.push(rows);
        }
        Self::linear(problems, features)
    }

    /// The same tasks in another order; `order[i]` is the present place of what becomes the i-th.
    ///
    /// # Errors
    /// An order that leaves a task out, or names one that is not there.
    pub fn reordered(mut self, order: &[usize]) -> Result<Self> {
        let mut places = order.to_vec();
        places.sort_unstable();
        if !places.into_iter().eq(0..self.tasks.len()) {
            return Err(Error::invalid(
                "order",
                format!("{order:?} is no order of {} tasks", self.tasks.len()),
                "name each task once, from 0",
            ));
        }
        self.tasks = order
            .iter()
            .map(|&place| self.tasks[place].clone())
            .collect();
        Ok(self)
    }

    /// The tasks in order.
    pub fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    /// Number of parameters; all are 0 at the start.
    pub fn parameters(&self) -> usize {
        self.logits.parameters()
    }

    /// The policy of parameters w on the prompts of one task.
    pub fn policy(&self, w: &[f64], task: usize) -> Policy {
        let prompts = self.tasks[task].prompts.iter();
        Policy::from_log(prompts.map(|&g| self.logits.log_policy(w, g)).collect())
    }

    /// A policy at the start, which takes plain gradient steps of a size.
    pub(super) fn start(&self, rate: f64) -> LogLinear<'_> {
        LogLinear::new(&self.logits, ("rate", rate))
    }

    /// The accuracy of a policy on all prompts on every task.
    pub(super) fn accuracy(&self, policy: &Policy, score: Score) -> Vec<f64> {
        let on = |task: &Task| {
            let rows = task.prompts.iter().map(|&g| policy.log()[g].clone());
            task.accuracy(&Policy::from_log(rows.collect()), score)
        };
        self.tasks.iter().map(on).collect()
    }
}

/// Size of a random sequence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SequenceShape {
    /// Number of tasks.
    pub tasks: usize,
    /// Prompts of each task.
    pub prompts: usize,
    /// Arms of each prompt.
    pub arms: usize,
    /// Temperature of every task.
    pub beta: f64,
    /// None: all tasks on the same prompts with a table of logits, and independent rewards. Some: tasks
    /// on prompts of their own with a log-linear policy of `block` features common to all tasks and
    /// `block` of each task's own; the common ones carry this share of the features' variance, and
    /// rewards are linear in the features with independent directions. At 0 tasks do not touch; at 1
    /// they are in full conflict.
    pub overlap: Option<f64>,
    /// Features in a block; not used without an overlap.
    pub block: usize,
}

impl SequenceShape {
    /// Three small tasks, which share half of their features' variance: what methods are compared on.
    pub const THREE: Self = Self {
        tasks: 3,
        prompts: 12,
        arms: 4,
        beta: 0.5,
        overlap: Some(0.5),
        block: 6,
    };

    fn check(&self) -> Result<()> {
        for (place, size) in [
            ("tasks", self.tasks),
            ("prompts", self.prompts),
            ("arms", self.arms),
            ("block", self.block),
        ] {
            if size == 0 {
                return Err(Error::invalid(
                    format!("random sequence: {place}"),
                    "it is 0",
                    "ask for at least one",
                ));
            }
        }
        match self.overlap {
            Some(overlap) if !(0.0..=1.0).contains(&overlap) => Err(Error::invalid(
                "random sequence: overlap",
                format!("it is {overlap}"),
                "give a number from 0 to 1",
            )),
            _ => Ok(()),
        }
    }
}

fn first(problems: &[Problem]) -> Result<&Problem> {
    (problems.first())
        .ok_or_else(|| Error::invalid("tasks", "there are none", "give at least one task"))
}

fn own_prompts(problems: Vec<Problem>) -> (Vec<Task>, Vec<Vec<f64>>) {
    let mut start = Vec::new();
    let tasks = (problems.into_iter())
        .map(|problem| {
            let from = start.len();
            start.extend(problem.reference().log().iter().cloned());
            Task {
                problem,
                prompts: (from..start.len()).collect(),
            }
        })
        .collect();
    (tasks, start)
}
