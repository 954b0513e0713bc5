//! Identities between the equations.

use super::super::{Finding, random_problems, toy};
use super::at::{At, gap, logits, mean, objective, pairs};
use crate::bandit::{Evidence, PairLaw, Policy, Problem, population};
use crate::error::Result;
use crate::loss::Objective;
use crate::magnitude::larger;
use crate::solve::minimise;

const BOUND: f64 = 1e-12;

fn said(problems: usize, error: f64) -> String {
    format!("{problems} random problems, largest difference {error:.1e}")
}

/// The largest of one error for each of `count` random problems at random logits.
fn worst(count: u64, error: impl Fn(&Problem, &[Vec<f64>]) -> Result<f64>) -> Result<f64> {
    let mut most = 0.0f64;
    for (key, problem) in random_problems(count, 1)?.iter().enumerate() {
        let e = error(problem, &logits(problem, key as u64, 2.0))?;
        most = if e <= most { most } else { e };
    }
    Ok(most)
}

pub(super) fn optimum() -> Result<Finding> {
    let (mut identity, mut found) = (0.0f64, 0.0f64);
    let problems = random_problems(40, 5)?;
    for (key, problem) in problems.iter().enumerate() {
        let beta = problem.beta();
        let optimum = problem.optimum();
        let start = logits(problem, key as u64, 2.0);
        let policy = Policy::softmax(&start);
        let shortfall = optimum.objective - problem.objective(&policy);
        identity = larger(identity, (shortfall - problem.regret(&policy)).abs());
        // A numeric maximiser of J that knows only its gradient.
        for (x, prompt) in problem.prompts().iter().enumerate() {
            let loss = |l: &[f64]| {
                let at = At::new(prompt, l);
                let value = -mean(&at.pi, &at.regularised(beta));
                (value, at.policy_gradient(beta).iter().map(|g| -g).collect())
            };
            let at = At::new(prompt, &minimise::smooth(loss, &start[x])?.point);
            let want: Vec<f64> = optimum.policy.log()[x].iter().map(|l| l.exp()).collect();
            found = larger(found, gap(&at.pi, &want));
        }
    }
    let evidence = format!(
        "{} random problems, |π − π*| ≤ {found:.1e} from random starts, identity to {identity:.1e}",
        problems.len()
    );
    Ok(Finding::holds(found < 1e-7 && identity < 1e-11, evidence))
}

pub(super) fn on_policy_baseline() -> Result<Finding> {
    let error = worst(200, |problem, logits| {
        let beta = problem.beta();
        let errors = At::every(problem, logits).into_iter().map(|at| {
            let rewards = at.regularised(beta);
            let shifted: Vec<f64> = (at.pi.iter().zip(&rewards))
                .map(|(p, r)| p * (r - 3.7))
                .collect();
            // J's own slopes, by differences of J.
            let slope = |a: usize, h: f64| {
                let mut moved: Vec<f64> = (at.u.iter().zip(&at.prompt.log_reference))
                    .map(|(u, l)| u + l)
                    .collect();
                moved[a] += h;
                let there = At::new(at.prompt, &moved);
                mean(&there.pi, &there.regularised(beta))
            };
            let slopes: Vec<f64> = (0..at.pi.len())
                .map(|a| (slope(a, 1e-4) - slope(a, -1e-4)) / 2e-4)
                .collect();
            gap(&at.along(&shifted), &slopes)
        });
        Ok(errors.fold(0.0, larger))
    })?;
    let evidence = format!("200 random problems, against differences of J to {error:.1e}");
    Ok(Finding::holds(error < 1e-6, evidence))
}

pub(super) fn importance_sampling() -> Result<Finding> {
    let error = worst(200, |problem, logits| {
        let beta = problem.beta();
        let errors = At::every(problem, logits).into_iter().map(|at| {
            let ratio: Vec<f64> = at.pi.iter().zip(&at.first).map(|(p, m)| p / m).collect();
            let rewards = at.regularised(beta);
            let product = |b: f64| -> Vec<f64> {
                (0..ratio.len())
                    .map(|a| at.first[a] * ratio[a] * (rewards[a] - b))
                    .collect()
            };
            let value = (product(0.0).iter().sum::<f64>() - mean(&at.pi, &rewards)).abs();
            value.max(gap(&at.along(&product(0.4)), &at.policy_gradient(beta)))
        });
        Ok(errors.fold(0.0, larger))
    })?;
    // Variance of one sample's J on the toy, at μ itself and at π*.
    let problem = toy()?;
    let prompt = &problem.prompts()[0];
    let variance = |log: &[f64]| {
        let at = At::new(prompt, log);
        let rewards = at.regularised(problem.beta());
        let samples: Vec<f64> = (0..log.len())
            .map(|a| at.pi[a] / at.first[a] * rewards[a])
            .collect();
        let squares: Vec<f64> = samples.iter().map(|s| s * s).collect();
        mean(&at.first, &squares) - mean(&at.first, &samples).powi(2)
    };
    let law: Vec<f64> = At::new(prompt, &[0.0; 3])
        .first
        .iter()
        .map(|p| p.ln())
        .collect();
    let near = variance(&law);
    let far = variance(&problem.optimum().policy.log()[0]);
    Ok(
        Finding::holds(error < BOUND && far > near, said(200, error))
            .measure("toy variance of one sample at π = μ", near)
            .measure("at π*", far),
    )
}

pub(super) fn rewritten() -> Result<Finding> {
    let error = worst(200, |problem, logits| {
        let mut sum = 0.0;
        for at in At::every(problem, logits) {
            let rewards = at.regularised(problem.beta() / 2.0);
            let (m1, m2) = (mean(&at.first, &rewards), mean(&at.second, &rewards));
            for (a, reward) in rewards.iter().enumerate() {
                let under_first = at.first[a] * (reward - m2);
                let under_second = at.second[a] * (reward - m1);
                sum += at.prompt.weight * (under_first + under_second) * at.u[a];
            }
        }
        let (value, _) = objective(problem, logits)?;
        Ok(gap(&[sum], &[value]))
    })?;
    Ok(Finding::holds(error < BOUND, said(200, error)))
}

pub(super) fn gradient() -> Result<Finding> {
    let (formula, linear) = (
        worst(200, |problem, logits| {
            let want: Vec<f64> = (At::every(problem, logits).into_iter())
                .flat_map(|at| {
                    let rewards = at.regularised(problem.beta());
                    let (m1, m2) = (mean(&at.first, &rewards), mean(&at.second, &rewards));
                    let c: Vec<f64> = (0..rewards.len())
                        .map(|a| at.first[a] * (rewards[a] - m2) + at.second[a] * (rewards[a] - m1))
                        .map(|c| at.prompt.weight * c)
                        .collect();
                    at.along(&c)
                })
                .collect();
            let (_, gradient) = objective(problem, logits)?;
            Ok(gap(gradient.iter().flatten(), &want))
        })?,
        worst(200, |problem, logits| {
            let want: Vec<f64> = (At::every(problem, logits).into_iter())
                .flat_map(|at| {
                    let rewards = at.regularised(problem.beta());
                    let k = rewards.len();
                    let flow = |a: usize, b: usize| {
                        let w = at.first[a] * at.second[b] + at.first[b] * at.second[a];
                        at.prompt.weight * w * (rewards[a] - rewards[b])
                    };
                    (0..k)
                        .map(|a| (0..k).map(|b| flow(a, b)).sum())
                        .collect::<Vec<f64>>()
                })
                .collect();
            let (_, gradient) = objective(problem, logits)?;
            Ok(gap(gradient.iter().flatten(), &want))
        })?,
    );
    let differences = worst(40, |problem, logits| {
        let (_, gradient) = objective(problem, logits)?;
        let mut slopes = Vec::new();
        for x in 0..logits.len() {
            for a in 0..logits[x].len() {
                let at = |h: f64| -> Result<f64> {
                    let mut moved = logits.to_vec();
                    moved[x][a] += h;
                    Ok(objective(problem, &moved)?.0)
                };
                slopes.push((at(1e-4)? - at(-1e-4)?) / 2e-4);
            }
        }
        Ok(gap(gradient.iter().flatten(), &slopes))
    })?;
    let holds = formula < BOUND && linear < BOUND && differences < 1e-7;
    Ok(Finding::holds(holds, said(200, formula))
        .measure("difference from the Laplacian form", linear)
        .measure("from finite differences of L", differences))
}

pub(super) fn one_law() -> Result<Finding> {
    let error = worst(200, |problem, logits| {
        let same = problem.map_prompts(|_, prompt| {
            let (first, _) = prompt.law.marginals();
            let second = first.clone();
            prompt.law = PairLaw::Product { first, second };
        });
        let want: Vec<f64> = (At::every(&same, logits).into_iter())
            .flat_map(|at| {
                let rewards = at.regularised(same.beta());
                let baseline = mean(&at.first, &rewards);
                let c: Vec<f64> = (rewards.iter().zip(&at.first))
                    .map(|(r, m)| 2.0 * at.prompt.weight * m * (r - baseline))
                    .collect();
                at.along(&c)
            })
            .collect();
        let (_, gradient) = objective(&same, logits)?;
        Ok(gap(gradient.iter().flatten(), &want))
    })?;
    Ok(Finding::holds(error < BOUND, said(200, error)))
}

pub(super) fn pair_gradient() -> Result<Finding> {
    let error = worst(200, |problem, logits| {
        let mut most = 0.0f64;
        for at in At::every(problem, logits) {
            let k = at.pi.len();
            let rewards = at.regularised(problem.beta());
            let have = pairs(&at, &at.prompt.reward, problem.beta(), false)?.gradient;
            let want: Vec<f64> = (0..k * k)
                .map(|i| rewards[i / k] - rewards[i % k])
                .collect();
            let opposite: Vec<f64> = want.iter().map(|w| -w).collect();
            most = larger(most, gap(&have[0], &want)).max(gap(&have[1], &opposite));
        }
        Ok(most)
    })?;
    Ok(Finding::holds(error < BOUND, said(200, error)))
}

pub(super) fn square() -> Result<Finding> {
    let error = worst(200, |problem, logits| {
        let beta = problem.beta();
        let mut most = 0.0f64;
        for at in At::every(problem, logits) {
            let have = pairs(&at, &at.prompt.reward, beta, false)?
                .gradient
                .concat();
            let squares = pairs(&at, &at.prompt.reward, beta, true)?.gradient.concat();
            let want: Vec<f64> = squares.iter().map(|g| -g / (2.0 * beta)).collect();
            most = larger(most, gap(&have, &want));
        }
        Ok(most)
    })?;
    Ok(Finding::holds(error < BOUND, said(200, error)))
}

pub(super) fn completed_square() -> Result<Finding> {
    let error = worst(200, |problem, logits| {
        let evidence = Evidence::population(problem);
        let at = |o| population::evaluate(problem, &evidence, o, logits);
        let (a, b) = (at(Objective::COPG)?, at(Objective::COPG_COMPLETED)?);
        Ok(gap(&[a.value], &[b.value]).max(gap(
            a.gradient.iter().flatten(),
            b.gradient.iter().flatten(),
        )))
    })?;
    Ok(Finding::holds(error < BOUND, said(200, error)))
}

pub(super) fn square_wording() -> Result<Finding> {
    let (mut printed, mut corrected) = (f64::INFINITY, 0.0f64);
    let problems = random_problems(200, 1)?;
    for (key, problem) in problems.iter().enumerate() {
        let beta = problem.beta();
        let mut apart = 0.0f64;
        for at in At::every(problem, &logits(problem, key as u64, 2.0)) {
            for a in 0..at.pi.len() {
                let (r, v) = (
                    at.prompt.reward[a] - at.prompt.reward[0],
                    beta * (at.u[a] - at.u[0]),
                );
                let line_b = (r - 0.5 * v) * v;
                let form = 0.5 * v * v - v * r;
                apart = larger(apart, (line_b - form).abs() / (1.0 + form.abs()));
                corrected = larger(corrected, (line_b + form).abs() / (1.0 + form.abs()));
            }
        }
        printed = printed.min(apart);
    }
    Ok(Finding::misprint(
        corrected < BOUND,
        printed > 1e-6,
        said(problems.len(), corrected) + " from the negated form",
    ))
}
