//! Expected updates on ranked lists.

use super::Place;
use crate::bandit::log_sum_exp;
use crate::bandit::population::{linear_advantages, missing};
use crate::error::Result;

/// The list's arms, ln P_θ and ln P* on it.
fn distributions(place: &Place<'_>, table: &[f64]) -> Result<(Vec<usize>, Vec<f64>, Vec<f64>)> {
    let list: Vec<usize> = list(place)?.iter().map(|&a| a as usize).collect();
    let normalised = |mut v: Vec<f64>| {
        let normaliser = log_sum_exp(&v);
        v.iter_mut().for_each(|l| *l -= normaliser);
        v
    };
    let policy = normalised(list.iter().map(|&a| table[a]).collect());
    let tilted = (list.iter().zip(linear_advantages(list.len())))
        .map(|(&a, advantage)| place.prompt.log_reference[a] + advantage / place.parameters.beta)
        .collect();
    Ok((list, policy, normalised(tilted)))
}

fn list<'a>(place: &Place<'a>) -> Result<&'a [u32]> {
    let what = "arm indices from worst to best";
    (place.prompt.ranking.as_deref()).ok_or_else(|| missing(place.x, "ranking", what))
}

fn scatter(arms: usize, list: &[usize], values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut all = vec![0.0; arms];
    list.iter().zip(values).for_each(|(&a, v)| all[a] = v);
    all
}

/// `P_θ (ln P_θ/P* − KL(P_θ‖P*))`.
pub(super) fn reverse(place: &Place<'_>, table: &[f64]) -> Result<Vec<f64>> {
    let (list, p, q) = distributions(place, table)?;
    let gap = || p.iter().zip(&q).map(|(p, q)| p - q);
    let divergence: f64 = p.iter().zip(gap()).map(|(p, gap)| p.exp() * gap).sum();
    let push = p
        .iter()
        .zip(gap())
        .map(|(p, gap)| p.exp() * (gap - divergence));
    Ok(scatter(table.len(), &list, push))
}

/// `P_θ − P*`, over J for the mean.
pub(super) fn forward(place: &Place<'_>, table: &[f64], mean: bool) -> Result<Vec<f64>> {
    let (list, p, q) = distributions(place, table)?;
    let scale = if mean { 1.0 / list.len() as f64 } else { 1.0 };
    let push = p.iter().zip(&q).map(|(p, q)| scale * (p.exp() - q.exp()));
    Ok(scatter(table.len(), &list, push))
}

/// `π − 1_best`.
pub(super) fn best(place: &Place<'_>, table: &[f64]) -> Result<Vec<f64>> {
    let normaliser = log_sum_exp(table);
    let mut push: Vec<f64> = table.iter().map(|t| (t - normaliser).exp()).collect();
    if let Some(&best) = list(place)?.last() {
        push[best as usize] -= 1.0;
    }
    Ok(push)
}
