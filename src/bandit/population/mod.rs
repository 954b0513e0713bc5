//! Exact expectations as weighted batches: the sample loss, fed every example with its
//! probability, *is* the population loss.

mod feed;
mod held;
mod rows;

pub use feed::{Feed, policy_of};
pub use held::{held, missing};
pub use rows::linear_advantage;

use super::evidence::{Comparisons, Evidence, PromptEvidence, Threshold, View};
use super::problem::{Problem, Prompt};
use crate::error::{Error, Result};
use crate::loss::{Batch, Column, Cotangents, InputKind, Objective};
use rows::Rows;

/// Examples a batch holds at most; longer lists stream through in pieces of this size.
const CHUNK: usize = 4096;

/// Most arms of a prompt for which all pairs are visited.
pub const PAIR_CAP: usize = 20_000;

/// A population loss.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// Its value; means nothing for a field.
    pub value: f64,
    /// Its gradient with respect to the logits (for a table of scores: the scores), that is, the
    /// negated expected update.
    pub gradient: Vec<Vec<f64>>,
    /// Gradient with respect to each prompt's own number (baseline, value or z₀) of single and rated responses; zero
    /// where that number is detached.
    pub value_gradient: Option<Vec<f64>>,
    /// Each prompt's own number, at which the gradient was taken.
    pub value_at: Option<Vec<f64>>,
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
    let loss = objective.bind(&problem.given())?;
    let feed = Feed::of(&loss)?;
    evaluate_with(problem, evidence, &feed, logits, |batch| {
        loss.on_tape(batch)
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
    let view = evidence.of(feed.inputs)?;
    shape("evidence", view.prompts.len())?;
    for (x, (prompt, row)) in problem.prompts().iter().zip(logits).enumerate() {
        check_row(x, prompt, row)?;
    }
    let trained: Vec<Vec<f64>> = (problem.prompts().iter().zip(logits))
        .map(|(prompt, row)| feed.trained(prompt, row))
        .collect();
    let held = held(problem, view, feed, &trained)?;
    let zeros = held.as_ref().map(|v| vec![0.0; v.len()]);
    let mut total = Evaluation {
        value: 0.0,
        gradient: (trained.iter()).map(|row| vec![0.0; row.len()]).collect(),
        value_gradient: zeros,
        value_at: held.clone(),
    };
    let (held, mut values) = (held.as_deref(), vec![0.0; trained.len()]);
    examples(problem, view, feed, &trained, held, |x, batch, arms| {
        let cotangents = engine(batch)?;
        total.value += cotangents.value;
        values[x] += cotangents.value;
        let gradient = &mut total.gradient[x];
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
    for (x, (prompt, gradient)) in problem
        .prompts()
        .iter()
        .zip(&mut total.gradient)
        .enumerate()
    {
        feed.through(prompt, &trained[x], gradient);
        if !gradient.iter().all(|g| g.is_finite()) || !values[x].is_finite() {
            return Err(Error::invalid(
                format!("logits[{x}]"),
                "the loss or its gradient overflows there",
                "give logits nearer to each other",
            ));
        }
    }
    Ok(total)
}

/// Every example of the exact expectation with its probability, prompt by prompt, in batches:
/// `visit` gets the prompt's index, a batch, and the arms behind each of its slots. `trained` holds
/// the trained number of each arm and `held` that which each prompt's single responses are held
/// against (see [`held`]).
///
/// # Errors
/// As [`evaluate`], and those of `visit`.
pub fn examples(
    problem: &Problem,
    view: &View,
    feed: &Feed,
    trained: &[Vec<f64>],
    held: Option<&[f64]>,
    mut visit: impl FnMut(usize, &Batch, &[Vec<u32>; 2]) -> Result<()>,
) -> Result<()> {
    let rated = feed.inputs == InputKind::Rated;
    let threshold = if rated {
        view.threshold()
    } else {
        Threshold::given(0.0)
    };
    for (x, (prompt, evidence)) in problem.prompts().iter().zip(&view.prompts).enumerate() {
        let listed = matches!(evidence.comparisons, Some(Comparisons::Listed { .. }));
        let visits_pairs = match feed.inputs {
            InputKind::Singles | InputKind::Rated | InputKind::Lists => false,
            InputKind::Groups
            | InputKind::Tokens
            | InputKind::ScoredPairs
            | InputKind::LabelledPairs => !listed,
        };
        if visits_pairs && prompt.arms() > PAIR_CAP {
            return Err(Error::TooLarge {
                what: "a loss over all pairs of arms",
                cap: PAIR_CAP,
                prompt: x,
                arms: prompt.arms(),
            });
        }
        if evidence.mass == 0.0 {
            continue;
        }
        let rows = Rows {
            prompt,
            evidence,
            feed,
            log_policy: &trained[x],
            held: held.map_or(0.0, |v| v[x]),
            threshold: if rated && feed.rating.per_prompt {
                evidence.threshold()
            } else {
                threshold
            },
            log_old: if feed.columns.has(Column::LogOld) {
                behaviour(prompt, evidence).iter().map(|m| m.ln()).collect()
            } else {
                Vec::new()
            },
        };
        rows.stream(|batch, arms| visit(x, batch, arms))?;
    }
    Ok(())
}

/// The law that a prompt's responses come from: what was seen of them, or else the mean of the problem's two laws.
fn behaviour(prompt: &Prompt, evidence: &PromptEvidence) -> Vec<f64> {
    if evidence.responses.is_empty() {
        let (first, second) = prompt.law.marginals();
        return (first.iter().zip(second))
            .map(|(p, q)| 0.5 * (p + q))
            .collect();
    }
    evidence.mean_law()
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

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
