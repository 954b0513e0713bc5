//! Softmax policies, held as log-probabilities.

/// `ln Σ eˣ` without overflow; −∞ for an empty sum.
pub fn log_sum_exp(values: &[f64]) -> f64 {
    let top = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if top == f64::NEG_INFINITY {
        return top;
    }
    top + values.iter().map(|v| (v - top).exp()).sum::<f64>().ln()
}

/// A policy over the kept arms of each prompt: `ln π(·|x)`, −∞ where π is 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    log: Vec<Vec<f64>>,
}

impl Policy {
    /// The softmax of tabular logits.
    pub fn softmax(logits: &[Vec<f64>]) -> Self {
        let row = |logits: &Vec<f64>| {
            let normaliser = log_sum_exp(logits);
            logits.iter().map(|l| l - normaliser).collect()
        };
        Self {
            log: logits.iter().map(row).collect(),
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
