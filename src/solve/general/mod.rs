//! The limit of any loss, found numerically: where gradient flow from the reference goes, and where its slope jumps,
//! the lowest point by value.

pub(crate) mod engine;
pub(crate) mod groups;
pub(crate) mod journey;
pub(crate) mod kinks;
pub(crate) mod limit;
pub(crate) mod population;
pub(crate) mod subject;

use super::answer::FixedPoint;
use super::{Rest, largest};
use crate::bandit::{Evidence, Problem, Prompt};
use crate::error::{Error, Result};
use crate::loss::{InputKind, Kind, Objective};
use kinks::largest_jump;
use limit::Limit;
use population::{Population, apart};
use subject::{Candidate, Subject};

/// Most arms of all prompts together: limits are followed with Jacobians from differences.
pub const CAP: usize = 24;

/// Other starts from which the limit is sought, to see whether it is the only one.
const STARTS: u64 = 6;

/// How far limits from two starts may end apart, in probability, where flow finds them, and where a search by value
/// does.
const SAME: [f64; 2] = [1e-5, 1e-2];

/// The limit of a loss of which nothing is known but its formula: the end of gradient flow from the reference, or
/// where kinks hold the flow the lowest point that a search by value finds. What is said of it (its stability, whether
/// it is the only one) was tried, not proved.
///
/// # Errors
/// More than [`CAP`] arms in all, logged groups (whose law is not known), or a loss that refuses its own inputs.
pub fn fixed_point(
    objective: Objective,
    problem: &Problem,
    evidence: &Evidence,
) -> Result<FixedPoint> {
    let arms: usize = problem.prompts().iter().map(Prompt::arms).sum();
    if arms > CAP {
        return Err(Error::invalid(
            objective.name(),
            format!("no solver of it is known, and the prompts have {arms} arms in all"),
            format!("its flow is followed on at most {CAP}: give a smaller problem"),
        ));
    }
    let kind = objective.spec().inputs;
    if kind.is_groups() && evidence.is_logged() {
        return Err(Error::invalid(
            objective.name(),
            "no solver of it is known, and of logged groups the law is not",
            "solve it on the population",
        ));
    }
    if kind == InputKind::Lists || !kind.is_groups() {
        // Data without examples of its kind are refused before anything is followed.
        evidence.of(kind)?;
    }
    let loss = Candidate {
        objective,
        numbers: problem.numbers().clone(),
    };
    // What must be given is not made up here.
    objective.bind(&problem.given())?;
    let subject = Subject::new(&loss, largest_jump(&loss)?)?;
    let population = Population::of(&subject, problem)?.on(evidence.clone());
    let Some(found) = population.limit_and_face(&population.start(), true)? else {
        let note = "the loss is not finite at the start, so it leads nowhere";
        return answer(&population, problem, None, vec![note.into()]);
    };
    let mut notes: Vec<String> = found.note.iter().cloned().collect();
    if found.unbounded {
        notes.push("the loss falls for ever on the way from the reference".into());
    }
    answer(&population, problem, Some(found), notes)
}

/// The answer, with its residual and whether other starts lead there too.
fn answer(
    population: &Population<'_>,
    problem: &Problem,
    found: Option<Limit>,
    mut notes: Vec<String>,
) -> Result<FixedPoint> {
    let kinked = population.subject.kind == Kind::Kinked;
    let method = if kinked {
        "gradient flow from the reference, or the lowest point by value"
    } else {
        "gradient flow from the reference"
    };
    let limit = found.filter(Limit::exists);
    let mut unique = false;
    if let Some(limit) = &limit {
        let tolerance = if kinked { SAME[1] } else { SAME[0] };
        let same = |key| -> Result<bool> {
            let other = population.limit(&population.elsewhere(key))?;
            let other = other.filter(Limit::exists);
            Ok(other.is_some_and(|other| apart(&limit.policy, &other.policy) <= tolerance))
        };
        unique = limit.rest != Rest::Neutral;
        for key in 0..STARTS {
            unique = unique && same(key)?;
        }
        if !unique {
            notes.push(
                "from other starts it ends elsewhere; shown is its limit from the reference".into(),
            );
        }
    } else {
        notes.push("no limit found: gradient flow from the reference came to no rest".into());
    }
    let residual = match &limit {
        // On kinks the slope jumps across 0.
        Some(limit) if !kinked => Some(largest(population.evaluate(&limit.table)?.gradient)),
        _ => None,
    };
    let scores = population.feed.scores();
    FixedPoint {
        regret: None,
        method: method.into(),
        residual,
        unique,
        rest: limit.as_ref().map_or(Rest::None, |limit| limit.rest),
        error: None,
        notes,
        value: None,
        table: limit
            .as_ref()
            .filter(|_| scores)
            .map(|limit| limit.table.clone()),
        policy: limit.map(|limit| limit.policy),
    }
    .sound(problem)
}
