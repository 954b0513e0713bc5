//! Expected updates on ranked lists.

use super::Place;
use crate::bandit::population::missing;
use crate::error::Result;
use crate::solve::copr::{Divergence, Target};
use crate::solve::log_softmax;

/// The distribution that the prompt's ranking implies.
fn target(place: &Place<'_>) -> Result<Target> {
    let what = "arm indices from worst to best";
    let ranking =
        (place.prompt.ranking.as_deref()).ok_or_else(|| missing(place.x, "ranking", what))?;
    Target::ranked(place.prompt, ranking, place.parameters.beta)
}

/// `P_θ (ln P_θ/P* − KL(P_θ‖P*))`, plus `likelihood · (π − 1_best)`.
pub(super) fn reverse(place: &Place<'_>, table: &[f64], likelihood: f64) -> Result<Vec<f64>> {
    let log_policy = log_softmax(table);
    Ok(target(place)?.gradient_with_likelihood(&log_policy, Divergence::Reverse, likelihood))
}

/// `P_θ − P*`, over J for the mean.
pub(super) fn forward(place: &Place<'_>, table: &[f64], mean: bool) -> Result<Vec<f64>> {
    let target = target(place)?;
    let mut gradient = target.gradient(table, Divergence::Forward);
    if mean {
        gradient
            .iter_mut()
            .for_each(|g| *g /= target.arms.len() as f64);
    }
    Ok(gradient)
}

/// `π − 1_best`.
pub(super) fn best(place: &Place<'_>, table: &[f64]) -> Result<Vec<f64>> {
    let mut gradient: Vec<f64> = log_softmax(table).iter().map(|l| l.exp()).collect();
    gradient[target(place)?.top()] -= 1.0;
    Ok(gradient)
}
