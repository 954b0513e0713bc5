//! Softmax policies, held as log-probabilities.

/// `ln Σ eˣ` without overflow; −∞ for an empty sum.
pub fn log_sum_exp(values: &[f64]) -> f64 {
    let top = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if top == f64::NEG_INFINITY {
        return top;
    }
    top + values.iter().map(|v| (v - top).exp()).sum::<f64>().ln()
}

/// Logits less their normaliser, ln π. The largest is subtracted first: next to logits of 1e17 the
/// normaliser of what is left would be lost, and two arms could have all probability each.
pub fn log_softmax(logits: &[f64]) -> Vec<f64> {
    let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let less: Vec<f64> = logits.iter().map(|l| l - top).collect();
    let normaliser = log_sum_exp(&less);
    less.into_iter().map(|l| l - normaliser).collect()
}

/// A policy over the kept arms of each prompt: `ln π(·|x)`, −∞ where π is 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    log: Vec<Vec<f64>>,
}

impl Policy {
    /// The softmax of tabular logits.
    pub fn softmax(logits: &[Vec<f64>]) -> Self {
        Self {
            log: logits.iter().map(|row| log_softmax(row)).collect(),
        }
    }

    /// A policy from log-probabilities that are already normalised.
    pub fn from_log(log: Vec<Vec<f64>>) -> Self {
        Self { log }
    }

    /// `ln π`, one row per prompt.
    pub fn log(&self) -> &[Vec<f64>] {
        &self.log
    }

    /// π, one row per prompt.
    pub fn probabilities(&self) -> Vec<Vec<f64>> {
        (self.log.iter())
            .map(|row| row.iter().map(|l| l.exp()).collect())
            .collect()
    }
}
