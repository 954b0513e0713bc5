//! Batches of a run: the examples of each step, and the parts that are run at once.

use std::cell::RefCell;

use super::examples::Examples;
use super::settings::Settings;
use crate::error::{Error, Result};
use crate::llm::model::sequence::Sequence;
use crate::llm::text::batch::TextBatch;
use crate::llm::text::data::Ordering;
use crate::llm::text::example::{Example, in_parts};
use crate::llm::text::objective::{TextObjective, mismatched};
use crate::llm::train::step::beyond_one_run;
use crate::loss::InputKind;

/// Batches of a run: the examples of each step, and the parts that are run at once.
pub struct Batches<'a> {
    objective: TextObjective,
    coupled: bool,
    micro_batch: usize,
    longest: usize,
    examples: &'a dyn Examples,
    ordering: Ordering,
    shuffle: bool,
    per_epoch: u64,
    steps: u64,
    /// The epoch visited last, and its batches.
    epoch: RefCell<Option<(u64, Vec<Vec<u32>>)>>,
}

impl<'a> Batches<'a> {
    /// The plan of a run on a model that takes `context` tokens.
    ///
    /// # Errors
    /// No examples, a batch beyond them, or one that is too small for the objective.
    pub fn new(settings: &Settings, context: usize, examples: &'a dyn Examples) -> Result<Self> {
        Self::of(settings.objective()?, settings, context, examples)
    }

    /// The same for an objective that need not be the settings', nor registered.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn of(
        objective: TextObjective,
        settings: &Settings,
        context: usize,
        examples: &'a dyn Examples,
    ) -> Result<Self> {
        let batch = settings.batch.saturating_mul(settings.accumulation);
        let ordering = Ordering {
            batch,
            seed: settings.seed,
            drop_last: settings.drop_last,
            bucket: settings.length_buckets,
        };
        let count = examples.count();
        if count == 0 {
            return Err(Error::invalid(
                "data",
                "it has no examples",
                "give one or more",
            ));
        }
        ordering.check(count)?;
        let per_epoch = ordering.count(count) as u64;
        let steps = match settings.steps {
            Some(steps) => steps,
            None => (settings.epochs * per_epoch as f64).ceil() as u64,
        };
        let last = match (count % batch, settings.drop_last) {
            (0, _) | (_, true) => batch,
            (rest, false) => rest,
        };
        let smallest = if steps < per_epoch { batch } else { last };
        if objective.anchored() && smallest < 2 {
            return Err(Error::invalid(
                "batch",
                format!("of {count} examples, a step of {batch} leaves one alone"),
                "z₀ needs two or more: give another batch, drop_last, or an objective without z₀",
            ));
        }
        let plan = Self {
            coupled: objective.loss().is_coupled()?,
            objective,
            micro_batch: settings.micro_batch_tokens,
            longest: settings.max_length.unwrap_or(context),
            examples,
            ordering,
            shuffle: settings.shuffle,
            per_epoch,
            steps,
            epoch: RefCell::new(None),
        };
        if settings.optimizer_in_backward {
            plan.check_whole()?;
        }
        Ok(plan)
    }

    /// An error if the lengths of the data say that a step will be run in several parts.
    fn check_whole(&self) -> Result<()> {
        // Of a ranked list SFT takes one response, and the length is that of all.
        let best_only = self.objective.spec().best_only;
        let Some(lengths) = (self.examples.lengths()).filter(|_| !best_only) else {
            return Ok(());
        };
        let single = matches!(self.objective.kind(), InputKind::Singles | InputKind::Rated);
        let (mut most, mut left) = ((0, 0), self.steps);
        for epoch in 0..self.steps.div_ceil(self.per_epoch) {
            for rows in self.batches(epoch)?.iter().take(left as usize) {
                let tokens: usize = rows.iter().map(|&r| lengths[r as usize] as usize).sum();
                // One sequence is run alone however long it is.
                if tokens > most.0 && !(single && rows.len() == 1) {
                    most = (tokens, self.steps - left);
                }
                left -= 1;
            }
        }
        match most {
            (tokens, step) if tokens > self.micro_batch => {
                let parts = tokens.div_ceil(self.micro_batch);
                Err(beyond_one_run(&format!("step {}", step + 1), tokens, parts))
            }
            _ => Ok(()),
        }
    }

    /// The plan of an evaluation: all examples once, in their order, in batches of the size that
    /// those of training have. Where a batch's examples are coupled, one that would be left alone
    /// joins the batch before it.
    ///
    /// # Errors
    /// Settings without an objective, or too few examples for it.
    pub fn held_out(
        settings: &Settings,
        context: usize,
        examples: &'a dyn Examples,
    ) -> Result<Self> {
        let count = examples.count();
        let size = settings.batch.saturating_mul(settings.accumulation);
        let objective = settings.objective()?;
        let rows: Vec<u32> = (0..count as u32).collect();
        let mut batches: Vec<Vec<u32>> = rows.chunks(size).map(<[u32]>::to_vec).collect();
        if objective.anchored() && batches.last().is_some_and(|last| last.len() == 1) {
            let alone = batches.pop().unwrap_or_default();
            match batches.last_mut() {
                Some(last) => last.extend(alone),
                None => {
                    return Err(Error::invalid(
                        "evaluation split",
                        "it has one example",
                        "z₀ needs two or more: hold out more, or train an objective without z₀",
                    ));
                }
            }
        }
        let steps = batches.len() as u64;
        Ok(Self {
            coupled: objective.loss().is_coupled()?,
            objective,
            micro_batch: settings.micro_batch_tokens,
            longest: settings.max_length.unwrap_or(context),
            examples,
            ordering: Ordering {
                batch: size,
                seed: 0,
                drop_last: false,
                bucket: None,
            },
            shuffle: false,
            per_epoch: steps,
            steps,
            epoch: RefCell::new(Some((0, batches))),
        })
    }

    /// Objective that is minimised.
    pub fn objective(&self) -> &TextObjective {
        &self.objective
    }

    /// The examples.
    pub fn source(&self) -> &dyn Examples {
        self.examples
    }

    /// Steps in all.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Steps of an epoch.
    pub fn per_epoch(&self) -> u64 {
        self.per_epoch
    }

    /// Epochs that so many steps make.
    pub fn epochs(&self, steps: u64) -> f64 {
        steps as f64 / self.per_epoch as f64
    }

    /// The first steps, which visit every response that the run will see.
    pub fn covering(&self) -> u64 {
        let others =
            self.ordering.drop_last && !self.examples.count().is_multiple_of(self.ordering.batch);
        if self.objective.anchored() || others {
            self.steps
        } else {
            self.steps.min(self.per_epoch)
        }
    }

    /// The batch of the step after `done` others, without the reference's numbers, and the examples
    /// that it was made of.
    ///
    /// # Errors
    /// Those of the examples.
    pub fn batch(&self, done: u64) -> Result<(TextBatch, Vec<Example>)> {
        let examples = self.objective.select(self.rows(done)?);
        Ok((self.objective.batch(&examples), examples))
    }

    /// Most tokens that are run at once.
    pub fn micro_batch(&self) -> usize {
        self.micro_batch
    }

    /// A step's batch in what is run at once: one part for a loss that couples its examples, whose numbers come first
    /// and are then run again piece by piece.
    pub fn parts(&self, text: &TextBatch, examples: &[Example]) -> Vec<TextBatch> {
        if self.coupled {
            return vec![text.clone()];
        }
        in_parts(text, examples, self.micro_batch, |some| {
            self.objective.batch(some)
        })
    }

    /// Mismatched sequences that z₀ is estimated from, for KTO; else none.
    ///
    /// # Errors
    /// A batch of one example.
    pub fn mismatched(&self, text: &TextBatch) -> Result<Vec<Sequence>> {
        if self.objective.anchored() {
            mismatched(text, self.longest)
        } else {
            Ok(Vec::new())
        }
    }

    fn rows(&self, done: u64) -> Result<Vec<Example>> {
        let (epoch, index) = (done / self.per_epoch, done % self.per_epoch);
        let mut visited = self.epoch.borrow_mut();
        let batches = match visited.take() {
            Some((last, batches)) if last == epoch => batches,
            _ => self.batches(epoch)?,
        };
        let (_, batches) = visited.insert((epoch, batches));
        self.examples.at(&batches[index as usize])
    }

    fn batches(&self, epoch: u64) -> Result<Vec<Vec<u32>>> {
        let to_vec = |batch: &[u32]| batch.to_vec();
        if self.shuffle {
            let (count, lengths) = (self.examples.count(), self.examples.lengths());
            let batches = (self.ordering).batches(epoch, count, lengths.as_deref())?;
            return Ok(batches.iter().map(to_vec).collect());
        }
        let rows: Vec<u32> = (0..self.examples.count() as u32).collect();
        let all = rows.chunks(self.ordering.batch).map(to_vec);
        Ok(all.take(self.per_epoch as usize).collect())
    }
}
