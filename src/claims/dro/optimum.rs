//! The optimum, its uniqueness, and what else is called IPO.

use super::super::{Finding, random_problems, toy};
use super::row::{Row, apart, points, worse};
use crate::bandit::{Beta, Evidence, Policy, Problem, log_sum_exp, population};
use crate::error::Result;
use crate::loss::{InputKind, Objective};
use crate::solve::{dro, fixed_point, minimise};

pub(super) fn optimum() -> Result<Finding> {
    let problems = random_problems(200, 1)?;
    let (mut error, mut nearest) = (0.0f64, f64::INFINITY);
    for (key, problem) in problems.iter().enumerate() {
        let (tau, best) = (problem.beta(), problem.optimum());
        for (x, (prompt, (logits, _))) in problem
            .prompts()
            .iter()
            .zip(points(problem, key as u64, 3.0))
            .enumerate()
        {
            // Eq. 2 by itself, then the objective there and elsewhere.
            let tilted: Vec<f64> = (prompt.reward.iter().zip(&prompt.log_reference))
                .map(|(r, l)| l + r / tau)
                .collect();
            let value = tau * log_sum_exp(&tilted);
            let log: Vec<f64> = tilted.iter().map(|t| t - value / tau).collect();
            let reached = prompt.objective(&log, tau);
            error = worse(
                error,
                worse(apart(&log, &best.policy.log()[x]), reached - value),
            );
            let other = Row::new(prompt, &logits);
            nearest = nearest.min(value - prompt.objective(&other.log, tau));
        }
    }
    Ok(Finding::holds(
        error < 1e-12 && nearest > 0.0,
        format!(
            "{} random problems, largest error {error:.1e}; random policies are below by {nearest:.1e} \
             or more",
            problems.len()
        ),
    ))
}

/// L over logits and, last, V of one prompt, with its gradient.
fn joint<'a>(problem: &'a Problem) -> impl Fn(&[f64]) -> (f64, Vec<f64>) + 'a {
    let (prompt, tau) = (&problem.prompts()[0], problem.beta());
    move |at| {
        let (logits, value) = at.split_at(at.len() - 1);
        let row = Row::new(prompt, logits);
        let mut slope = row.slope(tau, value[0]);
        slope.push(value[0] - row.value(tau));
        (row.loss(tau, value[0]), slope)
    }
}

pub(super) fn theorem() -> Result<Finding> {
    let problems: Vec<Problem> = (random_problems(120, 2)?.into_iter())
        .filter(|p| p.prompts().len() == 1)
        .collect();
    let (mut zero, mut error) = (0.0f64, 0.0f64);
    for (key, problem) in problems.iter().enumerate() {
        let best = problem.optimum();
        let at_best = [best.policy.log()[0].clone(), best.value.clone()].concat();
        zero = worse(zero, joint(problem)(&at_best).0);
        let (logits, value) = points(problem, key as u64, 2.0).remove(0);
        let found = minimise::smooth(joint(problem), &[logits, vec![value]].concat())?.point;
        let (logits, value) = found.split_at(found.len() - 1);
        let policy = Policy::softmax(&[logits.to_vec()]).probabilities();
        error = worse(error, apart(&policy[0], &best.policy.probabilities()[0]));
        error = worse(error, value[0] - best.value[0]);
    }
    // Without the third arm: V = V_S + τ, by gradient flow from the reference.
    let problem = toy()?.map_prompts(|_, prompt| {
        prompt.law = crate::bandit::PairLaw::Product {
            first: vec![0.4, 0.6, 0.0],
            second: vec![0.4, 0.6, 0.0],
        };
    });
    let (prompt, tau) = (&problem.prompts()[0], problem.beta());
    let population = Evidence::population(&problem);
    let share = &population.of(InputKind::Singles)?.prompts[0];
    let shown: Vec<f64> = (0..2)
        .map(|a| prompt.log_reference[a] + prompt.reward[a] / tau)
        .collect();
    let value = tau * log_sum_exp(&shown) + tau;
    let part = dro::fixed_value_policy(0, prompt, share, tau, value)?;
    let row = Row::new(prompt, &part.log_policy.unwrap_or_default());
    let kept = row.pi[0] + row.pi[1];
    Ok(Finding::holds(
        zero < 1e-24 && error < 1e-5,
        format!(
            "{} random problems: loss {zero:.1e} at the optimum, and a numeric minimiser from random \
             starts comes to it within {error:.1e}",
            problems.len()
        ),
    )
    .measure("toy without arm 3: loss at V_S + τ", row.loss(tau, value))
    .measure("toy without arm 3: mass of the shown arms (e⁻¹)", kept))
}

pub(super) fn remark() -> Result<Finding> {
    let problems = random_problems(200, 3)?;
    let (mut corrected, mut printed) = (0.0f64, 0.0f64);
    for problem in &problems {
        let (tau, best) = (problem.beta(), problem.optimum());
        for (x, prompt) in problem.prompts().iter().enumerate() {
            for (a, log) in best.policy.log()[x].iter().enumerate() {
                let right = prompt.log_reference[a] + prompt.reward[a] / tau;
                corrected = worse(corrected, log + best.value[x] / tau - right);
                printed = worse(printed, log + best.value[x] - right);
            }
        }
    }
    Ok(Finding::misprint(
        corrected < 1e-12,
        printed > 0.1,
        format!(
            "{} random problems: largest error {corrected:.1e} with V*/τ, {printed:.1e} with V*",
            problems.len()
        ),
    ))
}

pub(super) fn ipo_form() -> Result<Finding> {
    let policy = |problem: &Problem, which| -> Result<(Vec<Vec<f64>>, f64)> {
        let found = fixed_point(which, problem, &Evidence::population(problem))?;
        let rows = found.policy.map_or_else(Vec::new, |p| p.probabilities());
        Ok((rows, found.regret.unwrap_or(f64::NAN)))
    };
    let problems = random_problems(48, 4)?;
    let (mut half, mut same) = (0.0f64, 0.0f64);
    for problem in &problems {
        // The gradient of the loss of (z − 1)², at IPO's limits.
        let slope = |beta| -> Result<f64> {
            let limit = policy(&problem.at(Beta::new("beta", beta)?), Objective::IPO)?.0;
            let log: Vec<Vec<f64>> = limit
                .iter()
                .map(|row| row.iter().map(|p| p.ln()).collect())
                .collect();
            let evidence = Evidence::population(problem);
            let at = population::evaluate(problem, &evidence, Objective::IPO_GPO, &log)?;
            Ok(crate::magnitude::largest(at.gradient.concat()))
        };
        half = worse(half, slope(problem.beta() / 2.0)?);
        same = worse(same, slope(problem.beta())?);
    }
    let toy = toy()?;
    Ok(Finding::holds_if(
        half < 1e-10,
        same > 0.01,
        format!(
            "{} random problems: its gradient at IPO's optimum is {half:.1e} at most if that is IPO at \
             β/2, up to {same:.2} at β",
            problems.len()
        ),
    )
    .measure(
        "toy: regret of (z − 1)²",
        policy(&toy, Objective::IPO_GPO)?.1,
    )
    .measure(
        "toy: regret of IPO at the same β",
        policy(&toy, Objective::IPO)?.1,
    ))
}
