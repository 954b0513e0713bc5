//! Exact expectations as weighted batches: the sample loss, fed every pair with its probability,
//! *is* the population loss.

use std::rc::Rc;

use super::evidence::{Comparisons, Evidence, PromptEvidence, pair_weight};
use super::policy::{Policy, log_sum_exp};
use super::problem::{Problem, Prompt};
use crate::backend::nd::{Tape, Var, sigmoid};
use crate::backend::{Backend, Segments};
use crate::error::{Error, Result};
use crate::loss::{Baseline, InputKind, Inputs, Objective, Response};

/// Examples a batch holds at most; longer lists stream through in pieces of this size.
const CHUNK: usize = 4096;

/// Most arms of a prompt for which all pairs are visited.
pub const PAIR_CAP: usize = 20_000;

/// What an objective is fed and how it is weighted, independent of the loss itself.
#[derive(Debug, Clone)]
pub struct Feed {
    /// Kind of examples.
    pub inputs: InputKind,
    /// Baseline of single responses.
    pub baseline: Option<Baseline>,
    /// Whether the table trained is one of scores, not logits.
    pub scores: bool,
}

impl Feed {
    /// What a registered objective is fed.
    pub fn of(objective: Objective) -> Self {
        Self {
            inputs: objective.spec().inputs,
            baseline: objective.baseline(),
            scores: objective.trains_scores(),
        }
    }
}

/// Plain numbers of a batch: one or two responses per example.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// The trained numbers of the first (or only) and second response of each example.
    pub log_policy: [Vec<f64>; 2],
    /// ln π_ref.
    pub log_reference: [Vec<f64>; 2],
    /// Rewards.
    pub reward: [Vec<f64>; 2],
    /// Baselines, for single responses.
    pub baseline: Vec<f64>,
    /// Probability of each example.
    pub weight: Vec<f64>,
}

impl Batch {
    /// Number of examples.
    pub fn len(&self) -> usize {
        self.weight.len()
    }

    /// Whether it has no example.
    pub fn is_empty(&self) -> bool {
        self.weight.is_empty()
    }

    /// The loss's inputs on any backend, and the leaves whose gradients are wanted: one `[B]` array
    /// per slot, or one interleaved `[2B]` array for groups.
    ///
    /// # Errors
    /// If the backend fails.
    pub fn inputs<X: Backend>(
        &self,
        kind: InputKind,
        mut leaf: impl FnMut(&[f64]) -> Result<X>,
        mut constant: impl FnMut(&[f64]) -> Result<X>,
    ) -> Result<(Inputs<X>, Vec<X>)> {
        let mut response = |p: &[f64], l: &[f64], r: &[f64]| -> Result<Response<X>> {
            Ok(Response {
                log_policy: leaf(p)?,
                log_reference: constant(l)?,
                reward: constant(r)?,
            })
        };
        let ([p0, p1], [l0, l1], [r0, r1]) = (&self.log_policy, &self.log_reference, &self.reward);
        match kind {
            InputKind::ScoredPairs | InputKind::LabelledPairs => {
                let first = response(p0, l0, r0)?;
                let second = response(p1, l1, r1)?;
                let leaves = vec![first.log_policy.clone(), second.log_policy.clone()];
                Ok((Inputs::Pair { first, second }, leaves))
            }
            InputKind::Singles => {
                let response = response(p0, l0, r0)?;
                let leaves = vec![response.log_policy.clone()];
                let baseline = constant(&self.baseline)?;
                Ok((Inputs::Single { response, baseline }, leaves))
            }
            InputKind::Groups => {
                let weave = |a: &[f64], b: &[f64]| -> Vec<f64> {
                    a.iter().zip(b).flat_map(|(&a, &b)| [a, b]).collect()
                };
                let responses = response(&weave(p0, p1), &weave(l0, l1), &weave(r0, r1))?;
                let leaves = vec![responses.log_policy.clone()];
                let groups = Rc::new(Segments::new(&vec![2; self.len()])?);
                Ok((Inputs::Group { responses, groups }, leaves))
            }
        }
    }
}

/// A weighted loss of a batch and its gradient with respect to each response's trained number.
#[derive(Debug, Clone)]
pub struct Cotangents {
    /// Weighted sum of the per-example losses.
    pub value: f64,
    /// Gradients, in the order of the leaves of [`Batch::inputs`].
    pub gradient: Vec<Vec<f64>>,
}

/// A population loss.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// Its value; means nothing for a field.
    pub value: f64,
    /// Its gradient with respect to the logits (for a reward model: the scores), that is, the
    /// negated expected update.
    pub gradient: Vec<Vec<f64>>,
}

/// Runs a loss written on [`nd`](crate::backend::nd) over a batch.
///
/// # Errors
/// Those of the loss.
pub fn on_tape(
    kind: InputKind,
    batch: &Batch,
    loss: impl Fn(&Inputs<Var>) -> Result<Var>,
) -> Result<Cotangents> {
    let tape = Tape::new();
    let (inputs, leaves) = batch.inputs(
        kind,
        |v| Ok(tape.leaf(v.to_vec())),
        |v| Ok(tape.constant(v.to_vec())),
    )?;
    let each = loss(&inputs)?;
    let leaves: Vec<&Var> = leaves.iter().collect();
    let gradient = tape.backward(&each, &batch.weight, &leaves)?;
    let value = each.with(|v| v.iter().zip(&batch.weight).map(|(v, w)| v * w).sum());
    Ok(Cotangents {
        value,
        gradient: gradient.into_iter().map(|g| g.to_vec()).collect(),
    })
}

/// The population loss of a registered objective at tabular `logits` (for a reward model: scores).
///
/// # Errors
/// Logits that are not finite, more than [`PAIR_CAP`] arms where pairs are visited, or evidence of
/// the wrong kind.
pub fn evaluate(
    problem: &Problem,
    evidence: &Evidence,
    objective: Objective,
    logits: &[Vec<f64>],
) -> Result<Evaluation> {
    let feed = Feed::of(objective);
    let kind = feed.inputs;
    evaluate_with(problem, evidence, &feed, logits, |batch| {
        on_tape(kind, batch, |inputs| objective.loss(inputs, problem.beta()))
    })
}

/// [`evaluate`] with any engine that turns batches into weighted losses and gradients.
///
/// # Errors
/// As [`evaluate`], and those of the engine.
pub fn evaluate_with(
    problem: &Problem,
    evidence: &Evidence,
    feed: &Feed,
    logits: &[Vec<f64>],
    mut engine: impl FnMut(&Batch) -> Result<Cotangents>,
) -> Result<Evaluation> {
    let shape = |table: &str, rows: usize| {
        let prompts = problem.prompts().len();
        if rows == prompts {
            return Ok(());
        }
        let (what, remedy) = (
            format!("it has {rows} rows"),
            format!("give {prompts}, one per prompt"),
        );
        Err(Error::invalid(table, what, remedy))
    };
    shape("logits", logits.len())?;
    shape("evidence", evidence.prompts.len())?;
    let mut total = Evaluation {
        value: 0.0,
        gradient: Vec::with_capacity(logits.len()),
    };
    for (x, (prompt, evidence)) in problem.prompts().iter().zip(&evidence.prompts).enumerate() {
        let logits = &logits[x];
        let (given, arms) = (logits.len(), prompt.arms());
        if given != arms {
            let what = format!("it has {given} numbers and the prompt {arms} arms");
            return Err(Error::invalid(
                format!("logits[{x}]"),
                what,
                "give one number per kept arm",
            ));
        }
        if let Some(a) = logits.iter().position(|l| !l.is_finite()) {
            return Err(Error::invalid(
                format!("logits[{x}]"),
                format!("the number of arm {} is {}", prompt.kept()[a], logits[a]),
                "give finite numbers",
            ));
        }
        let listed = matches!(evidence.comparisons, Some(Comparisons::Listed { .. }));
        let visits_pairs = match feed.inputs {
            InputKind::Singles => false,
            InputKind::Groups => true,
            InputKind::ScoredPairs | InputKind::LabelledPairs => !listed,
        };
        if visits_pairs && prompt.arms() > PAIR_CAP {
            return Err(Error::TooLarge {
                what: "a loss over all pairs of arms",
                cap: PAIR_CAP,
                prompt: x,
                arms: prompt.arms(),
            });
        }
        let normaliser = if feed.scores {
            0.0
        } else {
            log_sum_exp(logits)
        };
        let log_policy: Vec<f64> = logits.iter().map(|l| l - normaliser).collect();
        let mut gradient = vec![0.0; logits.len()];
        if evidence.mass > 0.0 {
            let table = Rows {
                prompt,
                evidence,
                feed,
                beta: problem.beta(),
                log_policy: &log_policy,
                x,
            };
            table.stream(|batch, arms| {
                let cotangents = engine(batch)?;
                total.value += cotangents.value;
                let mut add = |arm: u32, g: f64| gradient[arm as usize] += g;
                match cotangents.gradient.as_slice() {
                    [only] if only.len() == 2 * batch.len() => {
                        for (pair, g) in arms.iter().zip(only.chunks_exact(2)) {
                            add(pair[0], g[0]);
                            add(pair[1], g[1]);
                        }
                    }
                    slots => {
                        for (slot, g) in slots.iter().enumerate() {
                            arms.iter().zip(g).for_each(|(pair, &g)| add(pair[slot], g));
                        }
                    }
                }
                Ok(())
            })?;
        }
        if !feed.scores {
            let sum: f64 = gradient.iter().sum();
            for (g, l) in gradient.iter_mut().zip(&log_policy) {
                *g -= sum * l.exp();
            }
        }
        if !gradient.iter().all(|g| g.is_finite()) || !total.value.is_finite() {
            return Err(Error::invalid(
                format!("logits[{x}]"),
                "the loss or its gradient overflows there",
                "give logits nearer to each other",
            ));
        }
        total.gradient.push(gradient);
    }
    Ok(total)
}

/// The examples of one prompt.
struct Rows<'a> {
    prompt: &'a Prompt,
    evidence: &'a PromptEvidence,
    feed: &'a Feed,
    beta: f64,
    log_policy: &'a [f64],
    x: usize,
}

impl Rows<'_> {
    /// Feeds every example with its probability, in batches of at most [`CHUNK`]; `visit` gets the
    /// batch and the arms of each example.
    fn stream(&self, mut visit: impl FnMut(&Batch, &[[u32; 2]]) -> Result<()>) -> Result<()> {
        let mut batch = Batch::default();
        let mut arms: Vec<[u32; 2]> = Vec::with_capacity(CHUNK);
        let two = self.feed.inputs != InputKind::Singles;
        let baseline = self.baseline()?;
        let mut push = |a: u32, b: u32, weight: f64| -> Result<()> {
            if weight == 0.0 {
                return Ok(());
            }
            for (slot, arm) in [a, b].into_iter().take(1 + usize::from(two)).enumerate() {
                let arm = arm as usize;
                batch.log_policy[slot].push(self.log_policy[arm]);
                batch.log_reference[slot].push(self.prompt.log_reference[arm]);
                batch.reward[slot].push(self.evidence.reward[arm]);
            }
            if !two {
                batch.baseline.push(baseline);
            }
            batch.weight.push(self.evidence.mass * weight);
            arms.push([a, b]);
            if arms.len() == CHUNK {
                visit(&batch, &arms)?;
                for slot in 0..2 {
                    batch.log_policy[slot].clear();
                    batch.log_reference[slot].clear();
                    batch.reward[slot].clear();
                }
                batch.baseline.clear();
                batch.weight.clear();
                arms.clear();
            }
            Ok(())
        };
        match self.feed.inputs {
            InputKind::Singles => {
                for (a, &m) in self.evidence.responses.iter().enumerate() {
                    push(a as u32, a as u32, m)?;
                }
            }
            InputKind::Groups => {
                // By linearity any k has the expectation of k = 2.
                let law = self.evidence.mean_law();
                pairs(&law, &law, &mut push)?;
            }
            InputKind::ScoredPairs => match self.evidence.compared()? {
                Comparisons::Product { first, second } => pairs(first, second, push)?,
                Comparisons::Listed { edges, .. } => {
                    for e in edges {
                        push(e.a, e.b, e.weight())?;
                    }
                }
            },
            InputKind::LabelledPairs => {
                let mut both = |a: u32, b: u32, wins: f64, losses: f64| {
                    push(a, b, wins)?;
                    push(b, a, losses)
                };
                match self.evidence.compared()? {
                    Comparisons::Product { first, second } => pairs(first, second, |a, b, w| {
                        let gap =
                            self.evidence.reward[a as usize] - self.evidence.reward[b as usize];
                        both(a, b, w * sigmoid(gap), w * sigmoid(-gap))
                    })?,
                    Comparisons::Listed { edges, .. } => {
                        for e in edges {
                            both(e.a, e.b, e.wins, e.losses)?;
                        }
                    }
                }
            }
        }
        if !arms.is_empty() {
            visit(&batch, &arms)?;
        }
        Ok(())
    }

    fn baseline(&self) -> Result<f64> {
        let Some(baseline) = &self.feed.baseline else {
            return Ok(0.0);
        };
        let reference = &self.prompt.log_reference;
        baseline.at(
            self.x,
            self.log_policy,
            reference,
            &self.evidence.reward,
            self.beta,
        )
    }
}

/// Every unordered pair of two product laws, once.
fn pairs(
    first: &[f64],
    second: &[f64],
    mut push: impl FnMut(u32, u32, f64) -> Result<()>,
) -> Result<()> {
    for a in 0..first.len() {
        for b in a..first.len() {
            push(a as u32, b as u32, pair_weight(first, second, a, b))?;
        }
    }
    Ok(())
}

/// The policy that a table stands for: its softmax, or for scores the policy optimal for them,
/// `∝ π_ref e^{score/β}`.
pub fn policy_of(problem: &Problem, feed: &Feed, table: &[Vec<f64>]) -> Policy {
    if !feed.scores {
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
