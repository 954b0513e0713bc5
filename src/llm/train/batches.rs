//! Batches of a run: the examples of each step, and the parts that are run at once.

use super::enums::ValuePer;
use super::examples::Examples;
use super::ordered::Ordered;
use super::settings::Settings;
use super::source::{Networks, Source};
use crate::error::Result;
use crate::llm::model::sequence::Sequence;
use crate::llm::text::batch::TextBatch;
use crate::llm::text::example::{Example, in_parts};
use crate::llm::text::objective::{TextObjective, mismatched};
use crate::observer::Observer;

/// Batches of a run: the examples of each step, and the parts that are run at once.
pub struct Batches<'a> {
    objective: TextObjective,
    coupled: bool,
    micro_batch: usize,
    longest: usize,
    source: Box<dyn Source + 'a>,
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
        let source = Ordered::new(&objective, settings, examples)?;
        Self::fed(objective, settings, context, source)
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
        let objective = settings.objective()?;
        let source = Ordered::held_out(&objective, settings, examples)?;
        Self::fed(objective, settings, context, source)
    }

    /// Those of any source.
    ///
    /// # Errors
    /// A loss that cannot be run on a few examples.
    pub fn fed(
        objective: TextObjective,
        settings: &Settings,
        context: usize,
        source: impl Source + 'a,
    ) -> Result<Self> {
        Ok(Self {
            coupled: objective.loss().is_coupled()? || settings.value_per == ValuePer::Batch,
            objective,
            micro_batch: settings.micro_batch_tokens,
            longest: settings.max_length.unwrap_or(context),
            source: Box::new(source),
        })
    }

    /// Objective that is minimised.
    pub fn objective(&self) -> &TextObjective {
        &self.objective
    }

    /// Steps in all.
    pub fn steps(&self) -> u64 {
        self.source.steps()
    }

    /// Steps of an epoch.
    pub fn per_epoch(&self) -> u64 {
        self.source.per_epoch()
    }

    /// Epochs that so many steps make.
    pub fn epochs(&self, steps: u64) -> f64 {
        steps as f64 / self.per_epoch() as f64
    }

    /// The first steps, which visit every response that the run will see.
    pub fn covering(&self) -> u64 {
        self.source.covering()
    }

    /// Has the examples of the step after `done` others be there, as [`Source::prepare`].
    ///
    /// # Errors
    /// Those of the source.
    pub(super) fn prepare(
        &mut self,
        done: u64,
        networks: &Networks,
        observer: &dyn Observer,
    ) -> Result<Vec<(String, f64)>> {
        self.source.prepare(done, networks, observer)
    }

    /// The batch of the step after `done` others, without the reference's numbers, and the examples
    /// that it was made of.
    ///
    /// # Errors
    /// Those of the examples.
    pub fn batch(&self, done: u64) -> Result<(TextBatch, Vec<Example>)> {
        let examples = self.objective.select(self.source.examples(done)?);
        Ok((self.objective.batch(&examples), examples))
    }

    /// Most tokens that are run at once.
    pub fn micro_batch(&self) -> usize {
        self.micro_batch
    }

    /// A step's batch in what is run at once: one part where its examples are coupled, whose numbers come first and
    /// are then run again piece by piece.
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
}
