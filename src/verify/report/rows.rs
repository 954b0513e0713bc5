//! The rows of the page: where a loss converges, by where responses come from.

use super::bandit::{Data, Situation, situations};
use crate::bandit::Problem;
use crate::error::Result;
use crate::solve::flow::Rest;
use crate::solve::general::limit::Limit;
use crate::solve::general::population::apart;
use crate::solve::general::subject::Subject;

/// ln π/π_ref below which an arm whose logit runs off is said to vanish.
const VANISHED: f64 = -10.0;

/// How far the limit from another start may end, in probability, and count as the same.
const OTHER_START: f64 = 1e-5;

/// Limit of a loss from the reference, on one kind of data.
#[derive(Debug, Clone)]
pub struct LimitRow {
    /// Distribution of the responses, and for groups that depend on it their size.
    pub responses: String,
    /// Kind of data behind the examples.
    pub data: Data,
    /// Responses of a group, for losses on groups.
    pub group: Option<usize>,
    /// The class of the rest that it comes to.
    pub rest: Rest,
    /// True if the loss falls for ever, so that there is no limit.
    pub unbounded: bool,
    /// True if training starts at, or comes to, a rest that repels, and was pushed off it.
    pub pushed: bool,
    /// The limit, one list per prompt; none where there is no rest.
    pub policy: Option<Vec<Vec<f64>>>,
    /// `J(π*) − J` at the limit.
    pub regret: Option<f64>,
    /// KL to π* there.
    pub from_optimum: Option<f64>,
    /// KL to π_ref there.
    pub from_reference: Option<f64>,
    /// Direction in which logits run off: the change of ln π of each arm, 0 for the arms that keep probability and −1
    /// for the one that loses it fastest.
    pub direction: Option<Vec<Vec<f64>>>,
    /// Odds of the arms that keep probability against the last of them, in units of π_ref's, where logits run off and
    /// several keep it; nothing for the arms that vanish.
    pub odds: Option<Vec<Vec<Option<f64>>>>,
    /// True if another start has the same limit, where logits run off on a log.
    pub any_start: Option<bool>,
    /// Remark on it: why there is no limit, which rest repels.
    pub note: Option<String>,
}

impl LimitRow {
    /// Whether nothing could be computed.
    pub(super) fn lost(&self) -> bool {
        self.policy.is_none()
            && self.rest == Rest::None
            && !self.unbounded
            && self.direction.is_none()
    }
}

pub(super) fn rows(subject: &Subject, problem: &Problem) -> Result<Vec<LimitRow>> {
    (situations(subject, problem)?.into_iter())
        .map(|situation| row(problem, situation))
        .collect()
}

fn row(problem: &Problem, situation: Situation<'_>) -> Result<LimitRow> {
    let Situation {
        responses,
        data,
        group,
        population,
    } = situation;
    let none = |note: String| LimitRow {
        responses: responses.clone(),
        data,
        group,
        rest: Rest::None,
        unbounded: false,
        pushed: false,
        policy: None,
        regret: None,
        from_optimum: None,
        from_reference: None,
        direction: None,
        odds: None,
        any_start: None,
        note: Some(note),
    };
    let population = match population {
        Ok(population) => population,
        Err(reason) => return Ok(none(reason)),
    };
    let Some(limit) = population.limit_and_face(&population.start(), true)? else {
        return Ok(none("the loss is not finite at the start".to_string()));
    };
    let mut row = none(String::new());
    row.note.clone_from(&limit.note);
    (row.rest, row.unbounded) = (limit.rest, limit.unbounded);
    row.pushed = limit.pushed;
    row.direction.clone_from(&limit.direction);
    if limit.exists() {
        let policy = &limit.policy;
        row.policy = Some(policy.probabilities());
        row.regret = Some(problem.regret(policy));
        row.from_optimum = Some(problem.kl(policy, &problem.optimum().policy));
        row.from_reference = Some(problem.kl(policy, &problem.reference()));
        if limit.rest == Rest::Boundary {
            row.odds = Some(odds(problem, &limit));
            if data == Data::Log {
                let other = population.limit(&population.elsewhere(7))?;
                let same = |l: Limit| l.exists() && apart(&l.policy, policy) <= OTHER_START;
                row.any_start = Some(other.is_some_and(same));
            }
        }
    } else if row.note.is_none() && !limit.unbounded {
        let says = if limit.direction.is_some() {
            "it runs off without end"
        } else {
            "it was still moving when it was left"
        };
        row.note = Some(says.to_string());
    }
    Ok(row)
}

/// The odds that the arms which keep probability have in the end, in units of π_ref's.
fn odds(problem: &Problem, limit: &Limit) -> Vec<Vec<Option<f64>>> {
    (limit.policy.log().iter().zip(problem.prompts()))
        .map(|(log, prompt)| {
            let ratio: Vec<f64> = (log.iter().zip(&prompt.log_reference))
                .map(|(l, r)| l - r)
                .collect();
            let top = ratio.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let kept: Vec<bool> = ratio.iter().map(|r| r - top > VANISHED).collect();
            let last = kept.iter().rposition(|k| *k).unwrap_or(0);
            (ratio.iter().zip(&kept))
                .map(|(r, kept)| kept.then(|| (r - ratio[last]).exp()))
                .collect()
        })
        .collect()
}

/// Arms by index, in words.
pub(super) fn arms(which: &[usize]) -> String {
    let names: Vec<String> = which.iter().map(usize::to_string).collect();
    match names.as_slice() {
        [] => "no arm".to_string(),
        [one] => format!("arm {one}"),
        [most @ .., last] => format!("arms {} and {last}", most.join(", ")),
    }
}

/// Which arms vanish along a direction, prompt by prompt, in words.
pub(super) fn vanishing(direction: &[Vec<f64>]) -> String {
    let row = |row: &Vec<f64>| {
        let gone: Vec<usize> = (0..row.len()).filter(|&a| row[a] < -0.02).collect();
        let verb = if gone.len() == 1 {
            "vanishes"
        } else {
            "vanish"
        };
        (!gone.is_empty()).then(|| format!("{} {verb}", arms(&gone)))
    };
    let rows: Vec<(usize, String)> = (direction.iter().enumerate())
        .filter_map(|(x, r)| row(r).map(|says| (x, says)))
        .collect();
    match rows.as_slice() {
        [(_, says)] if direction.len() == 1 => says.clone(),
        rows => (rows.iter())
            .map(|(x, says)| format!("{says} at prompt {x}"))
            .collect::<Vec<_>>()
            .join(", "),
    }
}
