//! Evaluation inside training: loss and metrics without a gradient.

use std::collections::BTreeMap;

use super::metrics::Meter;
use super::trainer::Trainer;
use crate::error::Result;
use crate::llm::model::decoder::Decoder;
use crate::llm::model::sequence::Sequence;
use crate::llm::text::example::{Beside, Example, Response};
use crate::llm::text::objective::{TextObjective, TokenReduction};
use crate::loss::Batch;
use crate::observer::Observer;

/// Begins the names of what is evaluated.
pub const EVAL: &str = "eval_";

/// Evaluation besides the loss on the evaluation split, at the same steps.
pub trait Evaluation {
    /// The names of its metrics.
    fn names(&self) -> Vec<String>;

    /// Its metrics of the policy as it is after `step` steps, without `eval_`. The same policy at
    /// the same step must give the same numbers.
    ///
    /// # Errors
    /// Whatever stops the run.
    fn run(
        &mut self,
        policy: &Decoder,
        step: u64,
        observer: &dyn Observer,
    ) -> Result<Vec<(String, f64)>>;
}

impl<E: Evaluation + ?Sized> Evaluation for &mut E {
    fn names(&self) -> Vec<String> {
        (**self).names()
    }

    fn run(
        &mut self,
        policy: &Decoder,
        step: u64,
        observer: &dyn Observer,
    ) -> Result<Vec<(String, f64)>> {
        (**self).run(policy, step, observer)
    }
}

impl Trainer<'_> {
    /// Loss and metrics on the evaluation split, and what else is evaluated, all under `eval_…`;
    /// nothing if nothing is. Weights, optimiser and random streams stay as they are.
    ///
    /// The loss is the mean over the split's examples, or with [`TokenReduction::Batch`] over its
    /// tokens: apart from KTO's z₀, the size of batches does not matter.
    ///
    /// # Errors
    /// Those of data, networks and loss.
    pub fn evaluate(&mut self, observer: &dyn Observer) -> Result<BTreeMap<String, f64>> {
        let mut meter = Meter::default();
        if let Some(plan) = &self.held_out {
            let work = observer.begin("evaluating", plan.steps());
            let objective = plan.objective();
            for done in 0..plan.steps() {
                let (loss, batch, examples) = self.look(plan, done)?;
                let rows = examples.len();
                meter.counted("loss", loss, count(objective, &examples));
                meter.measure(objective, &batch, rows);
                work.advance(1);
            }
        }
        let mut found = meter.take();
        let policy = self.policy.model.decoder();
        for evaluation in &mut self.evaluations {
            found.extend(evaluation.run(policy, self.state.steps, observer)?);
        }
        let named = |(name, value)| (format!("{EVAL}{name}"), value);
        Ok(found.into_iter().map(named).collect())
    }
}

/// What a batch's loss counts as in the mean over all.
fn count(objective: &TextObjective, examples: &[Example]) -> f64 {
    let responses = examples.iter().flat_map(|e| &e.responses);
    match objective.token_reduction() {
        TokenReduction::Batch => responses.map(|r| r.sequence.weight()).sum(),
        _ => examples.len() as f64,
    }
}

/// The names that an evaluation split has, without `eval_`: those of two examples of one token.
pub(super) fn names(objective: &TextObjective) -> Vec<String> {
    let example = |row: u64| {
        let sequence = Sequence::new(vec![0, 0], 1).ok();
        let several = objective.kind().is_pairs() || objective.kind().is_ragged();
        let responses = if several { 2 } else { 1 };
        let reward = row as f64;
        let response = |_| {
            let sequence = sequence.clone()?;
            Some(Response::new(sequence, reward))
        };
        let responses = (0..responses).filter_map(response).collect();
        Example {
            row,
            responses,
            beside: Beside::default(),
        }
    };
    let examples = objective.select(vec![example(0), example(1)]);
    let text = objective.batch(&examples);
    let zeros = vec![0.0; text.sequences.len()];
    let batch: Batch = text.numbers(objective.kind(), &zeros, vec![0.0; text.weight.len()]);
    let mut meter = Meter::default();
    meter.mean("loss", 0.0);
    meter.measure(objective, &batch, examples.len());
    meter.take().into_keys().collect()
}
