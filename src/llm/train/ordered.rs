//! Rows of a file, batch by batch.

use std::cell::RefCell;

use super::examples::Examples;
use super::settings::Settings;
use super::source::Source;
use crate::error::{Error, Result};
use crate::llm::text::data::Ordering;
use crate::llm::text::example::Example;
use crate::llm::text::objective::TextObjective;
use crate::llm::train::step::beyond_one_run;
use crate::loss::InputKind;

/// Examples in an order, shuffled anew in every epoch or not.
pub(super) struct Ordered<'a> {
    examples: &'a dyn Examples,
    ordering: Ordering,
    shuffle: bool,
    per_epoch: u64,
    steps: u64,
    covering: u64,
    /// The epoch visited last, and its batches.
    epoch: RefCell<Option<(u64, Vec<Vec<u32>>)>>,
}

impl<'a> Ordered<'a> {
    /// Those of training.
    ///
    /// # Errors
    /// No examples, a batch beyond them, or one that is too small for the objective; with `optimizer_in_backward`, a
    /// step of several parts.
    pub fn new(
        objective: &TextObjective,
        settings: &Settings,
        examples: &'a dyn Examples,
    ) -> Result<Self> {
        let batch = settings.rows_of_a_step();
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
        let others = ordering.drop_last && !count.is_multiple_of(batch);
        let covering = if objective.anchored() || others {
            steps
        } else {
            steps.min(per_epoch)
        };
        let this = Self {
            examples,
            ordering,
            shuffle: settings.shuffle,
            per_epoch,
            steps,
            covering,
            epoch: RefCell::new(None),
        };
        if settings.optimizer_in_backward {
            this.check_whole(objective, settings.micro_batch_tokens)?;
        }
        Ok(this)
    }

    /// All examples once, in their order, in batches of the size that those of training have. Where a batch's
    /// examples are coupled, one that would be left alone joins the batch before it.
    ///
    /// # Errors
    /// Too few examples for the objective.
    pub fn held_out(
        objective: &TextObjective,
        settings: &Settings,
        examples: &'a dyn Examples,
    ) -> Result<Self> {
        let count = examples.count();
        let size = settings.rows_of_a_step();
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
            covering: steps,
            epoch: RefCell::new(Some((0, batches))),
        })
    }

    /// An error if the lengths of the data say that a step will be run in several parts.
    fn check_whole(&self, objective: &TextObjective, micro_batch: usize) -> Result<()> {
        // Of a ranked list SFT takes one response, and the length is that of all.
        let best_only = objective.spec().best_only;
        let Some(lengths) = (self.examples.lengths()).filter(|_| !best_only) else {
            return Ok(());
        };
        let single = matches!(objective.kind(), InputKind::Singles | InputKind::Rated);
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
            (tokens, step) if tokens > micro_batch => {
                let parts = tokens.div_ceil(micro_batch);
                Err(beyond_one_run(&format!("step {}", step + 1), tokens, parts))
            }
            _ => Ok(()),
        }
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

impl Source for Ordered<'_> {
    fn steps(&self) -> u64 {
        self.steps
    }

    fn per_epoch(&self) -> u64 {
        self.per_epoch
    }

    fn covering(&self) -> u64 {
        self.covering
    }

    fn examples(&self, done: u64) -> Result<Vec<Example>> {
        let (epoch, index) = (done / self.per_epoch, done % self.per_epoch);
        let mut visited = self.epoch.borrow_mut();
        let batches = match visited.take() {
            Some((last, batches)) if last == epoch => batches,
            _ => self.batches(epoch)?,
        };
        let (_, batches) = visited.insert((epoch, batches));
        self.examples.at(&batches[index as usize])
    }
}
