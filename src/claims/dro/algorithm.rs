//! Gradients, and the algorithm they make.

use super::super::{Finding, random_problems, toy};
use super::row::{Row, apart, differences, points, worse};
use crate::bandit::{Beta, Evidence, Problem};
use crate::error::Result;
use crate::solve::dro;

pub(super) fn value_gradient() -> Result<Finding> {
    let problems = random_problems(200, 21)?;
    let mut error = 0.0f64;
    for (key, problem) in problems.iter().enumerate() {
        let tau = problem.beta();
        for (prompt, (logits, value)) in problem
            .prompts()
            .iter()
            .zip(points(problem, key as u64, 2.0))
        {
            let row = Row::new(prompt, &logits);
            let misses: Vec<f64> = (row.regularised(tau).iter()).map(|t| value - t).collect();
            let slope = differences(|v| row.loss(tau, v[0]), &[value])[0];
            error = worse(error, (slope - row.mean(&misses)) / (1.0 + slope.abs()));
        }
    }
    Ok(Finding::holds(
        error < 1e-7,
        format!(
            "{} random problems against differences, error {error:.1e}",
            problems.len()
        ),
    ))
}

/// `E_μ[∇ln π (r − V) − (c/2) ∇u²]`: what eq. 8 and Algorithm 1 sum, for an ℓ₂ coefficient c/2.
fn direction(row: &Row<'_>, value: f64, c: f64) -> Vec<f64> {
    let weights: Vec<f64> = (row.prompt.reward.iter().zip(&row.u))
        .map(|(r, u)| r - value - c * u)
        .collect();
    row.along(&weights)
}

pub(super) fn policy_gradient() -> Result<Finding> {
    let problems = random_problems(200, 22)?;
    let mut error = 0.0f64;
    for (key, problem) in problems.iter().enumerate() {
        let tau = problem.beta();
        for (prompt, (logits, value)) in problem
            .prompts()
            .iter()
            .zip(points(problem, key as u64, 2.0))
        {
            let row = Row::new(prompt, &logits);
            let want: Vec<f64> = (direction(&row, value, tau).iter())
                .map(|d| -tau * d)
                .collect();
            let slope = differences(|at| Row::new(prompt, at).loss(tau, value), &logits);
            let size = 1.0 + slope.iter().fold(0.0f64, |m, s| m.max(s.abs()));
            error = worse(error, apart(&slope, &want) / size);
        }
    }
    Ok(Finding::holds(
        error < 1e-7,
        format!(
            "{} random problems against differences, error {error:.1e}",
            problems.len()
        ),
    ))
}

/// The row as if its responses came from the policy itself, held fixed.
fn on_policy<'a>(row: &Row<'a>) -> Row<'a> {
    let mut row = Row::new(row.prompt, &row.log);
    row.law.clone_from(&row.pi);
    row
}

pub(super) fn not_a_baseline() -> Result<Finding> {
    let problems = random_problems(200, 23)?;
    let (mut on, mut off) = (0.0f64, f64::INFINITY);
    for (key, problem) in problems.iter().enumerate() {
        for (prompt, (logits, _)) in problem
            .prompts()
            .iter()
            .zip(points(problem, key as u64, 2.0))
        {
            let row = Row::new(prompt, &logits);
            let level = vec![1.0; row.pi.len()];
            let none = vec![0.0; row.pi.len()];
            on = worse(on, apart(&on_policy(&row).along(&level), &none));
            off = off.min(apart(&row.along(&level), &none));
        }
    }
    Ok(Finding::holds(
        on < 1e-14 && off > 1e-4,
        format!(
            "{} random problems: E[∇ln π] is {on:.1e} at most on policy, {off:.1e} at least under μ",
            problems.len()
        ),
    ))
}

pub(super) fn l2_and_kl() -> Result<Finding> {
    let problems = random_problems(200, 24)?;
    let (mut on, mut off) = (0.0f64, f64::INFINITY);
    for (key, problem) in problems.iter().enumerate() {
        for (prompt, (logits, _)) in problem
            .prompts()
            .iter()
            .zip(points(problem, key as u64, 2.0))
        {
            let row = Row::new(prompt, &logits);
            // ½ E ∇u² = E[u ∇ln π].
            let slope = differences(
                |at| crate::bandit::kl(&Row::new(prompt, at).log, &prompt.log_reference),
                &logits,
            );
            on = worse(on, apart(&on_policy(&row).along(&row.u), &slope));
            off = off.min(apart(&row.along(&row.u), &slope));
        }
    }
    Ok(Finding::holds(
        on < 1e-8 && off > 1e-6,
        format!(
            "{} random problems: the two differ by at most {on:.1e} on policy, at least {off:.1e} under μ",
            problems.len()
        ),
    ))
}

pub(super) fn coefficient() -> Result<Finding> {
    let problems = random_problems(200, 25)?;
    let (mut corrected, mut printed, mut at_one) = (0.0f64, f64::INFINITY, 0.0f64);
    for (key, problem) in problems.iter().enumerate() {
        let tau = problem.beta();
        for (prompt, (logits, value)) in problem
            .prompts()
            .iter()
            .zip(points(problem, key as u64, 2.0))
        {
            let row = Row::new(prompt, &logits);
            // Eq. 8 over τ, negated.
            let want: Vec<f64> = (row.slope(tau, value).iter()).map(|s| -s / tau).collect();
            corrected = worse(corrected, apart(&direction(&row, value, tau), &want));
            let off = apart(&direction(&row, value, 1.0), &want);
            if tau == 1.0 {
                at_one = worse(at_one, off);
            } else {
                printed = printed.min(off);
            }
        }
    }
    Ok(Finding::misprint(
        corrected < 1e-12 && at_one < 1e-12,
        printed > 1e-4,
        format!(
            "{} random problems: error {corrected:.1e} with τ/2; with ½ it is {at_one:.1e} at τ = 1 and \
             {printed:.1e} or more at τ = 0.2, 0.5 and 2",
            problems.len()
        ),
    ))
}

pub(super) fn limit() -> Result<Finding> {
    let at = |problem: &Problem, tau| -> Result<Problem> { Ok(problem.at(Beta::new("tau", tau)?)) };
    let problems: Vec<Problem> = (random_problems(24, 26)?.into_iter())
        .filter(|p| p.prompts().len() == 1)
        .collect();
    let (mut corrected, mut at_one) = (0.0f64, 0.0f64);
    let (mut biased, mut lost) = (f64::INFINITY, [0; 3]);
    for problem in &problems {
        let evidence = Evidence::population(problem);
        for tau in [0.2, 1.0, 3.0] {
            let problem = at(problem, tau)?;
            let found = dro::algorithm_1(&problem, &evidence, tau)?;
            corrected = worse(corrected, found.regret.unwrap_or(f64::NAN));
        }
        let printed = |tau| -> Result<Option<f64>> {
            Ok(dro::algorithm_1_as_printed(&at(problem, tau)?, &evidence)?.regret)
        };
        at_one = worse(at_one, printed(1.0)?.unwrap_or(f64::NAN));
        biased = biased.min(printed(0.5)?.unwrap_or(f64::INFINITY));
        for (lost, tau) in lost.iter_mut().zip([1.1, 1.5, 2.0]) {
            *lost += usize::from(printed(tau)?.is_none());
        }
    }
    let toy = toy()?;
    let evidence = Evidence::population(&toy);
    let regret = |tau| -> Result<Option<f64>> {
        Ok(dro::algorithm_1_as_printed(&at(&toy, tau)?, &evidence)?.regret)
    };
    let number = |tau| -> Result<f64> { Ok(regret(tau)?.unwrap_or(f64::NAN)) };
    let diverges = regret(1.2)?.is_none() && regret(2.0)?.is_none() && regret(5.0)?.is_none();
    Ok(Finding::holds_if(
        corrected < 1e-12 && at_one < 1e-12,
        biased > 0.0 && number(0.5)? > 0.1 && diverges,
        format!(
            "{} random problems: corrected, regret at most {corrected:.1e} at τ = 0.2, 1 and 3; as \
             printed {at_one:.1e} at τ = 1, at least {biased:.1e} at ½, no limit on {}, {} and {} of \
             them at 1.1, 1.5 and 2; none on the toy at 1.2, 2 and 5",
            problems.len(),
            lost[0],
            lost[1],
            lost[2]
        ),
    )
    .measure("toy: τ above which policies far out run off", 1.0 / (1.0 - 0.075))
    .measure("toy, τ = 0.1: regret as printed", number(0.1)?)
    .measure("toy, τ = 0.5: regret as printed", number(0.5)?)
    .measure("toy, τ = 0.8: regret as printed", number(0.8)?)
    .measure("toy, τ = 1: regret as printed", number(1.0)?))
}
