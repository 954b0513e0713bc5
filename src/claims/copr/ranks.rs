//! Rewards made of ranks.

use super::super::Finding;
use super::cases::{apart, cases};
use crate::error::Result;
use crate::magnitude::larger;
use crate::solve::copr::{linear_advantage, ranking_gradient, sampling_distribution};

fn advantages(len: usize) -> Vec<f64> {
    (1..=len).map(|j| linear_advantage(j, len)).collect()
}

pub(super) fn mean() -> Result<Finding> {
    let cases = cases(96, 41, false)?;
    let (mut uniform, mut under_policy) = (0.0f64, 0.0f64);
    for case in &cases {
        let all = advantages(case.ranking.len());
        uniform = larger(uniform, (all.iter().sum::<f64>() / all.len() as f64).abs());
        let policy = &case.target.log;
        let mean: f64 = policy.iter().zip(&all).map(|(l, a)| l.exp() * a).sum();
        under_policy = larger(under_policy, mean.abs());
    }
    let evidence = format!(
        "{} rankings of 2 to 5 responses: mean {uniform:.1e} under the uniform law, up to \
         {under_policy:.2} in size under P*",
        cases.len()
    );
    Ok(Finding::holds_if(
        uniform < 1e-14,
        under_policy > 0.1,
        evidence,
    ))
}

pub(super) fn gradient() -> Result<Finding> {
    let (mut linear, mut step) = (0.0f64, 0.0f64);
    for len in 1..=12usize {
        for (j, g) in ranking_gradient(&vec![0.0; len]).iter().enumerate() {
            let rank = (j + 1) as f64;
            linear = larger(linear, (-g - (2.0 * rank - len as f64 - 1.0) / 2.0).abs());
            step = larger(
                step,
                (-g * 2.0 / len as f64 - linear_advantage(j + 1, len)).abs(),
            );
        }
    }
    let mut rewards = vec![0.0; 5];
    for _ in 0..200 {
        let gradient = ranking_gradient(&rewards);
        (rewards.iter_mut().zip(gradient)).for_each(|(r, g)| *r -= 0.05 * g);
    }
    let bent = rewards[3] / rewards[4];
    let evidence = format!(
        "rankings of 1 to 12: −G_j = (2j − J − 1)/2 at equal rewards within {linear:.1e}, and a step of \
         2/J is eq. 16 within {step:.1e}"
    );
    let finding = Finding::holds(linear < 1e-13 && step < 1e-14, evidence);
    Ok(finding.measure(
        "second best over best of 5 after 200 steps of .05 (linear: .5)",
        bent,
    ))
}

pub(super) fn invariance() -> Result<Finding> {
    let cases = cases(96, 42, true)?;
    let mut error = 0.0f64;
    for (i, case) in cases.iter().enumerate() {
        let on_y: Vec<f64> = (case.target.arms.iter())
            .map(|&a| case.prompt.log_reference[a])
            .collect();
        let all = advantages(case.ranking.len());
        let shifted: Vec<f64> = all.iter().map(|a| a + 10.0 * (i as f64).sin()).collect();
        let got = sampling_distribution(&on_y, &shifted, case.beta);
        error = larger(error, apart(&got, &case.target.log));
    }
    let evidence = format!(
        "{} rankings, expected rewards in ±10: largest difference {error:.1e}",
        cases.len()
    );
    Ok(Finding::holds(error < 1e-12, evidence))
}
