//! Policy gradient off policy: what each baseline converges to.

use super::super::{Finding, random_problems, toy};
use super::at::{gap, logits, objective};
use crate::bandit::population::{Feed, evaluate_with};

use crate::bandit::{Evidence, Policy, Problem, population};
use crate::error::Result;
use crate::loss::{Baseline, Objective};
use crate::solve::fixed_point;
use crate::solve::flow::{Course, Frame, Numeric, follow};

/// The field with any baseline: the expected update of the logits of a problem of one prompt or
/// more.
fn field(problem: &Problem, baseline: &Baseline, logits: &[Vec<f64>]) -> Result<Vec<f64>> {
    let evidence = Evidence::population(problem);
    let loss = Objective::PG_ZERO.bind(&problem.given())?;
    let feed = Feed {
        baseline: Some(baseline.clone()),
        ..Feed::of(&loss)?
    };
    let at = evaluate_with(problem, &evidence, &feed, logits, |batch| {
        loss.on_tape(batch)
    })?;
    Ok(at.gradient.concat().iter().map(|g| -g).collect())
}

/// The regret where the flow from the reference comes to rest.
fn limit(problem: &Problem, baseline: &Baseline) -> f64 {
    let shape = problem.reference();
    let unflatten = |flat: &[f64]| -> Vec<Vec<f64>> {
        let mut rest = flat;
        let cut = |row: &Vec<f64>| {
            let (head, tail) = rest.split_at(row.len());
            rest = tail;
            head.to_vec()
        };
        shape.log().iter().map(cut).collect()
    };
    let force = |theta: &[f64]| field(problem, baseline, &unflatten(theta)).ok();
    let sizes = shape.log().iter().map(Vec::len).collect();
    let motion = Numeric::new(force, Frame::Logits(sizes));
    let end = follow(&motion, shape.log().concat(), Course::Basin);
    problem.regret(&Policy::softmax(&unflatten(&end.point)))
}

pub(super) fn only_this() -> Result<Finding> {
    let problems = random_problems(24, 7)?;
    // As the gradient of L, another baseline is another field.
    let mut nearest = f64::INFINITY;
    for (key, problem) in problems.iter().enumerate() {
        let at = logits(problem, key as u64, 2.0);
        let (_, gradient) = objective(problem, &at)?;
        let other = field(problem, &Baseline::SoftValue, &at)?;
        nearest = nearest.min(gap(&other, gradient.iter().flatten()));
    }
    // Yet its limit is π*.
    let mut regrets = [0.0f64; 3];
    for problem in &problems {
        let uniform = (problem.prompts().iter())
            .map(|p| vec![1.0 / p.arms() as f64; p.arms()])
            .collect();
        let second = problem
            .prompts()
            .iter()
            .map(|p| p.law.marginals().1)
            .collect();
        let baselines = [
            Baseline::SoftValue,
            Baseline::SoftValueUnder(uniform),
            Baseline::SoftValueUnder(second),
        ];
        for (regret, baseline) in regrets.iter_mut().zip(&baselines) {
            let r = limit(problem, baseline);
            *regret = if r <= *regret { *regret } else { r };
        }
    }
    let evidence = format!(
        "{} random problems: with ν = π, uniform, μ₂ the flow from the reference ends at regrets ≤ \
         {:.1e}, {:.1e}, {:.1e}",
        problems.len(),
        regrets[0],
        regrets[1],
        regrets[2]
    );
    let reached = regrets.iter().all(|r| *r < 1e-9);
    Ok(Finding::holds_if(nearest > 1e-3, reached, evidence))
}

/// The regret along the flow on the toy, at steps of `h` (Runge–Kutta 4).
fn along(baseline: &Baseline, h: f64, steps: usize) -> Result<Vec<f64>> {
    let problem = toy()?;
    let mut theta = problem.reference().log()[0].clone();
    let force = |theta: &[f64]| field(&problem, baseline, &[theta.to_vec()]);
    let plus = |theta: &[f64], by: f64, k: &[f64]| -> Vec<f64> {
        theta.iter().zip(k).map(|(t, k)| t + by * k).collect()
    };
    let mut regrets = Vec::with_capacity(steps);
    for _ in 0..steps {
        regrets.push(problem.regret(&Policy::softmax(&[theta.clone()])));
        let k1 = force(&theta)?;
        let k2 = force(&plus(&theta, h / 2.0, &k1))?;
        let k3 = force(&plus(&theta, h / 2.0, &k2))?;
        let k4 = force(&plus(&theta, h, &k3))?;
        for (i, t) in theta.iter_mut().enumerate() {
            *t += h / 6.0 * (k1[i] + 2.0 * k2[i] + 2.0 * k3[i] + k4[i]);
        }
    }
    Ok(regrets)
}

pub(super) fn none() -> Result<Finding> {
    let regrets = along(&Baseline::Given(0.0), 0.1, 300)?;
    let rises = regrets.windows(2).all(|w| w[1] > w[0]);
    let end = limit(&toy()?, &Baseline::Given(0.0));
    let problem = toy()?;
    let solved = fixed_point(
        Objective::PG_ZERO,
        &problem,
        &Evidence::population(&problem),
    )?;
    let solver = solved.regret.unwrap_or(f64::NAN);
    let evidence = format!(
        "toy: the regret rises at each of {} steps of the flow, from {:.6} towards {end:.12} ({solver:.12} \
         by Lambert's W)",
        regrets.len(),
        regrets[0]
    );
    let settles = (end - solver).abs() < 1e-9;
    Ok(Finding::holds(rises && settles, evidence).measure("limit", end))
}

pub(super) fn value() -> Result<Finding> {
    let problem = toy()?;
    let biased = limit(&problem, &Baseline::Value);
    let unbiased = limit(&problem, &Baseline::SoftValue);
    let dip = along(&Baseline::Value, 0.1, 300)?;
    let low = dip.iter().copied().fold(f64::INFINITY, f64::min);
    let at = population::evaluate(
        &problem,
        &Evidence::population(&problem),
        Objective::PG_SOFT_VALUE,
        problem.optimum().policy.log(),
    )?;
    let evidence = format!(
        "toy, by gradient flow: regret {biased:.12} with E_π[R], {unbiased:.1e} with E_π[R_β]"
    );
    let zero = crate::magnitude::largest(at.gradient.concat());
    let finding = Finding::holds_if(
        biased > 0.01 && biased < 0.02,
        unbiased < 1e-12 && zero < 1e-12,
        evidence,
    );
    Ok(finding
        .measure("regret with E_π[R]", biased)
        .measure("lowest on the way there", low))
}
