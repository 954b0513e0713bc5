//! One policy through a sequence of tasks.

use std::collections::BTreeSet;

use super::examples::{Example, of_task, reweighted};
use super::hooks::{Importance, Reservoir};
use super::lesson::Lesson;
use super::method::{Base, Keeps, Method};
use super::metrics::Metrics;
use super::outputs::Stored;
use super::plan::Plan;
use super::sequence::Sequence;
use super::shares::{Set, Shares};
use super::task_free::TaskFree;
use crate::bandit::Policy;
use crate::error::Result;
use crate::random::{Purpose, Stream};
use crate::sim::Trained;
use crate::sim::share::Share;

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
    /// λ_i of each old task; empty for methods without constraints.
    pub multipliers: Vec<f64>,
    /// `J_Ci` of each old task; empty for methods without constraints.
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
/// A plan out of range, a ranking that does not fit its prompt, or a step size or a penalty at which the
/// parameters run away.
pub fn run(sequence: &Sequence, method: Method, plan: &Plan) -> Result<Outcome> {
    run_with(sequence, method, plan, &|| {
        Ok(Box::new(sequence.start(plan.rate)))
    })
}

/// [`run`] with another policy than the sequence's own: the same losses on the same examples.
///
/// # Errors
/// As [`run`]; a policy on other arms, or without [parameters](Trained::parameters) where the
/// method acts on them;
/// and those of `make` and of what it makes.
pub fn run_with(
    sequence: &Sequence,
    method: Method,
    plan: &Plan,
    make: &Make<'_>,
) -> Result<Outcome> {
    plan.check()?;
    let examples = (sequence.tasks().iter().enumerate())
        .map(|(t, task)| of_task(task, plan.beta, &format!("tasks[{t}]")))
        .collect::<Result<Vec<_>>>()?;
    let policy = make()?;
    let start = sequence.logits.policy_of(&policy.table()?)?.log().concat();
    let prompts: usize = examples.iter().map(Vec::len).sum();
    let room = (plan.replay * prompts as f64).ceil() as usize;
    let mut learner = Learner {
        sequence,
        method,
        plan,
        make,
        policy,
        start,
        disfavoured: None,
        importance: None,
        task_free: TaskFree::new(plan, room)?,
        seen: Reservoir::new(room, plan.seed),
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
pub(super) struct Memory {
    /// Replayed examples.
    pub examples: Vec<Example>,
    /// The fit of their sampling distributions at the time.
    pub fit: Share,
}

pub(super) struct Learner<'r, 'a> {
    pub sequence: &'r Sequence,
    pub method: Method,
    pub plan: &'r Plan,
    make: &'r Make<'a>,
    pub policy: Box<dyn Trained + 'a>,
    /// ln π of every arm of the first policy.
    start: Vec<f64>,
    /// CoH's policy under bad feedback.
    pub disfavoured: Option<Box<dyn Trained + 'a>>,
    /// Of EWC and MAS.
    pub importance: Option<Importance<Vec<f64>>>,
    pub task_free: TaskFree,
    /// DER++'s examples, with what the policy gave their arms.
    pub seen: Reservoir<(Example, Stored)>,
    history: Vec<Moment>,
}

impl<'a> Learner<'_, 'a> {
    /// Learns task t; what is kept of it.
    fn learn(
        &mut self,
        t: usize,
        all: &[Vec<Example>],
        kept: &[usize],
        old: &[Memory],
    ) -> Result<Memory> {
        let mut before = self.log_policy()?;
        let chosen = reweighted(kept.iter().map(|&i| all[t][i].clone()).collect());
        let memory = Memory {
            fit: self.shares().fit(1.0, &chosen, &before)?,
            examples: chosen,
        };
        let mut lesson_steps = self.plan.steps;
        let mut fits = 0.0;
        let (sets, weight): (Vec<&[Example]>, f64) = match self.method.keeps {
            Keeps::Everything => {
                self.policy = self.made()?;
                before = self.log_policy()?;
                lesson_steps *= t + 1;
                let sets = all[..=t].iter().map(Vec::as_slice);
                (sets.collect(), 1.0 / (t + 1) as f64)
            }
            Keeps::Replay => {
                let weight = 1.0 / (1.0 + old.len() as f64);
                // Fits have references of their own, so each is that of its time.
                let mut sets = vec![all[t].as_slice()];
                if matches!(self.method.base, Base::Fit | Base::FitAndLikelihood) {
                    fits = weight;
                } else {
                    sets.extend(old.iter().map(|m| m.examples.as_slice()));
                }
                (sets, weight)
            }
            _ => (vec![all[t].as_slice()], 1.0),
        };
        let sets = sets.into_iter();
        let lesson = Lesson {
            index: t,
            steps: lesson_steps,
            aim: self.shares().fit(1.0, &all[t], &before)?,
            examples: &all[t],
            sets: sets.map(|examples| Set { weight, examples }).collect(),
            fits,
            old,
            before,
        };
        let prompts = self.prompts(&lesson);
        self.policy.focus(&prompts);
        self.take(&lesson)?;
        Ok(memory)
    }

    /// A policy at the start.
    pub fn made(&self) -> Result<Box<dyn Trained + 'a>> {
        (self.make)()
    }

    /// What makes shares of examples.
    pub fn shares(&self) -> Shares<'_> {
        Shares {
            sequence: self.sequence,
            plan: self.plan,
            start: &self.start,
        }
    }

    /// The policy on all prompts.
    fn now(&self) -> Result<Policy> {
        self.sequence.logits.policy_of(&self.policy.table()?)
    }

    /// ln π of every arm, those of all prompts end to end.
    pub fn log_policy(&self) -> Result<Vec<f64>> {
        Ok(self.now()?.log().concat())
    }

    /// The prompts that a lesson's steps look at.
    pub fn prompts(&self, lesson: &Lesson<'_>) -> Vec<usize> {
        let learned = lesson.sets.iter().flat_map(|set| set.examples);
        let replayed = lesson.old.iter().flat_map(|memory| &memory.examples);
        let seen = self.seen.kept.iter().map(|(example, _)| example);
        let examples = learned.chain(replayed).chain(seen);
        let prompts: BTreeSet<usize> = (examples.chain(self.task_free.examples()))
            .map(|e| e.prompt)
            .collect();
        prompts.into_iter().collect()
    }

    /// Keeps a moment for the record, every so many steps.
    pub fn record(
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
