//! Recipe of an objective's examples: their kind, the trained table, baseline, value and ratings.

use super::dot;
use crate::bandit::policy::{Policy, log_sum_exp};
use crate::bandit::problem::{Problem, Prompt};
use crate::error::Result;
use crate::loss::{Baseline, Bound, Columns, InputKind, Rating, Table, Value};

/// Recipe of an objective's examples and their weights, independent of the loss itself.
#[derive(Debug, Clone)]
pub struct Feed {
    /// Kind of examples.
    pub inputs: InputKind,
    /// Meaning of the trained numbers, one per arm: logits or scores.
    pub table: Table,
    /// Baseline of single responses.
    pub baseline: Option<Baseline>,
    /// DRO's value, instead of a baseline. Single responses then come from the mean of the two
    /// laws; with a baseline they come from both (mass 2).
    pub value: Option<Value>,
    /// True if pairs of an arm with itself count.
    pub self_pairs: bool,
    /// KTO's threshold and z₀, for rated responses.
    pub rating: Rating,
    /// Columns that the loss reads.
    pub columns: Columns,
}

impl Feed {
    /// The feed of a loss.
    ///
    /// # Errors
    /// Those of the loss, run on a few examples to see what it reads.
    pub fn of(loss: &Bound) -> Result<Self> {
        let spec = loss.spec();
        spec.needs_bandits()?;
        Ok(Self {
            inputs: spec.inputs,
            table: spec.table,
            baseline: loss.baseline().cloned(),
            value: spec.value,
            self_pairs: spec.self_pairs,
            rating: spec.rating,
            columns: loss.columns()?,
        })
    }

    /// True if the trained table holds scores (of a reward model), not logits.
    pub fn scores(&self) -> bool {
        self.table != Table::Logits
    }

    /// The numbers a loss sees, from a table: ln π of logits, scores as they are or centred.
    pub fn trained(&self, prompt: &Prompt, table: &[f64]) -> Vec<f64> {
        let shift = match self.table {
            Table::Logits => log_sum_exp(table),
            Table::Scores => return table.to_vec(),
            Table::CentredScores => dot(&prompt.centre(), table),
        };
        table.iter().map(|t| t - shift).collect()
    }

    /// The gradient with respect to the table, from that with respect to [`trained`](Self::trained).
    pub(crate) fn through(&self, prompt: &Prompt, trained: &[f64], gradient: &mut [f64]) {
        let law = match self.table {
            Table::Logits => trained.iter().map(|l| l.exp()).collect(),
            Table::Scores => return,
            Table::CentredScores => prompt.centre(),
        };
        let sum: f64 = gradient.iter().sum();
        (gradient.iter_mut().zip(&law)).for_each(|(g, p)| *g -= sum * p);
    }
}

/// The policy that a table stands for: its softmax, or for scores the policy optimal for them,
/// `∝ π_ref e^{score/β}`.
pub fn policy_of(problem: &Problem, feed: &Feed, table: &[Vec<f64>]) -> Policy {
    if !feed.scores() {
        return Policy::softmax(table);
    }
    let logits: Vec<Vec<f64>> = (problem.prompts().iter().zip(table))
        .map(|(prompt, scores)| {
            let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            (scores.iter().zip(&prompt.log_reference))
                .map(|(s, l)| l + (s - top) / problem.beta())
                .collect()
        })
        .collect();
    Policy::softmax(&logits)
}
