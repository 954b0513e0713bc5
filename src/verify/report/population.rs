//! A loss on exact populations, and where it comes to rest there.

use std::cell::Cell;

use super::engine::{reverse, swapped};
use super::{Loss, Subject};
use crate::bandit::population::{Cotangents, Evaluation, Feed, evaluate_with, policy_of};
use crate::bandit::{Evidence, PairLaw, Policy, Problem};
use crate::error::Result;
use crate::loss::{Kind, Value};
use crate::random::{Purpose, Stream};
use crate::solve::minimise;
use crate::verify::flow;

/// CoPG's bandit: R = (2.5, 2, 1), β = 0.5, a uniform reference, two off-policy laws.
pub(super) fn toy() -> Result<Problem> {
    Problem::from_json(
        r#"{"beta": 0.5, "prompts": [{"reward": [2.5, 2.0, 1.0],
            "behavior": [[0.1, 0.2, 0.7], [0.05, 0.05, 0.9]]}]}"#,
    )
}

/// A problem with what some losses need besides: a margin, a ranking of all arms by their reward,
/// and as given value the reference's mean reward.
pub(super) fn furnished(problem: &Problem, feed: &Feed) -> Result<Problem> {
    let problem = match problem.margin() {
        Some(_) => problem.clone(),
        None => problem.with_margin(2.5)?,
    };
    Ok(problem.map_prompts(|_, prompt| {
        let mut order: Vec<u32> = (0..prompt.arms() as u32).collect();
        let reward = |a: &u32| prompt.reward[*a as usize];
        order.sort_by(|a, b| reward(a).total_cmp(&reward(b)));
        let list = prompt.ranking.take().unwrap_or(order);
        prompt.ranking = (list.len() > 1).then_some(list);
        // With a given value DRO's own V would not be sought.
        if feed.value == Some(Value::Given) {
            let reference = prompt.log_reference.iter().map(|l| l.exp());
            let mean = reference.zip(&prompt.reward).map(|(p, r)| p * r).sum();
            prompt.value = Some(mean);
        }
    }))
}

/// Both laws of every prompt.
pub(super) fn with_laws(problem: &Problem, laws: impl Fn(usize) -> [Vec<f64>; 2]) -> Problem {
    problem.map_prompts(|x, prompt| {
        let [first, second] = laws(x);
        prompt.law = PairLaw::Product { first, second };
    })
}

/// A loss on the population of a problem.
pub(super) struct Population<'a, L> {
    subject: &'a Subject<'a, L>,
    pub problem: Problem,
    feed: Feed,
    /// Whether responses come from the policy itself, whatever the laws of the problem.
    on_policy: bool,
}

/// Where a loss came to rest.
#[derive(Debug, Clone)]
pub(super) struct Limit {
    pub policy: Policy,
    pub table: Vec<Vec<f64>>,
    /// Whether it came to rest there.
    pub still: bool,
}

impl<'a, L: Loss> Population<'a, L> {
    pub fn new(subject: &'a Subject<'a, L>, problem: &Problem) -> Result<Self> {
        let feed = subject.loss.feed();
        Ok(Self {
            subject,
            problem: furnished(problem, &feed)?,
            feed,
            on_policy: false,
        })
    }

    /// The same with responses from the policy itself.
    pub fn on_policy(mut self) -> Self {
        self.on_policy = true;
        self
    }

    /// The loss and its gradient; an error where they overflow.
    pub fn evaluate(&self, table: &[Vec<f64>]) -> Result<Evaluation> {
        let own;
        let problem = if self.on_policy {
            let policy = policy_of(&self.problem, &self.feed, table).probabilities();
            own = with_laws(&self.problem, |x| [policy[x].clone(), policy[x].clone()]);
            &own
        } else {
            &self.problem
        };
        let evidence = Evidence::population(problem);
        let parameters = problem.parameters();
        evaluate_with(problem, &evidence, &self.feed, table, |batch| {
            let run = reverse(self.subject.loss, batch, parameters)?;
            let mut total = Cotangents {
                value: run.value(batch),
                gradient: run.gradient,
            };
            if self.subject.both_orders {
                let other = swapped(batch);
                let run = reverse(self.subject.loss, &other, parameters)?;
                total.value = 0.5 * (total.value + run.value(&other));
                let mut turned = run.gradient;
                turned.swap(0, 1);
                for (a, b) in total
                    .gradient
                    .iter_mut()
                    .flatten()
                    .zip(turned.iter().flatten())
                {
                    *a = 0.5 * (*a + b);
                }
            }
            Ok(total)
        })
    }

    /// Where training starts: the reference, or scores of 0.
    pub fn start(&self) -> Vec<Vec<f64>> {
        if self.feed.scores() {
            let zeros = |p: &crate::bandit::Prompt| vec![0.0; p.arms()];
            return self.problem.prompts().iter().map(zeros).collect();
        }
        self.problem.reference().log().to_vec()
    }

    /// Another start, each number moved by up to ±1.5.
    pub fn elsewhere(&self, key: u64) -> Vec<Vec<f64>> {
        let mut stream = Stream::new(key, Purpose::Start, 51);
        let mut start = self.start();
        (start.iter_mut().flatten()).for_each(|t| *t += 3.0 * stream.uniform() - 1.5);
        start
    }

    /// Where it comes to rest from a start: the minimiser of a loss, the end of a field's flow.
    /// None where the loss is not finite at the start.
    pub fn limit(&self, start: &[Vec<f64>]) -> Result<Option<Limit>> {
        if self.evaluate(start).is_err() {
            return Ok(None);
        }
        let sizes: Vec<usize> = start.iter().map(Vec::len).collect();
        let field = |flat: &[f64]| -> Option<Vec<f64>> {
            let at = self.evaluate(&table(&sizes, flat)).ok()?;
            Some(at.gradient.concat().iter().map(|g| -g).collect())
        };
        let (point, still) = match self.subject.kind {
            Kind::Kinked if self.on_policy => return Ok(None),
            Kind::Kinked => (self.simplex(start)?, true),
            Kind::Smooth if !self.on_policy => {
                // A line search that finds no end, on a function that is none, is given one.
                let budget = Cell::new(20_000u32);
                let loss = |flat: &[f64]| match self.evaluate(&table(&sizes, flat)) {
                    Ok(at) if budget.replace(budget.get().saturating_sub(1)) > 0 => {
                        (at.value, at.gradient.concat())
                    }
                    _ => (f64::MAX, vec![0.0; flat.len()]),
                };
                let found = minimise::smooth(loss, &start.concat())?;
                // The last digits.
                let rest = flow::rest(&field, &found.point, 60);
                (rest.point, rest.still)
            }
            _ => {
                let rest = flow::rest(&field, &start.concat(), 4_000);
                (rest.point, rest.still)
            }
        };
        let table = table(&sizes, &point);
        Ok(Some(Limit {
            policy: policy_of(&self.problem, &self.feed, &table),
            table,
            still,
        }))
    }

    /// The simplex search, the first number of each prompt held.
    fn simplex(&self, start: &[Vec<f64>]) -> Result<Vec<f64>> {
        let whole = |free: &[f64]| -> Vec<Vec<f64>> {
            let mut rest = free.iter();
            let mut row = |row: &Vec<f64>| {
                let moved = (&mut rest).take(row.len() - 1).copied();
                std::iter::once(row[0])
                    .chain(moved.collect::<Vec<_>>())
                    .collect()
            };
            start.iter().map(&mut row).collect()
        };
        let free: Vec<f64> = start.iter().flat_map(|row| row[1..].to_vec()).collect();
        if free.is_empty() {
            return Ok(start.concat());
        }
        let loss = |free: &[f64]| self.evaluate(&whole(free)).map_or(f64::MAX, |at| at.value);
        let found = minimise::kinked(loss, &free, 1.0)?;
        Ok(whole(&found.point).concat())
    }
}

fn table(sizes: &[usize], flat: &[f64]) -> Vec<Vec<f64>> {
    let mut rest = flat;
    let cut = |&size: &usize| {
        let (head, tail) = rest.split_at(size);
        rest = tail;
        head.to_vec()
    };
    sizes.iter().map(cut).collect()
}

/// The largest difference of two policies' probabilities.
pub(super) fn apart(a: &Policy, b: &Policy) -> f64 {
    let (a, b) = (a.probabilities(), b.probabilities());
    (a.iter().flatten().zip(b.iter().flatten()))
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |m, d| if d <= m { m } else { d })
}
