//! One policy through a sequence of tasks.

use super::examples::{Example, Fit, add_dpo, add_fit, divergence, of_task, reweighted};
use super::metrics::Metrics;
use super::sequence::{Score, Sequence};
use crate::error::{Error, Result};
use crate::random::{Purpose, Stream};
use crate::solve::copr::{Divergence, Multipliers};

/// Parameters beyond this have left every policy worth the name.
const LARGEST: f64 = 1e100;

/// Method of continual learning: how a new task is learned without the data of the old ones.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Method {
    /// COPR's Algorithm 1: the fit of the new task under one constraint per old task,
    /// `J_Ci = E_{R_i} divergence(P_θ, P_i*) − d_i ≤ 0`, with d_i its value at the start of the new
    /// task (eq. 13) and a multiplier for each, by gradient ascent (eq. 12).
    Copr,
    /// The fit of the new task, nothing else.
    Sequential,
    /// The fit of the new task plus that of the replayed ones: COPR with every multiplier held at 1,
    /// since a threshold has no gradient.
    Replay,
    /// The fit plus `strength/2 ‖w − w_{t−1}‖²`.
    Anchor {
        /// Strength of the pull.
        strength: f64,
    },
    /// The fit plus `strength/2 Σ_k F_k (w_k − w_{t−1,k})²`, F the exact diagonal Fisher information
    /// summed over the old tasks (elastic weight consolidation with a running anchor).
    ElasticWeights {
        /// Strength of the pull.
        strength: f64,
    },
    /// DPO on the pairs of the ranking, the better response always winning, and on the replayed pairs
    /// of old tasks; its reference is the policy at the start of the task.
    DpoReplay,
    /// The fit of all tasks so far at once, on all their prompts, from the first policy: what a method
    /// without access to old data is measured against.
    Joint,
}

impl Method {
    /// Its name in rows.
    pub fn name(self) -> &'static str {
        match self {
            Self::Copr => "copr",
            Self::Sequential => "sequential",
            Self::Replay => "replay",
            Self::Anchor { .. } => "l2",
            Self::ElasticWeights { .. } => "ewc",
            Self::DpoReplay => "dpo-replay",
            Self::Joint => "joint",
        }
    }
}

/// Training settings of each task: plain gradient descent on exact full-batch losses, as eq. 12 has it.
///
/// Every loss that sums over tasks is divided by the sum of their weights (Λ of eq. 11; the number of
/// tasks for replay and joint training), so that one step size is stable for all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// Steps per task; joint training takes as many for each task it trains on.
    pub steps: usize,
    /// Step size η.
    pub rate: f64,
    /// Share of each task's prompts kept for replay, at least one prompt unless 0. They are drawn
    /// without regard to weight, and their weights rescaled to sum to one.
    pub replay: f64,
    /// Weight of the likelihood of the best response, in the fit of the new task (joint training: of
    /// all tasks): 1 in the paper, 0 leaves it out.
    pub likelihood: f64,
    /// Direction of the KL divergences.
    pub divergence: Divergence,
    /// Initial value of each Lagrange multiplier, at the start of every task (the paper does not say).
    pub multiplier_start: f64,
    /// α of eq. 12.
    pub multiplier_rate: f64,
    /// Upper bound of each Lagrange multiplier.
    pub multiplier_cap: f64,
    /// Definition of accuracy.
    pub score: Score,
    /// Steps between recorded moments.
    pub record_every: usize,
    /// Seed of the choice of replayed prompts.
    pub seed: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            steps: 1000,
            rate: 1.0,
            replay: 0.05,
            likelihood: 0.0,
            divergence: Divergence::Reverse,
            multiplier_start: 1.0,
            multiplier_rate: 1e-3,
            multiplier_cap: 1e3,
            score: Score::Order,
            record_every: 50,
            seed: 0,
        }
    }
}

impl Plan {
    fn check(&self) -> Result<()> {
        let fail = |place: &str, value: f64, remedy: &str| {
            Err(Error::invalid(place, format!("it is {value}"), remedy))
        };
        if !(self.rate > 0.0 && self.rate.is_finite()) {
            return fail("rate", self.rate, "give a finite number greater than 0");
        }
        if !(0.0..=1.0).contains(&self.replay) {
            return fail("replay", self.replay, "give a share from 0 to 1");
        }
        if !(self.likelihood >= 0.0 && self.likelihood.is_finite()) {
            return fail(
                "likelihood",
                self.likelihood,
                "give a finite number, 0 or greater",
            );
        }
        if self.record_every == 0 {
            return fail("record_every", 0.0, "give at least 1");
        }
        Multipliers::new(
            0,
            self.multiplier_start,
            self.multiplier_rate,
            self.multiplier_cap,
        )
        .map(|_| ())
    }
}

/// The state after some steps of a task.
#[derive(Debug, Clone, PartialEq)]
pub struct Moment {
    /// The task being learned.
    pub task: usize,
    /// Steps taken in it.
    pub step: usize,
    /// Accuracy on every task, those to come included.
    pub accuracy: Vec<f64>,
    /// Divergence from the sampling distributions of the new task that its fit aims at (and DPO does
    /// not).
    pub fit: f64,
    /// λ_i of each old task; empty for other methods than COPR.
    pub multipliers: Vec<f64>,
    /// `J_Ci` of each old task; empty for other methods than COPR.
    pub constraints: Vec<f64>,
}

/// Results of training on a sequence of tasks.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The method.
    pub method: Method,
    /// `accuracy[k][j]` on task j after task k, for every j; where `j > k` the task was not learned
    /// yet.
    pub accuracy: Vec<Vec<f64>>,
    /// Accuracy on every task before any.
    pub initial: Vec<f64>,
    /// AA, AIA, BWT and FM after each task.
    pub metrics: Metrics,
    /// Recorded moments: the start of each task and every `record_every` steps.
    pub history: Vec<Moment>,
    /// The parameters after each task, for [`Sequence::policy`].
    pub parameters: Vec<Vec<f64>>,
    /// Prompts of each task kept for replay, as indices into the task's prompts of positive weight.
    pub replayed: Vec<Vec<usize>>,
}

/// Learns the tasks one after the other.
///
/// # Errors
/// A plan out of range, a ranking that does not fit its prompt, a strength that is negative, or a
/// step size at which the parameters run away.
pub fn run(sequence: &Sequence, method: Method, plan: &Plan) -> Result<Outcome> {
    plan.check()?;
    if let Method::Anchor { strength } | Method::ElasticWeights { strength } = method
        && !(strength >= 0.0 && strength.is_finite())
    {
        return Err(Error::invalid(
            "strength",
            format!("it is {strength}"),
            "give a finite number, 0 or greater",
        ));
    }
    let examples = (sequence.tasks().iter().enumerate())
        .map(|(t, task)| of_task(task, &format!("tasks[{t}]")))
        .collect::<Result<Vec<_>>>()?;
    let mut learner = Learner {
        sequence,
        method,
        plan,
        w: vec![0.0; sequence.parameters()],
        fisher: vec![0.0; sequence.parameters()],
        old: Vec::new(),
        aim: Vec::new(),
        history: Vec::new(),
    };
    let initial = learner.accuracy();
    let (mut accuracy, mut parameters, mut replayed) = (Vec::new(), Vec::new(), Vec::new());
    for t in 0..examples.len() {
        let kept = replay_choice(plan, t, examples[t].len());
        learner.learn(t, &examples, &kept)?;
        accuracy.push(learner.accuracy());
        parameters.push(learner.w.clone());
        replayed.push(kept);
    }
    Ok(Outcome {
        method,
        metrics: Metrics::of(&accuracy),
        accuracy,
        initial,
        history: learner.history,
        parameters,
        replayed,
    })
}

/// Which of a task's `count` examples are kept.
fn replay_choice(plan: &Plan, task: usize, count: usize) -> Vec<usize> {
    let share = (plan.replay * count as f64).ceil() as usize;
    let mut order: Vec<usize> = (0..count).collect();
    Stream::new(plan.seed, Purpose::Replay, task as u64).shuffle(&mut order);
    order.truncate(share);
    order.sort_unstable();
    order
}

/// What is kept of a task once learned.
struct Memory {
    /// Replayed examples, for DPO.
    examples: Vec<Example>,
    /// Their sampling distributions at the time.
    fits: Vec<Fit>,
}

struct Learner<'a> {
    sequence: &'a Sequence,
    method: Method,
    plan: &'a Plan,
    w: Vec<f64>,
    fisher: Vec<f64>,
    old: Vec<Memory>,
    /// The newest task's sampling distributions, for the record.
    aim: Vec<Fit>,
    history: Vec<Moment>,
}

impl Learner<'_> {
    fn learn(&mut self, t: usize, all: &[Vec<Example>], kept: &[usize]) -> Result<()> {
        let before = self.w.clone();
        let new = Fit::after(self.sequence, &before, &all[t])?;
        let memory = Memory {
            examples: reweighted(kept.iter().map(|&i| all[t][i].clone()).collect()),
            fits: {
                let chosen = reweighted(kept.iter().map(|&i| all[t][i].clone()).collect());
                Fit::after(self.sequence, &before, &chosen)?
            },
        };
        self.aim.clone_from(&new);
        match self.method {
            Method::Copr => self.constrained(t, &new)?,
            Method::Sequential => {
                self.descend(t, |l, g| l.add_new(&new, 1.0, g), |_| {})?;
            }
            Method::Replay => {
                let share = 1.0 / (1.0 + self.old.len() as f64);
                self.descend(
                    t,
                    |l, g| {
                        l.add_new(&new, share, g);
                        l.old.iter().for_each(|m| l.add_old(&m.fits, share, g));
                    },
                    |_| {},
                )?;
            }
            Method::Anchor { strength } => {
                let pull = vec![strength; before.len()];
                self.anchored(t, &new, &before, &pull)?;
            }
            Method::ElasticWeights { strength } => {
                let pull: Vec<f64> = self.fisher.iter().map(|f| strength * f).collect();
                self.anchored(t, &new, &before, &pull)?;
                let w = self.w.clone();
                for e in &all[t] {
                    (self.sequence).add_fisher(&w, e.prompt, e.weight, &mut self.fisher);
                }
            }
            Method::DpoReplay => self.preferences(t, &all[t], &before)?,
            Method::Joint => {
                self.w.fill(0.0);
                let start = self.w.clone();
                let fits = (all[..=t].iter())
                    .map(|examples| Fit::after(self.sequence, &start, examples))
                    .collect::<Result<Vec<_>>>()?;
                self.aim.clone_from(&fits[t]);
                let share = 1.0 / fits.len() as f64;
                let add = |l: &Self, g: &mut [f64]| {
                    fits.iter().for_each(|f| l.add_new(f, share, g));
                };
                self.descend(t, add, |_| {})?;
            }
        }
        self.old.push(memory);
        Ok(())
    }

    /// Plain descent; `after` may move the parameters once a step is made.
    fn descend(
        &mut self,
        t: usize,
        gradient: impl Fn(&Self, &mut [f64]),
        after: impl Fn(&mut [f64]),
    ) -> Result<()> {
        let rounds = if self.method == Method::Joint {
            t + 1
        } else {
            1
        };
        let steps = rounds * self.plan.steps;
        for step in 0..steps {
            self.record(t, step, &[], &[]);
            let mut g = vec![0.0; self.w.len()];
            gradient(self, &mut g);
            self.step(&g, 1.0)?;
            after(&mut self.w);
        }
        self.record(t, steps, &[], &[]);
        Ok(())
    }

    /// Descent with a pull towards `anchor`, taken implicitly so that any strength is stable:
    /// `w ← (w − ηg + ηk·anchor)/(1 + ηk)`.
    fn anchored(&mut self, t: usize, new: &[Fit], anchor: &[f64], pull: &[f64]) -> Result<()> {
        let rate = self.plan.rate;
        self.descend(
            t,
            |l, g| l.add_new(new, 1.0, g),
            |w| {
                for ((w, a), k) in w.iter_mut().zip(anchor).zip(pull) {
                    *w = (*w + rate * k * a) / (1.0 + rate * k);
                }
            },
        )
    }

    /// COPR: multipliers first, then the parameters with the multipliers just updated.
    fn constrained(&mut self, t: usize, new: &[Fit]) -> Result<()> {
        let plan = self.plan;
        let measure = |l: &Self| -> Vec<f64> {
            (l.old.iter())
                .map(|m| divergence(l.sequence, &l.w, &m.fits, plan.divergence))
                .collect()
        };
        let thresholds = measure(self);
        let mut multipliers = Multipliers::new(
            self.old.len(),
            plan.multiplier_start,
            plan.multiplier_rate,
            plan.multiplier_cap,
        )?;
        for step in 0..=plan.steps {
            let constraints: Vec<f64> = (measure(self).iter().zip(&thresholds))
                .map(|(j, d)| j - d)
                .collect();
            self.record(t, step, &multipliers.values(), &constraints);
            if step == plan.steps {
                break;
            }
            multipliers.ascend(&constraints);
            let mut g = vec![0.0; self.w.len()];
            self.add_new(new, 1.0, &mut g);
            for (memory, lambda) in self.old.iter().zip(multipliers.values()) {
                self.add_old(&memory.fits, lambda, &mut g);
            }
            self.step(&g, 1.0 / multipliers.normaliser())?;
        }
        Ok(())
    }

    fn preferences(&mut self, t: usize, new: &[Example], before: &[f64]) -> Result<()> {
        let sequence = self.sequence;
        let reference = |examples: &[Example]| -> Vec<Vec<f64>> {
            (examples.iter())
                .map(|e| sequence.log_policy(before, e.prompt))
                .collect()
        };
        let new_reference = reference(new);
        let old_reference: Vec<_> = (self.old.iter()).map(|m| reference(&m.examples)).collect();
        let share = 1.0 / (1.0 + self.old.len() as f64);
        self.descend(
            t,
            |l, g| {
                add_dpo(sequence, &l.w, new, &new_reference, share, g);
                for (memory, reference) in l.old.iter().zip(&old_reference) {
                    add_dpo(sequence, &l.w, &memory.examples, reference, share, g);
                }
            },
            |_| {},
        )
    }

    fn add_new(&self, fits: &[Fit], scale: f64, into: &mut [f64]) {
        let how = (self.plan.divergence, self.plan.likelihood);
        add_fit(self.sequence, &self.w, fits, how, scale, into);
    }

    fn add_old(&self, fits: &[Fit], scale: f64, into: &mut [f64]) {
        let how = (self.plan.divergence, 0.0);
        add_fit(self.sequence, &self.w, fits, how, scale, into);
    }

    fn step(&mut self, gradient: &[f64], scale: f64) -> Result<()> {
        for (w, g) in self.w.iter_mut().zip(gradient) {
            *w -= self.plan.rate * scale * g;
        }
        if self.w.iter().all(|w| w.abs() < LARGEST) {
            return Ok(());
        }
        Err(Error::invalid(
            "rate",
            format!(
                "the parameters overflow at a step size of {}",
                self.plan.rate
            ),
            "give a smaller one",
        ))
    }

    fn accuracy(&self) -> Vec<f64> {
        (self.sequence.tasks().iter().enumerate())
            .map(|(j, task)| task.accuracy(&self.sequence.policy(&self.w, j), self.plan.score))
            .collect()
    }

    fn record(&mut self, task: usize, step: usize, multipliers: &[f64], constraints: &[f64]) {
        if step.is_multiple_of(self.plan.record_every) {
            self.history.push(Moment {
                task,
                step,
                accuracy: self.accuracy(),
                fit: divergence(self.sequence, &self.w, &self.aim, self.plan.divergence),
                multipliers: multipliers.to_vec(),
                constraints: constraints.to_vec(),
            });
        }
    }
}
