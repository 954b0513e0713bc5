//! A task being learned: the steps of each way to keep old tasks.

use super::estimates::estimate;
use super::examples::Example;
use super::hooks::{Accumulation, Importance, Pull, Vectors, project};
use super::method::{Base, Keeps, Weights};
use super::outputs::{Stored, distill, match_outputs};
use super::shares::Set;
use super::training::{Learner, Memory};
use crate::error::{Error, Result};
use crate::sim::share::Share;
use crate::sim::{Parameters, Trained};
use crate::solve::copr::Multipliers;

/// What a lesson is about.
pub(super) struct Lesson<'a> {
    /// The task.
    pub index: usize,
    pub steps: usize,
    /// The newest task's fit, for the record.
    pub aim: Share,
    /// The newest task's examples.
    pub examples: &'a [Example],
    /// Examples that the base descends on.
    pub sets: Vec<Set<'a>>,
    /// Weight of the fits of the old tasks, as they were.
    pub fits: f64,
    pub old: &'a [Memory],
    /// ln π of every arm at the start.
    pub before: Vec<f64>,
}

/// Adds a loss's derivative in the numbers of every arm; the loss.
type Loss<'a> = dyn FnMut(&[f64], &mut [f64]) -> Result<f64> + 'a;

/// Changes a slope before the step: the parameters, the loss, the slope.
type Hook<'a> = dyn FnMut(&mut dyn Parameters, f64, &mut Vec<f64>) -> Result<()> + 'a;

impl Learner<'_, '_> {
    /// Takes the steps of a lesson.
    pub fn take(&mut self, lesson: &Lesson<'_>) -> Result<()> {
        if self.method.base == Base::Feedback {
            return self.hindsight(lesson);
        }
        match self.method.keeps {
            Keeps::Nothing | Keeps::Everything | Keeps::Replay => {
                self.plain(lesson, &mut |_, _| Ok(0.0))
            }
            Keeps::Constraints => self.constrained(lesson, true),
            Keeps::Fits => self.constrained(lesson, false),
            Keeps::Pull(weights) => self.pulled(lesson, weights),
            Keeps::Plateaus => self.plateaus(lesson),
            Keeps::Projection => self.projected(lesson),
            Keeps::Distillation => self.distilled(lesson),
            Keeps::Memory => self.remembering(lesson),
        }
    }

    /// The base's shares at a reference.
    fn base(&self, lesson: &Lesson<'_>, before: &[f64]) -> Result<Vec<Share>> {
        let each = lesson.sets.iter();
        let each = each.map(|set| self.shares().of(self.method.base, set, before));
        Ok(each
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .flatten()
            .collect())
    }

    /// Steps after which the base's reference is the policy of then; none where it stays.
    fn renewal(&self, lesson: &Lesson<'_>) -> Option<usize> {
        match self.method.base {
            Base::SelfPlay => Some(lesson.steps.div_ceil(self.plan.iterations)),
            Base::Reward => Some(self.plan.inner_steps),
            _ => None,
        }
    }

    /// Descent on the base and a further loss.
    fn plain(&mut self, lesson: &Lesson<'_>, more: &mut Loss<'_>) -> Result<()> {
        let mut shares = self.base(lesson, &lesson.before)?;
        let renewal = self.renewal(lesson);
        for step in 0..lesson.steps {
            self.record(lesson, step, &[], |_| Ok(Vec::new()))?;
            if step > 0 && renewal.is_some_and(|every| step.is_multiple_of(every)) {
                shares = self.base(lesson, &self.log_policy()?)?;
            }
            self.policy.step(&mut |numbers, gradient| {
                for share in &shares {
                    share.at(numbers)?.add(1.0, gradient);
                }
                for memory in lesson.old.iter().filter(|_| lesson.fits > 0.0) {
                    memory.fit.at(numbers)?.add(lesson.fits, gradient);
                }
                more(numbers, gradient).map(|_| ())
            })?;
        }
        self.record(lesson, lesson.steps, &[], |_| Ok(Vec::new()))
    }

    /// Descent on the base, whose slope a hook changes.
    fn hooked(&mut self, lesson: &Lesson<'_>, hook: &mut Hook<'_>) -> Result<()> {
        let shares = self.base(lesson, &lesson.before)?;
        for step in 0..lesson.steps {
            self.record(lesson, step, &[], |_| Ok(Vec::new()))?;
            let parameters = self.parameters()?;
            let mut loss = 0.0;
            let mut slope = parameters.slope(&mut |numbers, gradient| {
                loss = 0.0;
                for share in &shares {
                    let at = share.at(numbers)?;
                    loss += at.value;
                    at.add(1.0, gradient);
                }
                Ok(())
            })?;
            hook(parameters, loss, &mut slope)?;
            parameters.descend(&slope)?;
        }
        self.record(lesson, lesson.steps, &[], |_| Ok(Vec::new()))
    }

    /// L2, EWC and MAS.
    fn pulled(&mut self, lesson: &Lesson<'_>, weights: Weights) -> Result<()> {
        let strength = self.plan.pull;
        let anchor = self.parameters()?.vector().clone();
        let importance = if weights == Weights::Equal {
            None
        } else {
            let importance = match self.importance.take() {
                Some(importance) => importance,
                None => Importance::new(Accumulation::Sum, &anchor)?,
            };
            let weights = importance.weights.clone();
            self.importance = Some(importance);
            Some(weights)
        };
        let pull = Pull::new(strength, anchor, importance)?;
        self.hooked(lesson, &mut |parameters, _, slope| {
            pull.add_gradient(parameters.vector(), slope)
        })?;
        if let Some(mut importance) = self.importance.take() {
            let sequence = self.sequence;
            let estimate = estimate(weights, sequence, self.parameters()?, lesson.examples)?;
            importance.take(&estimate)?;
            self.importance = Some(importance);
        }
        Ok(())
    }

    /// A-GEM.
    fn projected(&mut self, lesson: &Lesson<'_>) -> Result<()> {
        let share = 1.0 / lesson.old.len().max(1) as f64;
        let old = (lesson.old.iter())
            .map(|memory| self.shares().likelihood(share, &memory.examples))
            .collect::<Result<Vec<_>>>()?;
        self.hooked(lesson, &mut |parameters, _, slope| {
            let reference = parameters.slope(&mut |numbers, gradient| {
                for share in &old {
                    share.at(numbers)?.add(1.0, gradient);
                }
                Ok(())
            })?;
            project(slope, &reference).map(|_| ())
        })
    }

    /// TFCL, which is not told that a task has begun.
    fn plateaus(&mut self, lesson: &Lesson<'_>) -> Result<()> {
        let shares = self.base(lesson, &lesson.before)?;
        let mut hard = self.hard()?;
        for step in 0..lesson.steps {
            self.record(lesson, step, &[], |_| Ok(Vec::new()))?;
            let each = if hard.is_some() { 0.5 } else { 1.0 };
            let task_free = &self.task_free;
            let parameters = own(&mut *self.policy, self.method.name)?;
            let mut loss = 0.0;
            let mut slope = parameters.slope(&mut |numbers, gradient| {
                loss = 0.0;
                for share in &shares {
                    let at = share.at(numbers)?;
                    loss += at.value;
                    at.add(each, gradient);
                }
                match &hard {
                    None => Ok(()),
                    Some(hard) => {
                        hard.at(numbers)?.add(each, gradient);
                        Ok(())
                    }
                }
            })?;
            if let Some(pull) = &task_free.pull {
                pull.add_gradient(parameters.vector(), &mut slope)?;
            }
            parameters.descend(&slope)?;
            if self.task_free.plateau.see(loss) {
                let now = self.log_policy()?;
                let (sequence, strength) = (self.sequence, self.plan.pull);
                let parameters = own(&mut *self.policy, self.method.name)?;
                let task_free = &mut self.task_free;
                task_free.settle(sequence, strength, parameters, lesson.examples, &now)?;
                hard = self.hard()?;
            }
        }
        self.record(lesson, lesson.steps, &[], |_| Ok(Vec::new()))
    }

    /// The likelihood of TFCL's hard examples, if there are any.
    fn hard(&self) -> Result<Option<Share>> {
        let examples = self.task_free.replayed();
        if examples.is_empty() {
            return Ok(None);
        }
        self.shares().likelihood(1.0, &examples).map(Some)
    }

    /// LwF.
    fn distilled(&mut self, lesson: &Lesson<'_>) -> Result<()> {
        if lesson.old.is_empty() {
            return self.plain(lesson, &mut |_, _| Ok(0.0));
        }
        let stored: Vec<Stored> = (lesson.examples.iter())
            .map(|e| self.stored(e, &lesson.before))
            .collect();
        let strength = self.plan.distillation;
        self.plain(lesson, &mut |numbers, gradient| {
            Ok(distill(strength, &stored, numbers, gradient))
        })
    }

    /// DER++.
    fn remembering(&mut self, lesson: &Lesson<'_>) -> Result<()> {
        let share = 1.0 / self.seen.kept.len().max(1) as f64;
        let (examples, stored): (Vec<Example>, Vec<Stored>) =
            self.seen.kept.iter().cloned().unzip();
        let alike = |weight: &mut f64| *weight = share;
        let (mut examples, mut stored) = (examples, stored);
        examples.iter_mut().for_each(|e| alike(&mut e.weight));
        stored.iter_mut().for_each(|s| alike(&mut s.weight));
        let labels = self.shares().likelihood(self.plan.rehearsal, &examples)?;
        let strength = self.plan.matching;
        self.plain(lesson, &mut |numbers, gradient| {
            labels.at(numbers)?.add(1.0, gradient);
            Ok(match_outputs(strength, &stored, numbers, gradient))
        })?;
        let now = self.log_policy()?;
        for e in lesson.examples {
            let stored = self.stored(e, &now);
            self.seen.offer((e.clone(), stored));
        }
        Ok(())
    }

    /// CoH: the policy of good feedback is the policy, and that of bad feedback goes along.
    fn hindsight(&mut self, lesson: &Lesson<'_>) -> Result<()> {
        let of = |good: bool| -> Result<Vec<Share>> {
            let each = lesson.sets.iter();
            each.map(|set| self.shares().feedback(set.weight, set.examples, good))
                .collect()
        };
        let (good, bad) = (of(true)?, of(false)?);
        let coupling = self.plan.coupling;
        let mut other = match self.disfavoured.take() {
            Some(other) => other,
            None => self.made()?,
        };
        other.focus(&self.prompts(lesson));
        let slope_of = |parameters: &mut dyn Parameters, shares: &[Share]| {
            parameters.slope(&mut |numbers, gradient| {
                for share in shares {
                    share.at(numbers)?.add(1.0, gradient);
                }
                Ok(())
            })
        };
        for step in 0..lesson.steps {
            self.record(lesson, step, &[], |_| Ok(Vec::new()))?;
            let name = self.method.name;
            let (first, second) = (own(&mut *self.policy, name)?, own(&mut *other, name)?);
            let (of_good, of_bad) = (slope_of(first, &good)?, slope_of(second, &bad)?);
            let (mut move_good, mut move_bad) = (of_good.clone(), of_bad.clone());
            move_good.add(coupling, &of_bad)?;
            move_bad.add(coupling, &of_good)?;
            first.descend(&move_good)?;
            second.descend(&move_bad)?;
        }
        self.disfavoured = Some(other);
        self.record(lesson, lesson.steps, &[], |_| Ok(Vec::new()))
    }

    /// COPR: multipliers first, then the parameters with the multipliers just updated. Without thresholds every d_i is 0.
    fn constrained(&mut self, lesson: &Lesson<'_>, thresholds: bool) -> Result<()> {
        let plan = self.plan;
        let shares = self.base(lesson, &lesson.before)?;
        let divergences = |numbers: &[f64]| -> Result<Vec<f64>> {
            let each = lesson.old.iter().map(|m| Ok(m.fit.at(numbers)?.value));
            each.collect()
        };
        let thresholds = if thresholds {
            divergences(&self.log_policy()?)?
        } else {
            vec![0.0; lesson.old.len()]
        };
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
                for share in &shares {
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

    /// An example's prompt with what numbers give its arms.
    fn stored(&self, e: &Example, numbers: &[f64]) -> Stored {
        let arms = self.sequence.logits.rows()[e.prompt].clone();
        Stored {
            weight: e.weight,
            log_policy: numbers[arms.clone()].to_vec(),
            arms,
        }
    }

    fn parameters(&mut self) -> Result<&mut dyn Parameters> {
        own(&mut *self.policy, self.method.name)
    }
}

/// A policy's parameters, which a method acts on.
fn own<'p>(policy: &'p mut (dyn Trained + '_), method: &str) -> Result<&'p mut dyn Parameters> {
    policy.parameters().ok_or_else(|| {
        Error::invalid(
            format!("method {method}"),
            "it acts on a vector of parameters, and the policy has none",
            "choose another method, or train the sequence's own policy",
        )
    })
}
