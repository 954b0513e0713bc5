//! What the Advantage Model's scores are.

use super::super::{Finding, random_problems};
use super::{MARGIN, distance, random_policy, scores};
use crate::bandit::{Evidence, Problem};
use crate::error::Result;
use crate::loss::InputKind;
use crate::magnitude::{larger, largest};
use crate::solve;
use crate::solve::advantage::{Form, estimator};

pub(super) fn differences_only() -> Result<Finding> {
    let problems = random_problems(100, 502)?;
    let (mut model, mut advantage) = (0.0f64, f64::INFINITY);
    for problem in &problems {
        let population = Evidence::population(problem);
        let pairs = population.of(InputKind::LabelledPairs)?;
        for (x, (prompt, share)) in problem.prompts().iter().zip(&pairs.prompts).enumerate() {
            let edges = share.compared().edges(&prompt.reward);
            let ranking = |shift: f64| -> f64 {
                let r = |a: u32| prompt.reward[a as usize] + shift;
                let loss = crate::backend::nd::softplus;
                let each = edges
                    .iter()
                    .map(|e| e.wins * loss(r(e.b) - r(e.a)) + e.losses * loss(r(e.a) - r(e.b)));
                each.sum()
            };
            model = larger(model, (ranking(3.0) - ranking(0.0)).abs());
            let found = solve::advantage::loss;
            let form = Form::SelfPairs;
            let row = &scores(problem, MARGIN, form)?[x];
            let at = |shift: f64| -> Result<f64> {
                let moved: Vec<f64> = row.iter().map(|a| a + shift).collect();
                Ok(found(prompt, share, MARGIN, form, &moved)?.0)
            };
            let lowest = at(0.0)?;
            advantage = advantage.min((at(0.1)? - lowest).min(at(-0.1)? - lowest));
        }
    }
    Ok(Finding::holds(
        model < 1e-13 && advantage > 0.0,
        format!(
            "{} random problems: a constant changes eq. 1 by {model:.0e} at most, and raises eq. 6 above its minimum by {advantage:.1e} at least",
            problems.len()
        ),
    ))
}

pub(super) fn expected_advantage() -> Result<Finding> {
    let problems = random_problems(200, 504)?;
    let (mut error, mut mean, mut shift, mut blind) = (0.0f64, 0.0f64, 0.0f64, 0.0f64);
    for (problem, key) in problems.iter().zip(0..) {
        let current = random_policy(problem, 2.0, key).probabilities();
        let proposal = random_policy(problem, 2.0, 1000 + key).probabilities();
        for (x, prompt) in problem.prompts().iter().enumerate() {
            let (current, mut proposal, r) = (&current[x], proposal[x].clone(), &prompt.reward);
            let a = estimator::importance(r, current, &proposal);
            error = larger(error, distance(&a, &estimator::advantage(r, current)));
            mean = larger(mean, estimator::mean(&a, current).abs());
            let shifted: Vec<f64> = r.iter().map(|r| r + 7.0).collect();
            shift = larger(
                shift,
                distance(&a, &estimator::importance(&shifted, current, &proposal)),
            );
            // A proposal that never shows the last response.
            let last = proposal.pop().unwrap_or(0.0);
            proposal.iter_mut().for_each(|q| *q /= 1.0 - last);
            proposal.push(0.0);
            let without = estimator::importance(r, current, &proposal);
            blind = larger(blind, distance(&without, &estimator::advantage(r, current)));
        }
    }
    let covered = error.max(mean).max(shift);
    Ok(Finding::holds_if(
        covered < 1e-13,
        blind > 0.01,
        format!(
            "{} random problems: error, mean and change under a shift {covered:.0e}; with one response never proposed it is off by up to {blind:.2}",
            problems.len()
        ),
    ))
}

pub(super) fn several_proposals() -> Result<Finding> {
    let problems = random_problems(200, 505)?;
    let (mut right, mut shrunk, mut off_mean, mut inversions) = (0.0f64, 0.0f64, 0.0f64, 0usize);
    for (problem, key) in problems.iter().zip(0..) {
        let current = random_policy(problem, 2.0, key).probabilities();
        let k = 1 + (key % 3) as usize;
        let n = (k as u64 + key % 2) as f64;
        let proposals: Vec<_> = (0..k as u64)
            .map(|k| random_policy(problem, 2.0, 10_000 + 10 * key + k).probabilities())
            .collect();
        for (x, prompt) in problem.prompts().iter().enumerate() {
            let (pi, r) = (&current[x], &prompt.reward);
            let truth = estimator::advantage(r, pi);
            let others: Vec<Vec<f64>> = proposals.iter().map(|p| p[x].clone()).collect();
            right = larger(
                right,
                distance(&estimator::expected_estimate(r, pi, &others, n), &truth),
            );
            let on = estimator::printed_estimate(r, pi, &vec![pi.clone(); k], n);
            let less: Vec<f64> = truth.iter().map(|a| (1.0 - k as f64 / n) * a).collect();
            shrunk = larger(shrunk, distance(&on, &less));
            let off = estimator::printed_estimate(r, pi, &others, n);
            off_mean = larger(off_mean, estimator::mean(&off, pi).abs());
            let order = |v: &[f64], i: usize, j: usize| v[i] > v[j];
            let arms = 0..r.len();
            inversions += (arms.clone().flat_map(|i| arms.clone().map(move |j| (i, j))))
                .filter(|&(i, j)| order(&truth, i, j) && order(&off, j, i))
                .count();
        }
    }
    Ok(Finding::misprint(
        right < 1e-13 && shrunk < 1e-12,
        off_mean > 0.1 && inversions > 0,
        format!(
            "{} random problems, K of 1 to 3 and N of K or K + 1: as it must read {right:.0e} from eq. 5; as printed (1 − K/N)·a on policy to {shrunk:.0e}, off policy a mean up to {off_mean:.2} and {inversions} pairs in the wrong order",
            problems.len()
        ),
    ))
}

pub(super) fn models_the_advantage() -> Result<Finding> {
    let problems = random_problems(60, 506)?;
    let (mut wide, mut mean, mut gap) = (0.0f64, 0.0f64, 0.0f64);
    for (problem, key) in problems.iter().zip(0..) {
        let policy = random_policy(problem, 1.0, key).probabilities();
        let problem = problem.map_prompts(|x, prompt| prompt.centre = Some(policy[x].clone()));
        let centred = scores(&problem, 60.0, Form::Centred)?;
        let free = scores(&problem, MARGIN, Form::SelfPairs)?;
        for (x, prompt) in problem.prompts().iter().enumerate() {
            let truth = estimator::advantage(&prompt.reward, &policy[x]);
            wide = larger(wide, distance(&centred[x], &truth));
            mean = larger(mean, estimator::mean(&free[x], &policy[x]).abs());
            let moved = estimator::advantage(&free[x], &policy[x]);
            gap = larger(gap, distance(&moved, &truth));
        }
    }
    Ok(Finding::holds_if(
        wide < 1e-9,
        mean > 0.1 && gap > 0.1,
        format!(
            "{} random problems: centred at m = 60 it is r − E_φ[r] to {wide:.0e}; free at m = 2.5 its mean is up to {mean:.2}, and centred afterwards it is off by up to {gap:.2}",
            problems.len()
        ),
    ))
}

pub(super) fn bounded() -> Result<Finding> {
    let mut ratio = 0.0f64;
    let problems = random_problems(200, 507)?;
    for (problem, i) in problems.iter().zip(0..) {
        let margin = [0.1, 0.5, 2.5, 10.0][i % 4];
        for form in [Form::SelfPairs, Form::Distinct] {
            let table = scores(problem, margin, form)?;
            ratio = larger(ratio, largest(table.into_iter().flatten()) / margin);
        }
    }
    let problem = Problem::from_json(
        r#"{"beta": 1, "prompts": [{"reward": [2.19, 1.53, -6.19],
            "behavior": [[0.005, 0.99, 0.005], [0.005, 0.005, 0.99]]}]}"#,
    )?
    .map_prompts(|_, prompt| prompt.centre = Some(vec![0.143, 0.855, 0.002]));
    let centred = scores(&problem, MARGIN, Form::Centred)?;
    let outside = largest(centred.into_iter().flatten()) / MARGIN;
    Ok(Finding::holds_if(
        ratio < 1.0,
        outside > 1.0,
        format!(
            "{} random problems at four margins, with and without self pairs: largest |a|/m {ratio:.2}; a centred counterexample has {outside:.2}",
            problems.len()
        ),
    )
    .measure("largest |a|/m, free", ratio)
    .measure("|a|/m, centred", outside))
}
