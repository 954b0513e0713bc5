//! Expected updates on ranked lists.

use super::Place;
use crate::error::Result;
use crate::solve::copr::{Divergence, Target};
use crate::solve::log_softmax;

/// The mean over the prompt's lists of one gradient each, at the policy of a table.
fn mean(
    place: &Place<'_>,
    table: &[f64],
    each: impl Fn(&Target, &[f64]) -> Vec<f64>,
) -> Result<Vec<f64>> {
    let log_policy = log_softmax(table);
    let mut sum = vec![0.0; table.len()];
    for (list, part) in &place.share.lists {
        let target = Target::ranked(place.prompt, list, place.parameters.beta)?;
        (sum.iter_mut().zip(each(&target, &log_policy))).for_each(|(s, g)| *s += part * g);
    }
    Ok(sum)
}

/// `P_θ (ln P_θ/P* − KL(P_θ‖P*))`, plus `likelihood · (π − 1_best)`.
pub(super) fn reverse(place: &Place<'_>, table: &[f64], likelihood: f64) -> Result<Vec<f64>> {
    mean(place, table, |target, log_policy| {
        target.gradient_with_likelihood(log_policy, Divergence::Reverse, likelihood)
    })
}

/// `P_θ − P*`, over J for the mean.
pub(super) fn forward(place: &Place<'_>, table: &[f64], divide: bool) -> Result<Vec<f64>> {
    mean(place, table, |target, log_policy| {
        let mut gradient = target.gradient(log_policy, Divergence::Forward);
        if divide {
            let len = target.arms.len() as f64;
            gradient.iter_mut().for_each(|g| *g /= len);
        }
        gradient
    })
}

/// `π − 1_best`.
pub(super) fn best(place: &Place<'_>, table: &[f64]) -> Result<Vec<f64>> {
    mean(place, table, |target, log_policy| {
        let mut gradient: Vec<f64> = log_policy.iter().map(|l| l.exp()).collect();
        gradient[target.top()] -= 1.0;
        gradient
    })
}
