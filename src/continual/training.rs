//! One policy through a sequence of tasks.

use std::collections::BTreeSet;

use super::examples::{Example, of_task, reweighted};
use super::metrics::Metrics;
use super::plan::{Method, Plan};
use super::sequence::Sequence;
use super::shares::{fit, likelihood, preferences};
use crate::bandit::Policy;
use crate::error::{Error, Result};
use crate::random::{Purpose, Stream};
use crate::sim::share::Share;
use crate::sim::{Parameters, Trained};
use crate::solve::copr::Multipliers;

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
    /// The parameters after each task, for [`Sequence::policy`]; empty of policies that have no such vector.
    pub parameters: Vec<Vec<f64>>,
    /// Prompts of each task kept for replay, as indices into the task's prompts of positive weight.
    pub replayed: Vec<Vec<usize>>,
}

/// Makes a policy at the start of a sequence; its rows are the sequence's prompts.
pub type Make<'a> = dyn Fn() -> Result<Box<dyn Trained + 'a>> + 'a;

/// Learns the tasks one after the other.
///
/// # Errors
/// A plan out of range, a ranking that does not fit its prompt, a strength that is negative, or a
/// step size at which the parameters run away.
pub fn run(sequence: &Sequence, method: Method, plan: &Plan) -> Result<Outcome> {
    run_with(sequence, method, plan, &|| {
        Ok(Box::new(sequence.start(plan.rate)))
    })
}

/// [`run`] with another policy than the sequence's own: the same losses on the same examples.
///
/// # Errors
/// As [`run`]; a policy on other arms, or without [parameters](Trained::parameters) where the method pulls at them;
/// and those of `make` and of what it makes.
pub fn run_with(
    sequence: &Sequence,
    method: Method,
    plan: &Plan,
    make: &Make<'_>,
) -> Result<Outcome> {
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
        make,
        policy: make()?,
        fisher: Vec::new(),
        history: Vec::new(),
    };
    let initial = sequence.accuracy(&learner.now()?, plan.score);
    let (mut accuracy, mut parameters, mut replayed) = (Vec::new(), Vec::new(), Vec::new());
    let mut old = Vec::new();
    for t in 0..examples.len() {
        let kept = replay_choice(plan, t, examples[t].len());
        let memory = learner.learn(t, &examples, &kept, &old)?;
        old.push(memory);
        accuracy.push(sequence.accuracy(&learner.now()?, plan.score));
        let vector = learner.policy.parameters();
        parameters.push(vector.map_or(Vec::new(), |p| p.vector().to_vec()));
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
    /// Replayed examples.
    examples: Vec<Example>,
    /// The fit of their sampling distributions at the time.
    fit: Share,
}

struct Learner<'r, 'a> {
    sequence: &'r Sequence,
    method: Method,
    plan: &'r Plan,
    make: &'r Make<'a>,
    policy: Box<dyn Trained + 'a>,
    /// The diagonal of the Fisher information, summed over the old tasks.
    fisher: Vec<f64>,
    history: Vec<Moment>,
}

/// A task being learned.
struct Lesson<'a> {
    index: usize,
    steps: usize,
    /// The newest task's fit, for the record.
    aim: Share,
    /// What its steps descend, old tasks' memories left out.
    shares: Vec<Share>,
    old: &'a [Memory],
}

impl Learner<'_, '_> {
    /// Learns task t; what is kept of it.
    fn learn(
        &mut self,
        t: usize,
        all: &[Vec<Example>],
        kept: &[usize],
        old: &[Memory],
    ) -> Result<Memory> {
        let (sequence, plan) = (self.sequence, self.plan);
        let before = self.log_policy()?;
        let fit_of = |examples: &[Example], before: &[f64]| {
            fit(sequence, plan.divergence, 1.0, examples, before)
        };
        let chosen = reweighted(kept.iter().map(|&i| all[t][i].clone()).collect());
        let memory = Memory {
            fit: fit_of(&chosen, &before)?,
            examples: chosen,
        };
        let mut lesson = Lesson {
            index: t,
            steps: plan.steps,
            aim: fit_of(&all[t], &before)?,
            shares: Vec::new(),
            old,
        };
        let replayed = old.iter().flat_map(|m| &m.examples);
        self.focus(all[t].iter().chain(replayed));
        let share = 1.0 / (1.0 + old.len() as f64);
        match self.method {
            Method::Copr => {
                lesson.shares = self.new_task(1.0, &all[t], &before)?;
                self.constrained(&lesson)?;
            }
            Method::Sequential => {
                lesson.shares = self.new_task(1.0, &all[t], &before)?;
                self.descend(&lesson, 0.0, |_| {})?;
            }
            Method::Replay => {
                lesson.shares = self.new_task(share, &all[t], &before)?;
                self.descend(&lesson, share, |_| {})?;
            }
            Method::Anchor { strength } => {
                lesson.shares = self.new_task(1.0, &all[t], &before)?;
                let anchor = self.parameters()?.vector().to_vec();
                let pull = vec![strength; anchor.len()];
                self.anchored(&lesson, &anchor, &pull)?;
            }
            Method::ElasticWeights { strength } => {
                lesson.shares = self.new_task(1.0, &all[t], &before)?;
                let anchor = self.parameters()?.vector().to_vec();
                self.fisher.resize(anchor.len(), 0.0);
                let pull: Vec<f64> = self.fisher.iter().map(|f| strength * f).collect();
                self.anchored(&lesson, &anchor, &pull)?;
                let mut fisher = std::mem::take(&mut self.fisher);
                let parameters = self.parameters()?;
                (all[t].iter())
                    .for_each(|e| parameters.add_fisher(e.prompt, e.weight, &mut fisher));
                self.fisher = fisher;
            }
            Method::DpoReplay => {
                let sets = std::iter::once(&all[t]).chain(old.iter().map(|m| &m.examples));
                lesson.shares = sets
                    .map(|examples| preferences(sequence, share, examples, &before))
                    .collect::<Result<_>>()?;
                self.descend(&lesson, 0.0, |_| {})?;
            }
            Method::Joint => {
                self.policy = (self.make)()?;
                self.focus(all[..=t].iter().flatten());
                let start = self.log_policy()?;
                let share = 1.0 / (t + 1) as f64;
                for examples in &all[..=t] {
                    lesson
                        .shares
                        .extend(self.new_task(share, examples, &start)?);
                }
                lesson.aim = fit_of(&all[t], &start)?;
                lesson.steps *= t + 1;
                self.descend(&lesson, 0.0, |_| {})?;
            }
        }
        Ok(memory)
    }

    /// The fit of a new task, and the likelihood of its best responses if that has a weight.
    fn new_task(&self, weight: f64, examples: &[Example], before: &[f64]) -> Result<Vec<Share>> {
        let Plan {
            divergence,
            likelihood: of_best,
            ..
        } = *self.plan;
        let mut shares = vec![fit(self.sequence, divergence, weight, examples, before)?];
        if of_best > 0.0 {
            shares.push(likelihood(
                self.sequence,
                weight * of_best,
                examples,
                before,
            )?);
        }
        Ok(shares)
    }

    /// Plain descent on the task's shares and, with a weight, on the fits of the old tasks; `after` may move the
    /// policy once a step is made.
    fn descend(
        &mut self,
        lesson: &Lesson<'_>,
        replay: f64,
        after: impl Fn(&mut dyn Trained),
    ) -> Result<()> {
        for step in 0..lesson.steps {
            self.record(lesson, step, &[], |_| Ok(Vec::new()))?;
            self.policy.step(&mut |numbers, gradient| {
                for share in &lesson.shares {
                    share.at(numbers)?.add(1.0, gradient);
                }
                for memory in lesson.old.iter().filter(|_| replay > 0.0) {
                    memory.fit.at(numbers)?.add(replay, gradient);
                }
                Ok(())
            })?;
            after(&mut *self.policy);
        }
        self.record(lesson, lesson.steps, &[], |_| Ok(Vec::new()))
    }

    /// Descent with a pull towards `anchor`, taken implicitly so that any strength is stable:
    /// `w ← (w − ηg + ηk·anchor)/(1 + ηk)`.
    fn anchored(&mut self, lesson: &Lesson<'_>, anchor: &[f64], pull: &[f64]) -> Result<()> {
        let rate = self.plan.rate;
        self.descend(lesson, 0.0, |policy| {
            let vector = policy.parameters().map(Parameters::vector);
            for ((w, a), k) in vector.into_iter().flatten().zip(anchor).zip(pull) {
                *w = (*w + rate * k * a) / (1.0 + rate * k);
            }
        })
    }

    /// COPR: multipliers first, then the parameters with the multipliers just updated.
    fn constrained(&mut self, lesson: &Lesson<'_>) -> Result<()> {
        let plan = self.plan;
        let divergences = |numbers: &[f64]| -> Result<Vec<f64>> {
            let each = lesson.old.iter().map(|m| Ok(m.fit.at(numbers)?.value));
            each.collect()
        };
        let thresholds = divergences(&self.log_policy()?)?;
        let mut multipliers = Multipliers::new(
            lesson.old.len(),
            plan.multiplier_start,
            plan.multiplier_rate,
            plan.multiplier_cap,
        )?;
        for step in 0..=lesson.steps {
            self.record(lesson, step, &multipliers.values(), |numbers| {
                let now = divergences(numbers)?.into_iter();
                Ok(now.zip(&thresholds).map(|(j, d)| j - d).collect())
            })?;
            if step == lesson.steps {
                break;
            }
            self.policy.step(&mut |numbers, gradient| {
                let old =
                    (lesson.old.iter().map(|m| m.fit.at(numbers))).collect::<Result<Vec<_>>>()?;
                let constraints = old.iter().zip(&thresholds).map(|(j, d)| j.value - d);
                multipliers.ascend(&constraints.collect::<Vec<_>>());
                let scale = 1.0 / multipliers.normaliser();
                for share in &lesson.shares {
                    share.at(numbers)?.add(scale, gradient);
                }
                for (pull, lambda) in old.iter().zip(multipliers.values()) {
                    pull.add(scale * lambda, gradient);
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// The policy on all prompts.
    fn now(&self) -> Result<Policy> {
        self.sequence.logits.policy_of(&self.policy.table()?)
    }

    /// ln π of every arm, those of all prompts end to end.
    fn log_policy(&self) -> Result<Vec<f64>> {
        Ok(self.now()?.log().concat())
    }

    /// Has the steps to come look at the prompts of examples.
    fn focus<'e>(&mut self, examples: impl Iterator<Item = &'e Example>) {
        let prompts: BTreeSet<usize> = examples.map(|e| e.prompt).collect();
        self.policy.focus(&prompts.into_iter().collect::<Vec<_>>());
    }

    fn parameters(&mut self) -> Result<&mut dyn Parameters> {
        let name = self.method.name();
        self.policy.parameters().ok_or_else(|| {
            Error::invalid(
                format!("method {name}"),
                "it pulls at a vector of parameters, and the policy has none",
                "choose another method, or train the sequence's own policy",
            )
        })
    }

    fn record(
        &mut self,
        lesson: &Lesson<'_>,
        step: usize,
        multipliers: &[f64],
        constraints: impl Fn(&[f64]) -> Result<Vec<f64>>,
    ) -> Result<()> {
        if !step.is_multiple_of(self.plan.record_every) {
            return Ok(());
        }
        let now = self.now()?;
        let numbers = now.log().concat();
        self.history.push(Moment {
            task: lesson.index,
            step,
            accuracy: self.sequence.accuracy(&now, self.plan.score),
            fit: lesson.aim.at(&numbers)?.value,
            multipliers: multipliers.to_vec(),
            constraints: constraints(&numbers)?,
        });
        Ok(())
    }
}
