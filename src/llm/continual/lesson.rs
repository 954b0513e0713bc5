//! What a method adds to the training of a task.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::course::{
    Course, IMPORTANCE, KEPT, MEMORY, PREDICTED, REFERENCE, numbers_of, write_json,
};
use super::importance::estimate;
use super::penalty::{self, Penalty as Pulled};
use super::plateaus::{Free, Plateaus};
use crate::continual::hooks::{Accumulation, Importance, PlateauWindow, Pull};
use crate::continual::{Keeps, Weights};
use crate::error::{Error, Result};
use crate::file;
use crate::llm::model::decoder::{Decoder, Distance};
use crate::llm::model::inference;
use crate::llm::model::network::Reduction;
use crate::llm::model::sequence::Sequence;
use crate::llm::text::data::{Form, Source};
use crate::llm::text::example::{Example, Stored};
use crate::llm::text::objective::{TextObjective, TokenReduction};
use crate::llm::train::share::likelihood;
use crate::llm::train::{
    self, Distillation, Examples, Leaves, Lesson, Part, Predicted, Role, Share, Teaching,
};
use crate::loss::Objective;

const REMEDY: &str = "begin the sequence anew in another --out";

/// Examples and models of what a method adds to a task, which a lesson borrows.
pub(super) struct Taught {
    settings: train::Settings,
    /// Index of the task.
    task: usize,
    /// What is kept of each old task.
    kept: Vec<Vec<Example>>,
    /// The same in one.
    all: Vec<Example>,
    /// The task's own best responses, where a teacher predicts them.
    own: Vec<Example>,
}

impl Taught {
    /// Reads them.
    ///
    /// # Errors
    /// Rows that cannot be used.
    pub fn read(course: &Course, t: usize, settings: &train::Settings) -> Result<Self> {
        let method = course.method;
        let settings = settings.clone().resolve()?;
        let mut kept = Vec::new();
        if method.keeps_examples() && course.settings.replay > 0.0 {
            for i in 0..t {
                let path = course.folder(i).join(KEPT);
                let mut examples = examples(course, &path, method.objective_on_kept())?;
                if method.remembers() {
                    recall(&mut examples, &course.folder(i).join(REFERENCE))?;
                }
                kept.push(examples);
            }
        }
        // Where each task is a share of its own, none is of all.
        let together = kept.iter().filter(|_| !method.remembers()).flatten();
        let all = (0..)
            .zip(together.cloned())
            .map(|(row, e)| Example { row, ..e })
            .collect();
        let distils = method.keeps == Keeps::Distillation && t > 0;
        let own = match (&settings.data, distils) {
            (Some(data), true) => best_of(examples(course, data, method.objectives()[0])?)?,
            _ => Vec::new(),
        };
        Ok(Self {
            settings,
            task: t,
            kept,
            all,
            own,
        })
    }

    /// What the method adds to the task.
    ///
    /// # Errors
    /// What is kept is too little for the objective; a model that cannot be read.
    pub fn lesson(&self, course: &Course) -> Result<Lesson<'_>> {
        let (method, settings) = (course.method, course.settings);
        let mut lesson = Lesson {
            ascent: settings.ascent(),
            ..Lesson::default()
        };
        self.plateaus(course, &mut lesson)?;
        if self.task == 0 {
            return Ok(lesson);
        }
        match method.keeps {
            Keeps::Replay if !method.remembers() => {
                let weight = settings.replay_weight;
                self.replay(course, Role::Added { weight }, &mut lesson)?;
            }
            Keeps::Replay | Keeps::Constraints | Keeps::Fits => {
                if method.keeps == Keeps::Replay {
                    // A multiplier that is held is a weight.
                    lesson.ascent.start = settings.replay_weight;
                    lesson.ascent.rate = 0.0;
                }
                lesson.ascent.from_zero = method.keeps == Keeps::Fits;
                for (task, kept) in course.tasks.task.iter().zip(&self.kept) {
                    let name = task.name.clone();
                    let share = self.share(course, name, kept, Role::Bounded)?;
                    lesson.shares.push(share);
                }
            }
            Keeps::Projection => self.replay(course, Role::Projected, &mut lesson)?,
            Keeps::Memory => {
                let weight = settings.rehearsal;
                self.replay(course, Role::Added { weight }, &mut lesson)?;
                for (i, (task, kept)) in course.tasks.task.iter().zip(&self.kept).enumerate() {
                    let name = task.name.clone();
                    let path = course.folder(i).join(MEMORY).join(PREDICTED);
                    let stored = Predicted::read(&path, &course.device()?)?;
                    lesson.distillations.push(Distillation {
                        name,
                        plan: self
                            .part(course, settings.replay_batch)
                            .of(likelihood(TokenReduction::Sum)?, kept)?,
                        teaching: Teaching::Stored(stored),
                        distance: Distance::Logits,
                        weight: settings.matching,
                    });
                }
            }
            Keeps::Distillation => {
                let before = course.decoder(&course.before(self.task))?;
                lesson.distillations.push(Distillation {
                    name: "teacher".into(),
                    plan: self
                        .part(course, self.settings.batch)
                        .of(likelihood(TokenReduction::Sum)?, &self.own)?,
                    teaching: Teaching::Live(Box::new(before)),
                    distance: Distance::CrossEntropy {
                        temperature: settings.teacher_temperature,
                    },
                    weight: settings.distillation,
                });
            }
            Keeps::Pull(weights) => {
                let before = course.decoder(&course.before(self.task))?;
                let importance = match weights {
                    Weights::Equal => None,
                    _ => Some(read_importance(course, self.task - 1, &before)?),
                };
                let anchor = Leaves::of(before.parameters())?;
                let pull = Pull::new(settings.pull, anchor, importance)?;
                lesson.hooks.push(Box::new(Pulled(pull)));
            }
            _ => {}
        }
        Ok(lesson)
    }

    /// What is kept of all old tasks, as one share.
    fn replay<'a>(&'a self, course: &Course, role: Role, lesson: &mut Lesson<'a>) -> Result<()> {
        if !self.all.is_empty() {
            let share = self.share(course, "replay".into(), &self.all, role)?;
            lesson.shares.push(share);
        }
        Ok(())
    }

    /// TFCL's penalty, which does not know where tasks begin.
    fn plateaus<'a>(&'a self, course: &Course, lesson: &mut Lesson<'a>) -> Result<()> {
        if course.method.keeps != Keeps::Plateaus {
            return Ok(());
        }
        let settings = course.settings;
        let mut hook = Plateaus::new(Free {
            window: PlateauWindow {
                length: settings.plateau_window,
                mean: settings.plateau_mean,
                variance: settings.plateau_variance,
            },
            strength: settings.pull,
            capacity: settings.replay_batch,
            weight: settings.replay_weight,
            budget: self.settings.micro_batch_tokens,
        })?;
        if let Some(last) = self.task.checked_sub(1) {
            let before = course.decoder(&course.before(self.task))?;
            hook.take_up(&course.model(last), before.parameters())?;
        }
        lesson.hooks.push(Box::new(hook));
        Ok(())
    }

    fn share<'a>(
        &'a self,
        course: &Course,
        name: String,
        rows: &'a dyn Examples,
        role: Role,
    ) -> Result<Share<'a>> {
        let part = self.part(course, course.settings.replay_batch);
        Share::new(name, objective_on_kept(course)?, rows, part, role)
    }

    fn part(&self, course: &Course, batch: usize) -> Part<'_> {
        Part {
            settings: &self.settings,
            context: course.context,
            batch,
        }
    }
}

impl Course<'_> {
    /// The numbers that the policy before a task gives what is kept of it: the reference of what it is to stay.
    pub(super) fn remember(&self, t: usize) -> Result<()> {
        let path = self.folder(t).join(REFERENCE);
        if path.exists() {
            return Ok(());
        }
        let kept = examples(
            self,
            &self.folder(t).join(KEPT),
            self.method.objective_on_kept(),
        )?;
        let policy = self.decoder(&self.before(t))?;
        let budget = self.training.micro_batch_tokens;
        let numbers = kept.iter().map(|example| {
            let each = example.responses.iter().map(|r| r.sequence.clone());
            let each: Vec<Sequence> = each.collect();
            Ok(inference::numbers(&policy, Reduction::Sum, &each, budget)?.sequences)
        });
        write_json(&path, &numbers.collect::<Result<Vec<_>>>()?)
    }

    /// Keeps what later tasks need to know of a task that was learned.
    pub(super) fn keep(&self, t: usize) -> Result<()> {
        if t + 1 == self.tasks.task.len() {
            return Ok(());
        }
        let dir = self.folder(t);
        if self.method.keeps == Keeps::Memory && self.settings.replay > 0.0 {
            let folder = dir.join(MEMORY);
            if !folder.exists() {
                let kept = best_of(examples(
                    self,
                    &dir.join(KEPT),
                    self.method.objective_on_kept(),
                )?)?;
                let model = self.decoder(&self.model(t))?;
                let budget = self.training.micro_batch_tokens;
                let predicted = Predicted::of(&model, &kept, budget)?;
                let [stored, logits] = predicted.bytes();
                self.observer.tell(&format!(
                    "predictions of {} responses: {stored} bytes, for {logits} of logits",
                    kept.len()
                ));
                file::write_folder(&folder, |dir| predicted.write(&dir.join(PREDICTED)))?;
            }
        }
        if let Keeps::Pull(which) = self.method.keeps
            && which != Weights::Equal
        {
            let folder = dir.join(MEMORY);
            if folder.exists() {
                return Ok(());
            }
            let model = self.decoder(&self.model(t))?;
            let data = self.own_rows(t);
            let best = best_of(examples(self, &data, self.method.objectives()[0])?)?;
            let best: Vec<&Sequence> = best.iter().map(|e| &e.responses[0].sequence).collect();
            let estimate = estimate(&model, &best, which, self.observer)?;
            let mut importance = match t.checked_sub(1) {
                None => Importance::new(Accumulation::Sum, &estimate)?,
                Some(last) => {
                    let weights = read_importance(self, last, &model)?;
                    Importance::restored(Accumulation::Sum, weights, t as u64)
                }
            };
            importance.take(&estimate)?;
            let parameters = model.parameters();
            file::write_folder(&folder, |dir| {
                penalty::write(&dir.join(IMPORTANCE), &importance.weights, parameters)
            })?;
        }
        Ok(())
    }
}

fn read_importance(course: &Course, t: usize, model: &Decoder) -> Result<Leaves> {
    let path = course.folder(t).join(MEMORY).join(IMPORTANCE);
    penalty::read(&path, model.parameters(), &course.device()?)
}

/// The objective on what is kept, with its numbers of those that were given.
fn objective_on_kept(course: &Course) -> Result<TextObjective> {
    let (kept, training) = (course.method.objective_on_kept(), &course.training);
    let given = numbers_of(kept, &training.numbers);
    let batch = kept.spec().per_token;
    let tokens = training.token_reduction;
    let tokens = tokens.filter(|of| batch || *of != TokenReduction::Batch);
    TextObjective::of(kept, &given, tokens)
}

/// Examples of a file, as an objective takes them.
fn examples(course: &Course, path: &Path, objective: Objective) -> Result<Vec<Example>> {
    let (training, context) = (&course.training, course.context);
    let (reading, rules) = (training.reading(), training.rows());
    let (form, tokenizer) = (Form::from(objective), course.shared_tokenizer());
    let observer = course.observer;
    let mut source = Source::read(path, &reading, form, tokenizer, context, rules, observer)?;
    source.survey(observer)?;
    let rows: Vec<u32> = (0..source.len() as u32).collect();
    source.examples(&rows)
}

/// The best response of each.
fn best_of(examples: Vec<Example>) -> Result<Vec<Example>> {
    Ok(likelihood(TokenReduction::Sum)?.select(examples))
}

/// Numbers of responses by the policy of another time.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct References(Vec<Vec<f64>>);

/// Gives responses the numbers that were stored of them.
fn recall(examples: &mut [Example], path: &Path) -> Result<()> {
    let References(all) = file::json::read(path, REMEDY)?;
    let fits = all.len() == examples.len()
        && (all.iter().zip(&*examples)).all(|(n, e)| n.len() == e.responses.len());
    if !fits {
        return Err(Error::Format {
            origin: path.display().to_string(),
            message: "it has not a number of each response that is kept".into(),
            remedy: REMEDY.into(),
        });
    }
    for (example, numbers) in examples.iter_mut().zip(all) {
        for (response, reference) in example.responses.iter_mut().zip(numbers) {
            response.stored = Some(Stored {
                old: 0.0,
                reference,
                tokens: None,
            });
        }
    }
    Ok(())
}
