//! What leaves a solver: a simplex, a residual that is rounding, and a class of rest, on random
//! problems of 2 to 12 arms at temperatures from 1e-3 to 1e3.

use pistar::bandit::population::evaluate;
use pistar::bandit::{Evidence, Problem};
use pistar::loss::Objective;
use pistar::solve::{FixedPoint, Rest, fixed_point};
use proptest::prelude::*;

use super::common::strategies::{self as any_, settings};

/// Objectives whose limit a flow finds.
const FLOWS: [Objective; 6] = [
    Objective::PG_VALUE,
    Objective::DRO_CONSTANT,
    Objective::DRO_ALGORITHM_1,
    Objective::KTO,
    Objective::KTO_PER_PROMPT,
    Objective::KTO_NO_KL,
];

fn size(table: &[Vec<f64>]) -> f64 {
    table.iter().flatten().fold(0.0, |m, g| g.abs().max(m))
}

/// What must hold of every answer.
fn sound(problem: &Problem, objective: Objective, found: &FixedPoint) -> Result<(), TestCaseError> {
    let say = || {
        format!(
            "{objective:?} β = {}: {found:?}\n{}",
            problem.beta(),
            problem.to_json()
        )
    };
    prop_assert_eq!(
        found.policy.is_none(),
        found.rest == Rest::None,
        "{}",
        say()
    );
    let Some(policy) = &found.policy else {
        prop_assert!(found.regret.is_none() && found.residual.is_none() && !found.notes.is_empty());
        return Ok(());
    };
    for row in policy.probabilities() {
        prop_assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{}", say());
        prop_assert!(row.iter().all(|p| *p >= 0.0));
    }
    prop_assert!(found.regret.unwrap() >= 0.0);
    // An arm that is gone is the boundary's, or hides in a prompt that another's rest speaks for.
    if policy
        .log()
        .iter()
        .flatten()
        .any(|l| *l == f64::NEG_INFINITY)
    {
        prop_assert!(!matches!(found.rest, Rest::Stable), "{}", say());
    }
    prop_assert!(
        !found.unique || matches!(found.rest, Rest::Stable | Rest::Boundary),
        "{}",
        say()
    );
    // The unit of a residual: that of the gradient with respect to the logits or scores.
    let population = Evidence::population(problem);
    let start = if objective.spec().trains_scores() {
        problem
            .prompts()
            .iter()
            .map(|p| vec![0.0; p.arms()])
            .collect()
    } else {
        problem.reference().log().to_vec()
    };
    let unit =
        evaluate(problem, &population, objective, &start).map_or(1.0, |at| size(&at.gradient));
    let beta = problem.beta();
    let scale = 1.0 + unit + beta * beta + 1.0 / beta;
    prop_assert!(found.residual.unwrap() <= 1e-10 * scale, "{}", say());
    Ok(())
}

/// Whether the rest is what its class says, where that shows: the symmetric part of the Jacobian of an
/// interior rest of one prompt, taken from the loss's own gradients, pushes back or does not.
fn judged(
    problem: &Problem,
    objective: Objective,
    found: &FixedPoint,
) -> Result<(), TestCaseError> {
    let Some(policy) = &found.policy else {
        return Ok(());
    };
    let row = &policy.log()[0];
    let interior = row.iter().all(|l| *l > -12.0) && (0.1..10.0).contains(&problem.beta());
    if problem.prompts().len() > 1
        || !interior
        || objective.spec().trains_scores()
        || found.value.is_some()
    {
        return Ok(());
    }
    let population = Evidence::population(problem);
    let gradient = |logits: &[f64]| {
        let at = evaluate(problem, &population, objective, &[logits.to_vec()]).unwrap();
        at.gradient[0].clone()
    };
    // Follow the flow a little from beside the rest: a stable one draws it in.
    let n = row.len();
    let aside: Vec<f64> = (0..n)
        .map(|a| row[a] + 1e-4 * ((a * a + 1) as f64).sin())
        .collect();
    let away = |logits: &[f64]| {
        let gap: Vec<f64> = logits.iter().zip(row).map(|(a, b)| a - b).collect();
        let mean = gap.iter().sum::<f64>() / n as f64;
        gap.iter().map(|g| (g - mean).powi(2)).sum::<f64>().sqrt()
    };
    let before = away(&aside);
    let mut here = aside;
    let steepest = (0..n)
        .map(|a| {
            let mut moved = row.clone();
            moved[a] += 1e-5;
            gradient(&moved).iter().map(|g| g.abs()).fold(0.0, f64::max) / 1e-5
        })
        .fold(1e-300, f64::max);
    for _ in 0..400 {
        let g = gradient(&here);
        here.iter_mut()
            .zip(&g)
            .for_each(|(t, g)| *t -= 0.2 / steepest * g);
    }
    let after = away(&here);
    match found.rest {
        Rest::Stable | Rest::Neutral => {
            prop_assert!(after <= 1.01 * before, "{objective:?} {found:?}")
        }
        _ => {}
    }
    Ok(())
}

proptest! {
    #![proptest_config(settings("tests/regressions/answers.txt", 40))]

    #[test]
    fn every_answer_is_sound(problem in any_::wide()) {
        for objective in Objective::ALL.into_iter().filter(|o| !FLOWS.contains(o)) {
            let found = fixed_point(objective, &problem, &Evidence::population(&problem)).unwrap();
            sound(&problem, objective, &found)?;
            judged(&problem, objective, &found)?;
        }
    }
}

proptest! {
    #![proptest_config(settings("tests/regressions/answers_flows.txt", 8))]

    #[test]
    fn every_flow_ends_or_says_so(problem in any_::wide()) {
        for objective in FLOWS {
            let found = fixed_point(objective, &problem, &Evidence::population(&problem)).unwrap();
            sound(&problem, objective, &found)?;
            judged(&problem, objective, &found)?;
        }
    }
}
