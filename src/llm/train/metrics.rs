//! Metrics of a step, under the names that TRL uses.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::llm::text::objective::TextObjective;
use crate::loss::{Batch, InputKind};

/// How the values of several steps make one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Fold {
    Mean { sum: f64, count: f64 },
    Least(f64),
    Most(f64),
    Last(f64),
}

/// Metrics of the steps since the last row.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Meter(BTreeMap<String, Fold>);

impl Meter {
    /// Counts one value among those whose mean is told.
    pub fn mean(&mut self, name: &str, value: f64) {
        self.counted(name, value, 1.0);
    }

    /// The same for a value that counts as so many.
    pub(super) fn counted(&mut self, name: &str, value: f64, count: f64) {
        let sum = value * count;
        self.add(name, Fold::Mean { sum, count });
    }

    /// The value that is told unless another follows.
    pub fn last(&mut self, name: &str, value: f64) {
        self.add(name, Fold::Last(value));
    }

    fn add(&mut self, name: &str, new: Fold) {
        let Some(old) = self.0.get_mut(name) else {
            self.0.insert(name.into(), new);
            return;
        };
        *old = match (*old, new) {
            (Fold::Mean { sum, count }, Fold::Mean { sum: s, count: c }) => Fold::Mean {
                sum: sum + s,
                count: count + c,
            },
            (Fold::Least(a), Fold::Least(b)) => Fold::Least(a.min(b)),
            (Fold::Most(a), Fold::Most(b)) => Fold::Most(a.max(b)),
            (_, new) => new,
        };
    }

    /// The values, after which nothing has been counted.
    pub fn take(&mut self) -> BTreeMap<String, f64> {
        let value = |fold| match fold {
            Fold::Mean { sum, count } => sum / count,
            Fold::Least(value) | Fold::Most(value) | Fold::Last(value) => value,
        };
        (std::mem::take(&mut self.0).into_iter())
            .map(|(name, fold)| (name, value(fold)))
            .collect()
    }

    /// Adds the metrics of a step's responses. `rewards/…` are the implicit ones, `βu`; of a pair the preferred
    /// response, or else the one with the greater reward, is `chosen`; of a ranked list the best one, and the worst
    /// is `rejected`. `rows` is how many examples were read, of which one may make several pairs.
    pub fn measure(&mut self, objective: &TextObjective, batch: &Batch, rows: usize) {
        // A row counts once, however many pairs it makes.
        let share = |i: usize| batch.weight[i] * rows as f64;
        if objective.scores() {
            return self.measure_scores(batch, share);
        }
        let beta = objective.beta();
        let ratio =
            |place: usize, i: usize| batch.log_policy[place][i] - batch.log_reference[place][i];
        let told = |of: [usize; 2]| (beta * ratio(of[0], of[1]), batch.log_policy[of[0]][of[1]]);
        let mut pair = |chosen: [usize; 2], rejected: [usize; 2], count: f64| {
            let ((good, good_logp), (bad, bad_logp)) = (told(chosen), told(rejected));
            self.counted("rewards/chosen", good, count);
            self.counted("rewards/rejected", bad, count);
            self.counted("rewards/margins", good - bad, count);
            self.counted("rewards/accuracies", f64::from(good > bad), count);
            self.counted("logps/chosen", good_logp, count);
            self.counted("logps/rejected", bad_logp, count);
        };
        match objective.kind() {
            InputKind::LabelledPairs => {
                (0..batch.len()).for_each(|i| pair([0, i], [1, i], share(i)))
            }
            InputKind::ScoredPairs => (0..batch.len()).for_each(|i| {
                if batch.reward[0][i] >= batch.reward[1][i] {
                    pair([0, i], [1, i], share(i))
                } else {
                    pair([1, i], [0, i], share(i))
                }
            }),
            InputKind::Lists if objective.reference() => {
                let mut start = 0;
                for &size in batch.sizes.iter() {
                    if size > 1 {
                        pair([0, start + size - 1], [0, start], 1.0);
                    }
                    start += size;
                }
            }
            InputKind::Rated => {
                for (i, &desirable) in batch.desirable.iter().enumerate() {
                    let (reward, logp) = told([0, i]);
                    let of = if desirable > 0.5 {
                        "chosen"
                    } else {
                        "rejected"
                    };
                    self.mean(&format!("rewards/{of}"), reward);
                    self.mean(&format!("logps/{of}"), logp);
                }
                if let Some(&anchor) = batch.baseline.first().filter(|_| objective.anchored()) {
                    self.mean("kl", anchor);
                }
            }
            InputKind::Tokens if objective.takes_advantages() => {
                self.measure_ratios(objective, batch);
            }
            InputKind::Singles | InputKind::Groups | InputKind::Tokens | InputKind::Lists => {
                batch.log_policy[0]
                    .iter()
                    .for_each(|&l| self.mean("logps", l));
            }
        }
        if objective.value() {
            batch.baseline.iter().for_each(|&v| self.mean("value", v));
        }
        if objective.reference() {
            let pairs = !batch.log_policy[1].is_empty();
            for place in 0..2 {
                for i in 0..batch.log_policy[place].len() {
                    let count = if pairs { share(i) } else { 1.0 };
                    self.counted("log_ratio", ratio(place, i), count);
                }
            }
        }
    }

    fn measure_scores(&mut self, batch: &Batch, share: impl Fn(usize) -> f64) {
        let pairs = batch.log_policy[0].iter().zip(&batch.log_policy[1]);
        for (i, (&good, &bad)) in pairs.enumerate() {
            self.counted("accuracy", f64::from(good > bad), share(i));
            self.counted("margin", good - bad, share(i));
            for score in [good, bad] {
                self.counted("mean_reward", score, share(i));
                self.add("min_reward", Fold::Least(score));
                self.add("max_reward", Fold::Most(score));
            }
        }
        for (i, &expected) in batch.baseline.iter().enumerate() {
            self.counted("expected", expected, share(i));
            let both = batch.log_policy[0][i] + batch.log_policy[1][i];
            self.counted("mean_advantage", 0.5 * both - expected, share(i));
        }
        let laws = batch.proposals.log_policy.iter();
        for (policy, proposal) in laws.zip(&batch.proposals.log_proposal) {
            self.mean("proposal_ratio", (policy - proposal).exp());
        }
    }
}

/// A line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricsRow {
    /// Steps done.
    pub step: u64,
    /// Epochs done.
    pub epoch: f64,
    /// Metrics of the steps since the last row.
    #[serde(flatten)]
    pub metrics: BTreeMap<String, f64>,
    /// Tokens of all responses so far.
    pub num_tokens: u64,
    /// Seconds since this process began to train.
    pub seconds: f64,
    /// Tokens per second of training since the last row; none where the row is an evaluation's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_second: Option<f64>,
    /// Seconds that the evaluation took, where the row is one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval_runtime: Option<f64>,
}

/// What a progress bar tells of it.
impl std::fmt::Display for MetricsRow {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let loss = self.metrics.get("loss").copied().unwrap_or(f64::NAN);
        let rate = self.tokens_per_second.unwrap_or(f64::NAN);
        write!(f, "loss {loss:.4}, {rate:.0} tokens/s")
    }
}
