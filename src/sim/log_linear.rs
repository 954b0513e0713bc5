//! Policies with one vector of parameters, which prompts may share: tables, and log-linear policies.

use std::ops::Range;

use super::trained::{Gradient, Parameters, Trained};
use crate::bandit::Policy;
use crate::error::{Error, Result};
use crate::solve::log_softmax;

/// Parameters beyond this have left every policy worth the name.
const LARGEST: f64 = 1e100;

/// How logits depend on parameters w: `ln π₀ + Φw`, the arms of all prompts end to end.
#[derive(Debug, Clone)]
pub(crate) struct Logits {
    rows: Vec<Range<usize>>,
    start: Vec<f64>,
    features: Option<Features>,
}

/// One vector of features per arm, end to end.
#[derive(Debug, Clone)]
struct Features {
    of: Vec<f64>,
    width: usize,
}

impl Features {
    /// The vectors of some arms.
    fn rows(&self, arms: &Range<usize>) -> std::slice::ChunksExact<'_, f64> {
        self.of[arms.start * self.width..arms.end * self.width].chunks_exact(self.width)
    }
}

impl Logits {
    /// One parameter per arm; `start` is ln π₀, one row per prompt.
    pub fn table(start: &[Vec<f64>]) -> Self {
        let rows = start.iter().scan(0, |end, row| {
            let begin = *end;
            *end += row.len();
            Some(begin..*end)
        });
        Self {
            rows: rows.collect(),
            start: start.concat(),
            features: None,
        }
    }

    /// One vector of features per arm of every prompt, all of one length that is not 0.
    pub fn linear(start: &[Vec<f64>], features: &[Vec<Vec<f64>>]) -> Self {
        let width = features.iter().flatten().next().map_or(1, Vec::len);
        let of = features.iter().flatten().flatten().copied().collect();
        Self {
            features: Some(Features { of, width }),
            ..Self::table(start)
        }
    }

    /// Number of parameters; at 0 the policy is π₀.
    pub fn parameters(&self) -> usize {
        (self.features.as_ref()).map_or(self.start.len(), |features| features.width)
    }

    /// Arms of all prompts.
    pub fn arms(&self) -> usize {
        self.start.len()
    }

    /// The range of each prompt's arms.
    pub fn rows(&self) -> &[Range<usize>] {
        &self.rows
    }

    /// ln π of a prompt's arms.
    pub fn log_policy(&self, w: &[f64], prompt: usize) -> Vec<f64> {
        let arms = &self.rows[prompt];
        let start = &self.start[arms.clone()];
        let logits: Vec<f64> = match &self.features {
            None => start
                .iter()
                .zip(&w[arms.clone()])
                .map(|(l, w)| l + w)
                .collect(),
            Some(features) => (start.iter().zip(features.rows(arms)))
                .map(|(l, row)| l + row.iter().zip(w).map(|(f, w)| f * w).sum::<f64>())
                .collect(),
        };
        log_softmax(&logits)
    }

    /// The policy of a table of logits for the same arms, end to end.
    pub fn policy_of(&self, table: &[f64]) -> Result<Policy> {
        if table.len() != self.arms() {
            return Err(Error::invalid(
                "the policy",
                format!("it has numbers of {} arms, of {}", table.len(), self.arms()),
                "train one on these prompts and arms",
            ));
        }
        let rows = self.rows.iter();
        Ok(Policy::from_log(
            rows.map(|arms| log_softmax(&table[arms.clone()])).collect(),
        ))
    }

    /// Adds `Φᵀ gradient`, from the gradient in a prompt's logits, to that in w.
    fn pull_back(&self, prompt: usize, gradient: &[f64], into: &mut [f64]) {
        let arms = &self.rows[prompt];
        match &self.features {
            None => (into[arms.clone()].iter_mut().zip(gradient)).for_each(|(w, v)| *w += v),
            Some(features) => {
                for (row, v) in features.rows(arms).zip(gradient) {
                    (into.iter_mut().zip(row)).for_each(|(w, f)| *w += v * f);
                }
            }
        }
    }
}

/// A policy of such logits that starts at π₀ and takes plain gradient steps.
pub(crate) struct LogLinear<'a> {
    logits: &'a Logits,
    w: Vec<f64>,
    /// The step size, by the name that its user knows.
    rate: (&'static str, f64),
    /// Prompts that steps look at.
    focus: Vec<usize>,
    /// ln π of every arm; of prompts that steps do not look at, of an earlier policy.
    log_policy: Vec<f64>,
    gradient: Vec<f64>,
    slope: Vec<f64>,
}

impl<'a> LogLinear<'a> {
    pub fn new(logits: &'a Logits, rate: (&'static str, f64)) -> Self {
        Self {
            logits,
            w: vec![0.0; logits.parameters()],
            rate,
            focus: (0..logits.rows.len()).collect(),
            log_policy: vec![0.0; logits.arms()],
            gradient: vec![0.0; logits.arms()],
            slope: vec![0.0; logits.parameters()],
        }
    }
}

impl LogLinear<'_> {
    /// The derivative in w of the loss whose derivative in the arms' numbers `gradient` gives, in `self.slope`.
    fn differentiate(&mut self, gradient: &mut Gradient) -> Result<()> {
        for &prompt in &self.focus {
            let arms = self.logits.rows[prompt].clone();
            let log_policy = self.logits.log_policy(&self.w, prompt);
            self.log_policy[arms].copy_from_slice(&log_policy);
        }
        self.gradient.fill(0.0);
        gradient(&self.log_policy, &mut self.gradient)?;
        self.slope.fill(0.0);
        for &prompt in &self.focus {
            let arms = self.logits.rows[prompt].clone();
            let (log_policy, row) = (
                &self.log_policy[arms.clone()],
                &mut self.gradient[arms.clone()],
            );
            if row.iter().all(|g| *g == 0.0) {
                continue;
            }
            // ∂/∂logits = g − π Σ g
            let sum: f64 = row.iter().sum();
            (row.iter_mut().zip(log_policy)).for_each(|(g, l)| *g -= l.exp() * sum);
            self.logits.pull_back(prompt, row, &mut self.slope);
        }
        Ok(())
    }
}

/// `w ← w − rate · slope`, refused where w runs away.
fn descend(w: &mut [f64], slope: &[f64], (name, rate): (&'static str, f64)) -> Result<()> {
    w.iter_mut().zip(slope).for_each(|(w, g)| *w -= rate * g);
    if w.iter().all(|w| w.abs() < LARGEST) {
        return Ok(());
    }
    Err(Error::invalid(
        name,
        format!("the parameters overflow at a step size of {rate}"),
        "give a smaller one, or a weaker penalty",
    ))
}

impl Trained for LogLinear<'_> {
    fn step(&mut self, gradient: &mut Gradient) -> Result<()> {
        self.differentiate(gradient)?;
        descend(&mut self.w, &self.slope, self.rate)
    }

    fn table(&self) -> Result<Vec<f64>> {
        let rows = 0..self.logits.rows.len();
        Ok(rows
            .flat_map(|prompt| self.logits.log_policy(&self.w, prompt))
            .collect())
    }

    fn focus(&mut self, rows: &[usize]) {
        self.focus = rows.to_vec();
    }

    fn parameters(&mut self) -> Option<&mut dyn Parameters> {
        Some(self)
    }
}

impl Parameters for LogLinear<'_> {
    fn vector(&self) -> &Vec<f64> {
        &self.w
    }

    fn slope(&mut self, gradient: &mut Gradient) -> Result<Vec<f64>> {
        self.differentiate(gradient)?;
        Ok(self.slope.clone())
    }

    fn descend(&mut self, slope: &[f64]) -> Result<()> {
        descend(&mut self.w, slope, self.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A step of rate 1 moves w against the derivative of what `gradient` is the gradient of.
    #[test]
    fn a_step_is_the_derivative() {
        let start = [vec![-0.7, -0.3, -2.0], vec![-1.0, -0.5]].map(|row| log_softmax(&row));
        let feature = |i: usize| vec![(i as f64).sin(), (2.0 * i as f64).cos()];
        let features = [
            (0..3).map(feature).collect::<Vec<_>>(),
            (3..5).map(feature).collect(),
        ];
        let weight: Vec<f64> = (0..5).map(|i| (7.0 * f64::from(i)).cos()).collect();
        for logits in [Logits::table(&start), Logits::linear(&start, &features)] {
            let mut policy = LogLinear::new(&logits, ("rate", 1.0));
            let at: Vec<f64> = (0..logits.parameters())
                .map(|i| (i as f64).cos() * 0.3)
                .collect();
            policy.w.copy_from_slice(&at);
            let slopes = (policy.slope(&mut |_, gradient| {
                gradient.copy_from_slice(&weight);
                Ok(())
            }))
            .unwrap();
            assert_eq!(policy.w, at, "nothing moves");
            (policy.step(&mut |_, gradient| {
                gradient.copy_from_slice(&weight);
                Ok(())
            }))
            .unwrap();
            let value = |w: &[f64]| -> f64 {
                let log = (0..2).flat_map(|prompt| logits.log_policy(w, prompt));
                log.zip(&weight).map(|(l, g)| l * g).sum()
            };
            for i in 0..at.len() {
                let moved = |h: f64| {
                    let mut w = at.clone();
                    w[i] += h;
                    value(&w)
                };
                let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                assert!((at[i] - policy.w[i] - slope).abs() < 1e-9, "{i}: {slope}");
                assert_eq!(at[i] - slopes[i], policy.w[i]);
            }
        }
    }
}
