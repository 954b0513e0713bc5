//! A loss on the exact population of a problem, or on a log.

use super::engine::{reverse, swapped};
use super::groups;
use super::subject::Subject;
use crate::bandit::population::{Feed, evaluate_with, policy_of};

use crate::bandit::{Evidence, PairLaw, Policy, Problem, Prompt};
use crate::error::{Error, Result};
use crate::loss::{Batch, Bound, Cotangents, InputKind, Value};
use crate::random::{Purpose, Stream};
use crate::solve::flow::Frame;

/// A problem with what some losses need besides: a margin, a ranking of all arms by their reward,
/// and as given value the reference's mean reward.
pub(crate) fn furnished(problem: &Problem, value: Option<Value>) -> Result<Problem> {
    let problem = match problem.margin() {
        Some(_) => problem.clone(),
        None => problem.with_margin(2.5)?,
    };
    Ok(problem.map_prompts(|_, prompt| {
        let order = || by_reward(prompt).into_iter().map(|a| a as u32);
        let list = prompt.ranking.clone().unwrap_or_else(|| order().collect());
        prompt.ranking = (list.len() > 1).then_some(list);
        // With a given value DRO's own V would not be sought.
        if value == Some(Value::Given) {
            let reference = prompt.log_reference.iter().map(|l| l.exp());
            let mean = reference.zip(&prompt.reward).map(|(p, r)| p * r).sum();
            prompt.value = Some(mean);
        }
    }))
}

/// Both laws of every prompt.
pub(crate) fn with_laws(problem: &Problem, laws: impl Fn(usize) -> [Vec<f64>; 2]) -> Problem {
    problem.map_prompts(|x, prompt| {
        let [first, second] = laws(x);
        prompt.law = PairLaw::Product { first, second };
    })
}

/// A loss on the population of a problem.
pub(crate) struct Population<'a> {
    pub subject: &'a Subject,
    pub problem: Problem,
    pub feed: Feed,
    loss: Bound,
    /// What the examples are; nothing where they come from the policy itself.
    evidence: Option<Evidence>,
    /// Responses of a group.
    group: usize,
}

/// A population loss and its gradient with respect to the table.
#[derive(Debug, Clone)]
pub(crate) struct Potential {
    pub value: f64,
    pub gradient: Vec<f64>,
}

impl<'a> Population<'a> {
    pub fn new(subject: &'a Subject, problem: &Problem) -> Result<Self> {
        Self::of(subject, &furnished(problem, subject.loss.spec().value)?)
    }

    /// The population of a problem that has all that the loss needs.
    pub fn of(subject: &'a Subject, problem: &Problem) -> Result<Self> {
        let problem = problem.clone();
        let loss = subject.loss.at(&problem.given())?;
        let feed = Feed::of(&loss)?;
        Ok(Self {
            loss,
            subject,
            evidence: Some(Evidence::population(&problem)),
            problem,
            feed,
            group: subject.size,
        })
    }

    /// The same with responses from the policy itself.
    pub fn on_policy(mut self) -> Self {
        self.evidence = None;
        self
    }

    /// The same on other evidence.
    pub fn on(mut self, evidence: Evidence) -> Self {
        self.evidence = Some(evidence);
        self
    }

    /// The same with groups of `k`.
    pub fn of_groups(mut self, k: usize) -> Self {
        self.group = k;
        self
    }

    /// True if responses are sampled from the policy itself (on policy).
    pub fn samples_itself(&self) -> bool {
        self.evidence.is_none()
    }

    /// The evidence when responses come from the policy of a table.
    fn own(&self, table: &[Vec<f64>]) -> Evidence {
        let policy = policy_of(&self.problem, &self.feed, table).probabilities();
        let law = |x: usize| [policy[x].clone(), policy[x].clone()];
        Evidence::population(&with_laws(&self.problem, law))
    }

    /// The population of the same loss where responses come from a table's policy and stay so.
    pub fn frozen(&self, table: &[Vec<f64>]) -> Self {
        Self {
            subject: self.subject,
            loss: self.loss.clone(),
            problem: self.problem.clone(),
            feed: self.feed.clone(),
            evidence: Some(self.own(table)),
            group: self.group,
        }
    }

    /// The loss and its gradient; an error where they overflow.
    pub fn evaluate(&self, table: &[Vec<f64>]) -> Result<Potential> {
        let own;
        let evidence = match &self.evidence {
            Some(evidence) => evidence,
            None => {
                own = self.own(table);
                &own
            }
        };
        if self.feed.inputs.is_groups() {
            return self.grouped(evidence, table);
        }
        let run = |batch: &Batch| self.run(batch);
        let at = evaluate_with(&self.problem, evidence, &self.feed, table, run)?;
        Ok(Potential {
            value: at.value,
            gradient: at.gradient.concat(),
        })
    }

    /// The loss of a batch; of pairs whose order matters, in both orders, half each.
    fn run(&self, batch: &Batch) -> Result<Cotangents> {
        let run = reverse(&self.loss, batch)?;
        let mut total = Cotangents {
            value: run.value(batch),
            gradient: run.gradient,
        };
        if self.subject.both_orders {
            let other = swapped(batch);
            let run = reverse(&self.loss, &other)?;
            total.value = 0.5 * (total.value + run.value(&other));
            let mut turned = run.gradient;
            turned.swap(0, 1);
            let pairs = (total.gradient.iter_mut().flatten()).zip(turned.iter().flatten());
            pairs.for_each(|(a, b)| *a = 0.5 * (*a + b));
        }
        Ok(total)
    }

    fn grouped(&self, evidence: &Evidence, table: &[Vec<f64>]) -> Result<Potential> {
        let mut total = Potential {
            value: 0.0,
            gradient: Vec::new(),
        };
        // Groups are independent responses: their law is all that counts.
        let view = evidence.of(InputKind::Singles)?;
        let prompts = self.problem.prompts().iter().zip(&view.prompts);
        for ((prompt, share), row) in prompts.zip(table) {
            let trained = self.feed.trained(prompt, row);
            let mut gradient = vec![0.0; prompt.arms()];
            groups::examples(prompt, share, &trained, self.group, |batch, arms| {
                let run = self.run(batch)?;
                total.value += run.value;
                for (&a, g) in arms.iter().zip(&run.gradient[0]) {
                    gradient[a] += g;
                }
                Ok(())
            })?;
            self.feed.through(prompt, &trained, &mut gradient);
            total.gradient.extend(gradient);
        }
        if total.value.is_finite() && total.gradient.iter().all(|g| g.is_finite()) {
            return Ok(total);
        }
        Err(Error::invalid(
            "logits",
            "the loss or its gradient overflows there",
            "give logits nearer to each other",
        ))
    }

    /// Start of training: the reference, or scores of 0.
    pub fn start(&self) -> Vec<Vec<f64>> {
        if self.feed.scores() {
            let zeros = |p: &Prompt| vec![0.0; p.arms()];
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

    /// Arms of each prompt.
    pub fn sizes(&self) -> Vec<usize> {
        self.problem.prompts().iter().map(Prompt::arms).collect()
    }

    /// Invariance of the table's numbers: logits, of which a constant changes nothing, or scores.
    pub fn frame(&self) -> Frame {
        if self.feed.scores() {
            Frame::Plain
        } else {
            Frame::Logits(self.sizes())
        }
    }

    /// The rows of a table.
    pub fn table(&self, flat: &[f64]) -> Vec<Vec<f64>> {
        let mut rest = flat;
        let cut = |size: usize| {
            let (head, tail) = rest.split_at(size);
            rest = tail;
            head.to_vec()
        };
        self.sizes().into_iter().map(cut).collect()
    }

    /// The policy of a table.
    pub fn policy(&self, flat: &[f64]) -> Policy {
        policy_of(&self.problem, &self.feed, &self.table(flat))
    }
}

/// The largest difference of two policies' probabilities.
pub(crate) fn apart(a: &Policy, b: &Policy) -> f64 {
    let (a, b) = (a.probabilities(), b.probabilities());
    (a.iter().flatten().zip(b.iter().flatten()))
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |m, d| if d <= m { m } else { d })
}

/// Arms from the least to the most rewarded.
pub(crate) fn by_reward(prompt: &Prompt) -> Vec<usize> {
    let mut order: Vec<usize> = (0..prompt.arms()).collect();
    order.sort_by(|&a, &b| prompt.reward[a].total_cmp(&prompt.reward[b]));
    order
}
