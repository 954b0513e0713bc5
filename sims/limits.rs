//! Exact limits of many objectives, where some may have none.

use std::collections::BTreeSet;

use crate::bandit::{Evidence, Problem};
use crate::loss::Objective;
use crate::rows::families::Skipped;
use crate::solve::fixed_point;
use anyhow::{Result, ensure};

use super::Request;

/// The objectives a request asks for, or all of them.
///
/// # Errors
/// One that is asked for twice.
pub fn objectives(request: &Request) -> Result<Vec<Objective>> {
    let asked = request
        .objectives
        .clone()
        .unwrap_or(Objective::ALL.to_vec());
    let mut seen = BTreeSet::new();
    for objective in &asked {
        let name = objective.name();
        ensure!(
            seen.insert(name),
            "--objective: {name} is named twice; name each once"
        );
    }
    Ok(asked)
}

/// The regret of each objective's limit, none where there is no limit or it depends on the path,
/// and those that cannot be solved, with the reason.
pub type Solved = Vec<(Objective, std::result::Result<Option<f64>, String>)>;

/// Solves every objective on some evidence.
pub fn solve(objectives: &[Objective], problem: &Problem, evidence: &Evidence) -> Solved {
    let limit = |&objective: &Objective| {
        let point = fixed_point(objective, problem, evidence);
        (
            objective,
            point.map(|p| p.regret).map_err(|e| e.to_string()),
        )
    };
    objectives.iter().map(limit).collect()
}

/// The first reason for which each objective could not be solved somewhere.
pub fn skipped<'a>(all: impl IntoIterator<Item = &'a Solved>) -> Vec<Skipped> {
    let mut found: Vec<Skipped> = Vec::new();
    for (objective, answer) in all.into_iter().flatten() {
        let name = objective.name();
        if let Err(reason) = answer
            && found.iter().all(|s| s.objective != name)
        {
            found.push(Skipped {
                objective: name.into(),
                reason: reason.clone(),
            });
        }
    }
    found
}
