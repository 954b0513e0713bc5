//! Policies that sampled training can train: a table (one number per prompt and arm), or any other model that gives a
//! number of every arm.

use std::ops::Range;
use std::rc::Rc;

use super::optimizer::{Optimizer, State};
use crate::bandit::Problem;
use crate::error::Result;

/// The policies of a block of seeds, all trained alike.
///
/// Arrays run over (seed, arm), seeds outermost, the arms of all prompts end to end.
pub trait Trained {
    /// One step: `gradient` gets the trained number of every (seed, arm), ln π or a score, and
    /// adds the loss's derivative with respect to it to an array of zeros.
    ///
    /// # Errors
    /// Those of `gradient` and of the model.
    fn step(&mut self, gradient: &mut Gradient) -> Result<()>;

    /// The exact table that the policies stand for now: logits (ln π will do) or scores.
    ///
    /// # Errors
    /// Those of the model.
    fn table(&self) -> Result<Vec<f64>>;

    /// Tells which rows, a prompt of a seed each, the steps to come look at: the numbers of other arms may be out of
    /// date, and get no gradient.
    fn focus(&mut self, rows: &[usize]) {
        let _ = rows;
    }

    /// Its parameters, of a policy that has one plain vector of them.
    fn parameters(&mut self) -> Option<&mut dyn Parameters> {
        None
    }
}

/// A policy's parameters in one vector, for methods that act on them or on their gradient.
pub trait Parameters {
    /// The parameters.
    fn vector(&self) -> &Vec<f64>;

    /// The derivative with respect to the parameters of a loss of the trained numbers, whose own `gradient` gives, as in
    /// [`Trained::step`]. Nothing moves.
    ///
    /// # Errors
    /// Those of `gradient`.
    fn slope(&mut self, gradient: &mut Gradient) -> Result<Vec<f64>>;

    /// One step against a slope. [`Trained::step`] is that against the loss's own.
    ///
    /// # Errors
    /// Parameters that have run away.
    fn descend(&mut self, slope: &[f64]) -> Result<()>;
}

/// A loss's gradient with respect to the trained numbers.
pub type Gradient<'a> = dyn FnMut(&[f64], &mut [f64]) -> Result<()> + 'a;

/// The tabular policies: one number per (seed, arm).
pub(super) struct Table {
    /// Every (seed, prompt)'s range of entries; none for a table of scores.
    rows: Rc<[Range<usize>]>,
    theta: Vec<f64>,
    /// For a table of scores, the table.
    log_policy: Vec<f64>,
    policy: Vec<f64>,
    gradient: Vec<f64>,
    state: State,
}

impl Table {
    /// Begins at `theta`; `rows` are empty for scores.
    pub(super) fn new(theta: Vec<f64>, rows: Rc<[Range<usize>]>, optimizer: Optimizer) -> Self {
        let mut table = Self {
            rows,
            log_policy: theta.clone(),
            policy: vec![0.0; theta.len()],
            gradient: vec![0.0; theta.len()],
            state: State::new(optimizer, theta.len()),
            theta,
        };
        table.refresh();
        table
    }

    /// `∂/∂θ = g − π Σ g` per prompt.
    fn through_softmax(&mut self) {
        for row in self.rows.iter() {
            let sum: f64 = self.gradient[row.clone()].iter().sum();
            for (g, p) in self.gradient[row.clone()]
                .iter_mut()
                .zip(&self.policy[row.clone()])
            {
                *g -= p * sum;
            }
        }
    }

    /// log π and π from θ.
    fn refresh(&mut self) {
        if self.rows.is_empty() {
            self.log_policy.copy_from_slice(&self.theta);
            return;
        }
        for row in self.rows.iter() {
            let theta = &self.theta[row.clone()];
            let top = theta.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let policy = &mut self.policy[row.clone()];
            let mut sum = 0.0;
            for (p, t) in policy.iter_mut().zip(theta) {
                *p = (t - top).exp();
                sum += *p;
            }
            policy.iter_mut().for_each(|p| *p /= sum);
            let shift = top + sum.ln();
            for (l, t) in self.log_policy[row.clone()].iter_mut().zip(theta) {
                *l = t - shift;
            }
        }
    }
}

/// The tables of a block of seeds, which start at a problem's reference: one logit of every (seed, arm).
///
/// # Errors
/// Constants of the optimiser that are out of range.
pub fn tables(problem: &Problem, seeds: usize, optimizer: Optimizer) -> Result<Box<dyn Trained>> {
    optimizer.check()?;
    let reference = problem.reference();
    let log = reference
        .log()
        .iter()
        .cycle()
        .take(seeds * reference.log().len());
    let rows = (log.clone())
        .scan(0, |end, row| {
            let start = *end;
            *end += row.len();
            Some(start..*end)
        })
        .collect();
    let theta = log.flatten().copied().collect();
    Ok(Box::new(Table::new(theta, rows, optimizer)))
}

impl Trained for Table {
    fn step(&mut self, gradient: &mut Gradient) -> Result<()> {
        self.gradient.fill(0.0);
        gradient(&self.log_policy, &mut self.gradient)?;
        self.through_softmax();
        self.state.step(&mut self.theta, &self.gradient);
        self.refresh();
        Ok(())
    }

    fn table(&self) -> Result<Vec<f64>> {
        Ok(self.theta.clone())
    }
}
