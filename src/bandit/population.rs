//! Exact expectations as weighted batches: the sample loss, fed every pair with its probability,
//! *is* the population loss.

use std::rc::Rc;

use super::evidence::{Comparisons, Evidence, PromptEvidence, pair_weight};
use super::policy::{Policy, log_sum_exp};
use super::problem::{Problem, Prompt};
use crate::backend::nd::{Tape, Var, sigmoid};
use crate::backend::{Backend, Segments};
use crate::error::{Error, Result};
use crate::loss::{Baseline, InputKind, Inputs, Objective, Response, Table, Value};

/// Examples a batch holds at most; longer lists stream through in pieces of this size.
const CHUNK: usize = 4096;

/// Most arms of a prompt for which all pairs are visited.
pub const PAIR_CAP: usize = 20_000;

/// What an objective is fed and how it is weighted, independent of the loss itself.
#[derive(Debug, Clone)]
pub struct Feed {
    /// Kind of examples.
    pub inputs: InputKind,
    /// What a table of numbers per arm stands for.
    pub table: Table,
    /// Baseline of single responses.
    pub baseline: Option<Baseline>,
    /// DRO's value, instead of a baseline. Single responses then come from the mean of the two
    /// laws; with a baseline they come from both (mass 2).
    pub value: Option<Value>,
    /// Whether pairs of an arm with itself count.
    pub self_pairs: bool,
    /// KTO's threshold and z₀, for rated responses.
    pub rating: Rating,
}

/// How responses are rated and z₀ is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rating {
    /// A response is desirable when its reward is above the mean of all prompts, or of its own.
    pub per_prompt: bool,
    /// z₀ is the KL divergence to the reference, or 0.
    pub kl: bool,
}

impl Feed {
    /// What a registered objective is fed.
    pub fn of(objective: Objective) -> Self {
        Self {
            inputs: objective.spec().inputs,
            table: objective.table(),
            baseline: objective.baseline(),
            value: objective.value(),
            self_pairs: objective != Objective::AdvantageModelDistinct,
            rating: Rating {
                per_prompt: objective == Objective::KtoPerPrompt,
                kl: objective != Objective::KtoNoKl,
            },
        }
    }

    /// Whether the table trained is one of scores, not logits.
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
    fn through(&self, prompt: &Prompt, trained: &[f64], gradient: &mut [f64]) {
        let law = match self.table {
            Table::Logits => trained.iter().map(|l| l.exp()).collect(),
            Table::Scores => return,
            Table::CentredScores => prompt.centre(),
        };
        let sum: f64 = gradient.iter().sum();
        (gradient.iter_mut().zip(&law)).for_each(|(g, p)| *g -= sum * p);
    }
}

/// Plain numbers of a batch: one or two responses per example, or a group of them.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// The trained numbers of the first (or only) and second response of each example; of groups
    /// and lists, of all their responses in order, in the first.
    pub log_policy: [Vec<f64>; 2],
    /// ln π_ref.
    pub log_reference: [Vec<f64>; 2],
    /// Rewards; in ranked lists, advantages.
    pub reward: [Vec<f64>; 2],
    /// Baselines or values of single responses, z₀ of rated ones.
    pub baseline: Vec<f64>,
    /// 1 or 0 for rated responses.
    pub desirable: Vec<f64>,
    /// Sizes of groups and lists.
    pub sizes: Vec<usize>,
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

    /// The loss's inputs on any backend, and the leaves whose gradients are wanted: one array per
    /// slot, and after it the baseline, value or z₀ where there is one.
    ///
    /// # Errors
    /// If the backend fails.
    pub fn inputs<X: Backend>(
        &self,
        kind: InputKind,
        mut leaf: impl FnMut(&[f64]) -> Result<X>,
        mut constant: impl FnMut(&[f64]) -> Result<X>,
    ) -> Result<(Inputs<X>, Vec<X>)> {
        let mut response = |slot: usize| -> Result<Response<X>> {
            Ok(Response {
                log_policy: leaf(&self.log_policy[slot])?,
                log_reference: constant(&self.log_reference[slot])?,
                reward: constant(&self.reward[slot])?,
            })
        };
        let first = response(0)?;
        match kind {
            InputKind::ScoredPairs | InputKind::LabelledPairs => {
                let second = response(1)?;
                let leaves = vec![first.log_policy.clone(), second.log_policy.clone()];
                Ok((Inputs::Pair { first, second }, leaves))
            }
            InputKind::Singles => {
                let baseline = leaf(&self.baseline)?;
                let leaves = vec![first.log_policy.clone(), baseline.clone()];
                let response = first;
                Ok((Inputs::Single { response, baseline }, leaves))
            }
            InputKind::Rated => {
                let anchor = leaf(&self.baseline)?;
                let leaves = vec![first.log_policy.clone(), anchor.clone()];
                let inputs = Inputs::Rated {
                    response: first,
                    desirable: constant(&self.desirable)?,
                    anchor,
                };
                Ok((inputs, leaves))
            }
            InputKind::Groups | InputKind::Lists => {
                let leaves = vec![first.log_policy.clone()];
                let groups = Rc::new(Segments::new(&self.sizes)?);
                let responses = first;
                Ok((Inputs::Group { responses, groups }, leaves))
            }
        }
    }

    fn clear(&mut self) {
        for slot in 0..2 {
            self.log_policy[slot].clear();
            self.log_reference[slot].clear();
            self.reward[slot].clear();
        }
        self.baseline.clear();
        self.desirable.clear();
        self.sizes.clear();
        self.weight.clear();
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
    /// Its gradient with respect to the logits (for a table of scores: the scores), that is, the
    /// negated expected update.
    pub gradient: Vec<Vec<f64>>,
    /// For single and rated responses, its gradient with respect to each prompt's number (baseline,
    /// value or z₀); zero where that is detached.
    pub value_gradient: Option<Vec<f64>>,
    /// That number.
    pub value_at: Option<Vec<f64>>,
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

/// The population loss of a registered objective at tabular `logits` (or scores).
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
        on_tape(kind, batch, |inputs| {
            objective.loss(inputs, problem.parameters())
        })
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
    for (x, (prompt, row)) in problem.prompts().iter().zip(logits).enumerate() {
        check_row(x, prompt, row)?;
    }
    let trained: Vec<Vec<f64>> = (problem.prompts().iter().zip(logits))
        .map(|(prompt, row)| feed.trained(prompt, row))
        .collect();
    let held = held_against(problem, evidence, feed, &trained)?;
    let threshold = threshold(evidence);
    let zeros = held.as_ref().map(|v| vec![0.0; v.len()]);
    let mut total = Evaluation {
        value: 0.0,
        gradient: Vec::with_capacity(logits.len()),
        value_gradient: zeros,
        value_at: held.clone(),
    };
    for (x, (prompt, evidence)) in problem.prompts().iter().zip(&evidence.prompts).enumerate() {
        let listed = matches!(evidence.comparisons, Some(Comparisons::Listed { .. }));
        let visits_pairs = match feed.inputs {
            InputKind::Singles | InputKind::Rated | InputKind::Lists => false,
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
        let mut gradient = vec![0.0; prompt.arms()];
        if evidence.mass > 0.0 {
            let rows = Rows {
                prompt,
                evidence,
                feed,
                log_policy: &trained[x],
                held: held.as_ref().map_or(0.0, |v| v[x]),
                threshold: if feed.rating.per_prompt {
                    evidence.mean_reward()
                } else {
                    threshold
                },
                x,
            };
            rows.stream(|batch, arms| {
                let cotangents = engine(batch)?;
                total.value += cotangents.value;
                for (arms, slot) in arms.iter().zip(&cotangents.gradient) {
                    (arms.iter().zip(slot)).for_each(|(&arm, g)| gradient[arm as usize] += g);
                }
                // What comes after the slots is the gradient of the number held against them.
                let slots = arms.iter().filter(|a| !a.is_empty()).count();
                if let (Some(sum), Some(of_value)) =
                    (&mut total.value_gradient, cotangents.gradient.get(slots))
                {
                    sum[x] += of_value.iter().sum::<f64>();
                }
                Ok(())
            })?;
        }
        feed.through(prompt, &trained[x], &mut gradient);
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

/// One finite number per arm.
fn check_row(x: usize, prompt: &Prompt, row: &[f64]) -> Result<()> {
    let (given, arms) = (row.len(), prompt.arms());
    let fail = |what: String, remedy| Err(Error::invalid(format!("logits[{x}]"), what, remedy));
    if given != arms {
        let what = format!("it has {given} numbers and the prompt {arms} arms");
        return fail(what, "give one number per kept arm");
    }
    if let Some(a) = row.iter().position(|l| !l.is_finite()) {
        let what = format!("the number of arm {} is {}", prompt.kept()[a], row[a]);
        return fail(what, "give finite numbers");
    }
    Ok(())
}

/// The mean reward of all responses, above which KTO calls one desirable.
pub fn threshold(evidence: &Evidence) -> f64 {
    let seen = evidence.prompts.iter().filter(|share| share.mass > 0.0);
    seen.map(|share| share.mass * share.mean_reward()).sum()
}

/// The number of each prompt that its single responses are held against: baseline, value or z₀.
fn held_against(
    problem: &Problem,
    evidence: &Evidence,
    feed: &Feed,
    log_policy: &[Vec<f64>],
) -> Result<Option<Vec<f64>>> {
    let beta = problem.beta();
    let rows = || problem.prompts().iter().zip(&evidence.prompts).enumerate();
    if feed.inputs == InputKind::Rated {
        let kl = |x: usize, prompt: &Prompt| -> f64 {
            (log_policy[x].iter().zip(&prompt.log_reference))
                .map(|(l, r)| l.exp() * (l - r))
                .sum()
        };
        let mean: f64 = rows().map(|(x, (p, share))| share.mass * kl(x, p)).sum();
        let anchor = if feed.rating.kl { mean.max(0.0) } else { 0.0 };
        return Ok(Some(vec![anchor; log_policy.len()]));
    }
    if let Some(baseline) = &feed.baseline {
        let at = |(x, (prompt, share)): (usize, (&Prompt, &PromptEvidence))| {
            baseline.at(
                x,
                &log_policy[x],
                &prompt.log_reference,
                &share.reward,
                beta,
            )
        };
        return rows().map(at).collect::<Result<_>>().map(Some);
    }
    let Some(value) = feed.value else {
        return Ok(None);
    };
    let own = |x: usize, prompt: &Prompt, share: &PromptEvidence| -> f64 {
        (share.mean_law().iter().enumerate())
            .filter(|(_, m)| **m > 0.0)
            .map(|(a, m)| {
                let u = log_policy[x][a] - prompt.log_reference[a];
                m * (share.reward[a] - beta * u)
            })
            .sum()
    };
    let constant: f64 = rows()
        .filter(|(_, (_, share))| share.mass > 0.0)
        .map(|(x, (p, share))| share.mass * own(x, p, share))
        .sum();
    rows()
        .map(|(x, (prompt, share))| match (value, prompt.value) {
            (Value::Given | Value::Own, Some(given)) => Ok(given),
            (Value::Own, None) => Ok(own(x, prompt, share)),
            (Value::Constant, _) => Ok(constant),
            (Value::Given, None) => Err(missing(x, "value", "the number V(x) to hold fixed")),
        })
        .collect::<Result<_>>()
        .map(Some)
}

/// The error for an optional field of a prompt that an objective needs.
pub fn missing(x: usize, field: &str, what: &str) -> Error {
    Error::invalid(
        format!("prompts[{x}].{field}"),
        "it is missing, and the objective needs it",
        format!("give each prompt a `{field}`: {what}"),
    )
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The advantages of a list of `len` responses from worst to best: `(2j − J − 1)/J`, COPR eq. 16.
pub fn linear_advantages(len: usize) -> Vec<f64> {
    let n = len as f64;
    (1..=len).map(|j| (2.0 * j as f64 - n - 1.0) / n).collect()
}

/// The examples of one prompt.
struct Rows<'a> {
    prompt: &'a Prompt,
    evidence: &'a PromptEvidence,
    feed: &'a Feed,
    log_policy: &'a [f64],
    held: f64,
    threshold: f64,
    x: usize,
}

/// A batch being filled: its numbers, and the arms behind each slot.
struct Filling<'a, V> {
    rows: &'a Rows<'a>,
    batch: Batch,
    arms: [Vec<u32>; 2],
    visit: V,
}

impl<V: FnMut(&Batch, &[Vec<u32>; 2]) -> Result<()>> Filling<'_, V> {
    fn response(&mut self, slot: usize, arm: u32, reward: f64) {
        let a = arm as usize;
        self.batch.log_policy[slot].push(self.rows.log_policy[a]);
        self.batch.log_reference[slot].push(self.rows.prompt.log_reference[a]);
        self.batch.reward[slot].push(reward);
        self.arms[slot].push(arm);
    }

    fn example(&mut self, weight: f64) -> Result<()> {
        self.batch.weight.push(self.rows.evidence.mass * weight);
        if self.batch.len() == CHUNK {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if !self.batch.is_empty() {
            (self.visit)(&self.batch, &self.arms)?;
            self.batch.clear();
            self.arms.iter_mut().for_each(Vec::clear);
        }
        Ok(())
    }

    fn single(&mut self, a: u32, weight: f64) -> Result<()> {
        if weight == 0.0 {
            return Ok(());
        }
        let reward = self.rows.evidence.reward[a as usize];
        self.response(0, a, reward);
        self.batch.baseline.push(self.rows.held);
        let desirable = f64::from(u8::from(reward > self.rows.threshold));
        self.batch.desirable.push(desirable);
        self.example(weight)
    }

    fn pair(&mut self, a: u32, b: u32, weight: f64) -> Result<()> {
        if weight == 0.0 || (a == b && !self.rows.feed.self_pairs) {
            return Ok(());
        }
        let reward = &self.rows.evidence.reward;
        let (first, second) = (reward[a as usize], reward[b as usize]);
        self.response(0, a, first);
        if self.rows.feed.inputs == InputKind::Groups {
            self.response(0, b, second);
            self.batch.sizes.push(2);
        } else {
            self.response(1, b, second);
        }
        self.example(weight)
    }

    fn list(&mut self, arms: &[u32], weight: f64) -> Result<()> {
        for (&arm, advantage) in arms.iter().zip(linear_advantages(arms.len())) {
            self.response(0, arm, advantage);
        }
        self.batch.sizes.push(arms.len());
        self.example(weight)
    }
}

impl Rows<'_> {
    /// Feeds every example with its probability, in batches of at most [`CHUNK`]; `visit` gets the
    /// batch and the arms behind each slot.
    fn stream(&self, visit: impl FnMut(&Batch, &[Vec<u32>; 2]) -> Result<()>) -> Result<()> {
        let mut fill = Filling {
            rows: self,
            batch: Batch::default(),
            arms: [Vec::new(), Vec::new()],
            visit,
        };
        match self.feed.inputs {
            InputKind::Singles | InputKind::Rated => {
                let both = self.feed.inputs == InputKind::Singles && self.feed.value.is_none();
                let share = if both { 1.0 } else { 0.5 };
                for (a, &m) in self.evidence.responses.iter().enumerate() {
                    fill.single(a as u32, share * m)?;
                }
            }
            InputKind::Groups => {
                // By linearity any k has the expectation of k = 2.
                let law = self.evidence.mean_law();
                pairs(&law, &law, |a, b, w| fill.pair(a, b, w))?;
            }
            InputKind::Lists => {
                let list = self.prompt.ranking.as_deref();
                let what = "arm indices from worst to best";
                fill.list(list.ok_or_else(|| missing(self.x, "ranking", what))?, 1.0)?;
            }
            InputKind::ScoredPairs => match self.evidence.compared()? {
                Comparisons::Product { first, second } => {
                    pairs(first, second, |a, b, w| fill.pair(a, b, w))?;
                }
                Comparisons::Listed { edges, .. } => {
                    for e in edges {
                        fill.pair(e.a, e.b, e.weight())?;
                    }
                }
            },
            InputKind::LabelledPairs => {
                let mut both = |a: u32, b: u32, wins: f64, losses: f64| {
                    fill.pair(a, b, wins)?;
                    fill.pair(b, a, losses)
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
        fill.flush()
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
