//! The KTO baseline as the paper runs it: thumbs by the mean reward.

use super::super::{Finding, random_problems, toy};
use super::row::{Row, apart, points, worse};
use crate::bandit::{Evidence, Policy, Problem, kl};
use crate::error::Result;
use crate::magnitude::larger;
use crate::solve::FixedPoint;
use crate::solve::kto::{Options, desirable, fixed_point, mismatched_kl};

fn limit(problem: &Problem) -> Result<FixedPoint> {
    fixed_point(problem, &Evidence::population(problem), Options::default())
}

fn rows(found: &FixedPoint) -> Vec<Vec<f64>> {
    found
        .policy
        .as_ref()
        .map_or_else(Vec::new, Policy::probabilities)
}

/// The largest entry of the expected update at a policy, z₀ = E KL: `β μ s(1 − s)` up or down.
fn update(problem: &Problem, policy: &Policy, labels: &[Vec<bool>]) -> f64 {
    let (beta, z) = (
        problem.beta(),
        problem.kl(policy, &problem.reference()).max(0.0),
    );
    let mut largest = 0.0f64;
    for (x, prompt) in problem.prompts().iter().enumerate() {
        let row = Row::new(prompt, &policy.log()[x]);
        let pushes: Vec<f64> = (0..row.pi.len())
            .map(|a| {
                let s = 1.0 / (1.0 + (-beta * (row.u[a] - z)).exp());
                let sign = if labels[x][a] { 1.0 } else { -1.0 };
                sign * beta * s * (1.0 - s)
            })
            .collect();
        largest = worse(
            largest,
            prompt.weight * apart(&row.along(&pushes), &vec![0.0; row.pi.len()]),
        );
    }
    largest
}

pub(super) fn biased() -> Result<Finding> {
    let problems: Vec<Problem> = (random_problems(200, 31)?.into_iter())
        .filter(|p| p.beta() <= 1.0)
        .collect();
    let (mut least, mut residual, mut several) = (f64::INFINITY, 0.0f64, 0);
    for problem in &problems {
        let found = limit(problem)?;
        several += usize::from(!found.unique);
        least = least.min(found.regret.unwrap_or(f64::NAN));
        let labels = desirable(&Evidence::population(problem), Options::default().split)?;
        if let Some(policy) = found.policy.filter(|_| found.unique) {
            residual = worse(residual, update(problem, &policy, &labels));
        }
    }
    let wide = limit(&toy()?)?;
    let near = limit(&toy()?.map_prompts(|_, prompt| prompt.reward[0] = 2.01))?;
    let off = apart(&rows(&wide).concat(), &rows(&near).concat());
    let regret = wide.regret.unwrap_or(f64::NAN);
    Ok(Finding::holds(
        least > 0.0 && regret > 0.1 && off < 1e-12 && residual < 1e-10,
        format!(
            "{} random problems, β ≤ 1: regret at least {least:.1e} where the expected update is \
             {residual:.1e}; more than one limit on {several}",
            problems.len()
        ),
    )
    .measure("toy: regret", regret)
    .measure("toy: π of arm 1", rows(&wide)[0][0])
    .measure("toy: π of arm 2", rows(&wide)[0][1])
    .measure("toy with rewards (2.01, 2, 1): change of π", off))
}

pub(super) fn one_level() -> Result<Finding> {
    let problem = Problem::from_json(
        r#"{"beta": 0.5, "prompts": [
            {"weight": 0.5, "reward": [9.0, 5.0, 7.0], "behavior": [[0.5, 0.3, 0.2]]},
            {"weight": 0.5, "reward": [-9.0, -5.0, -7.0], "behavior": [[0.5, 0.2, 0.3]]}]}"#,
    )?;
    let first = limit(&problem)?;
    let turned = limit(&problem.map_prompts(|x, prompt| {
        if x == 0 {
            prompt.reward.reverse();
        }
    }))?;
    let ignored = apart(&rows(&first)[0], &rows(&turned)[0]);
    let inside = rows(&first)[0]
        .iter()
        .copied()
        .fold(f64::INFINITY, f64::min);
    let top = rows(&first)[1].iter().copied().fold(0.0, larger);
    // The same two prompts, each with a level of its own: constants in the rewards do not matter.
    let shifted = problem.map_prompts(|x, prompt| {
        let by = if x == 0 { -7.0 } else { 7.0 };
        prompt.reward.iter_mut().for_each(|r| *r += by);
    });
    let moved = apart(&rows(&limit(&shifted)?).concat(), &rows(&first).concat());
    let star = apart(
        &shifted.optimum().policy.probabilities().concat(),
        &problem.optimum().policy.probabilities().concat(),
    );
    Ok(Finding::holds(
        ignored < 1e-12 && inside > 0.01 && top > 1.0 - 1e-12 && moved > 0.1 && star < 1e-12,
        format!(
            "two prompts: reversing the rewards of the one above changes its limit by {ignored:.1e}; \
             constants added to a prompt's rewards, which leave π* as it is, change it by {moved:.2}"
        ),
    )
    .measure("above the mean: least probability", inside)
    .measure("below the mean: largest probability", top))
}

pub(super) fn thumbs() -> Result<Finding> {
    let problem = toy()?;
    let prompt = &problem.prompts()[0];
    let law = Row::new(prompt, &prompt.log_reference).law;
    // Batches of two responses of the toy: how often a reward equals the batch's mean.
    let (mut tied, mut clear) = (0.0, true);
    for (a, p) in law.iter().enumerate() {
        for (b, q) in law.iter().enumerate() {
            let (r, s) = (prompt.reward[a], prompt.reward[b]);
            let mean = 0.5 * (r + s);
            if r == mean || s == mean {
                tied += p * q;
            } else {
                // One thumb up, one down.
                clear &= (r > mean) != (s > mean);
            }
        }
    }
    // What rounding of the mean makes of ten equal rewards of 0.1.
    let mean = [0.1f64; 10].iter().sum::<f64>() / 10.0;
    let alike: f64 = law[2] * law[2];
    Ok(Finding::holds_if(
        clear,
        tied > 0.0,
        format!(
            "all nine batches of two on the toy: without a tie one thumb is up and one down; a mass of \
             {tied:.3} ties"
        ),
    )
    .measure("toy, batch of two: probability of a tie", tied)
    .measure("toy, batch of two: both of arm 3", alike)
    .measure("ten rewards of 0.1: reward less their rounded mean", 0.1 - mean))
}

pub(super) fn kl_estimate() -> Result<Finding> {
    let problems = random_problems(200, 33)?;
    let (mut on, mut off, mut negative, mut count) = (0.0f64, 0.0f64, 0, 0);
    for (key, problem) in problems.iter().enumerate() {
        for (prompt, (logits, _)) in problem
            .prompts()
            .iter()
            .zip(points(problem, key as u64, 2.0))
        {
            let row = Row::new(prompt, &logits);
            let truth = kl(&row.log, &prompt.log_reference);
            let estimate = |law: &[f64]| mismatched_kl(law, &row.log, &prompt.log_reference);
            on = worse(on, estimate(&row.pi) - truth);
            off = worse(off, estimate(&row.law) - truth);
            negative += usize::from(estimate(&row.law) < 0.0);
            count += 1;
        }
    }
    Ok(Finding::holds_if(
        on < 1e-12,
        off > 0.5 && negative > 0,
        format!(
            "{count} prompts: error {on:.1e} if responses come from the policy; under μ up to {off:.2}, \
             and negative on {negative}"
        ),
    ))
}
