//! RRHF and PRO, stated from their definitions.

use pistar::bandit::population::evaluate;
use pistar::bandit::{Evidence, Problem};
use pistar::loss::{Batch, Given, Objective};
use pistar::solve::{Rest, fixed_point};
use proptest::collection::vec;
use proptest::prelude::*;

use super::common::distance;

/// A list's loss and gradient by a program's batch: `log` and `tokens` from worst to best.
fn run(objective: Objective, given: &Given, log: &[f64], tokens: &[f64]) -> (f64, Vec<f64>) {
    let n = log.len();
    let mut batch = Batch {
        sizes: vec![n],
        weight: vec![1.0],
        ..Batch::default()
    };
    batch.log_policy[0] = log.to_vec();
    batch.tokens[0] = tokens.to_vec();
    batch.reward[0] = (1..=n)
        .map(|j| (2.0 * j as f64 - n as f64 - 1.0) / n as f64)
        .collect();
    let out = objective.bind(given).unwrap().on_tape(&batch).unwrap();
    (out.value, out.gradient[0].clone())
}

fn given(sft_weight: f64, scale: f64) -> Given {
    Given::new()
        .with("sft_weight", sft_weight)
        .with("advantage_scale", scale)
}

/// The authors' code, in plain numbers: `scores` best first, as theirs are.
fn pro_by_the_code(log: &[f64], tokens: &[f64], s: f64, scale: f64) -> f64 {
    let n = log.len();
    let best_first = |i: usize| n - 1 - i;
    let score = |i: usize| log[best_first(i)] / tokens[best_first(i)];
    let reward = |i: usize| (n as f64 - 1.0 - 2.0 * i as f64) / n as f64 * scale;
    let mut loss = 0.0;
    for time in 0..n.saturating_sub(1) {
        let negative: Vec<f64> = (time + 1..n).map(|i| reward(time) - reward(i)).collect();
        let positive = negative.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let below: f64 = (time + 1..n)
            .zip(&negative)
            .map(|(i, t)| (score(i) * t).exp())
            .sum();
        loss += ((score(time) * positive).exp() + below).ln() - score(time) * positive;
    }
    loss + s * (n as f64 - 1.0).powi(2) * -log[n - 1]
}

fn rrhf_by_the_code(log: &[f64], tokens: &[f64], weight: f64) -> f64 {
    let score: Vec<f64> = log.iter().zip(tokens).map(|(l, t)| l / t).collect();
    let mut loss = 0.0;
    for (j, better) in score.iter().enumerate() {
        loss += score[..j]
            .iter()
            .filter(|worse| *worse > better)
            .map(|worse| worse - better)
            .sum::<f64>();
    }
    loss - weight * log[log.len() - 1]
}

fn lists() -> impl Strategy<Value = Vec<(f64, u32)>> {
    vec((-6.0..-0.01f64, 1..9u32), 1..6)
}

proptest! {
    #![proptest_config(super::common::strategies::settings("tests/regressions/ranking.txt", 64))]

    #[test]
    fn losses_are_the_authors(list in lists(), s in 0.0..2.0f64, scale in 0.2..3.0f64) {
        let (log, tokens): (Vec<f64>, Vec<f64>) =
            list.iter().map(|(l, t)| (*l, f64::from(*t))).unzip();
        let near = |a: f64, b: f64| (a - b).abs() < 1e-11 * (1.0 + b.abs());
        let (rrhf, _) = run(Objective::RRHF, &given(s, scale), &log, &tokens);
        prop_assert!(near(rrhf, rrhf_by_the_code(&log, &tokens, s)));
        let (pro, _) = run(Objective::PRO, &given(s, scale), &log, &tokens);
        prop_assert!(near(pro, pro_by_the_code(&log, &tokens, s, scale)));
    }

    /// By differences, away from RRHF's kinks.
    #[test]
    fn gradients_are_slopes(list in lists(), s in 0.0..2.0f64, scale in 0.2..3.0f64) {
        let (log, tokens): (Vec<f64>, Vec<f64>) =
            list.iter().map(|(l, t)| (*l, f64::from(*t))).unzip();
        let h = 1e-5;
        let score: Vec<f64> = log.iter().zip(&tokens).map(|(l, t)| l / t).collect();
        let kink = (0..score.len()).any(|j| (0..j).any(|i| (score[i] - score[j]).abs() < 2.0 * h));
        for objective in [Objective::RRHF, Objective::PRO] {
            if kink && objective == Objective::RRHF {
                continue;
            }
            let numbers = given(s, scale);
            let (_, gradient) = run(objective, &numbers, &log, &tokens);
            for (i, g) in gradient.iter().enumerate() {
                let at = |by: f64| {
                    let mut moved = log.clone();
                    moved[i] += by;
                    run(objective, &numbers, &moved, &tokens).0
                };
                let slope = (at(h) - at(-h)) / (2.0 * h);
                prop_assert!((slope - g).abs() < 1e-6 * (1.0 + g.abs()), "{objective:?} {i}");
            }
        }
    }
}

/// Where two responses are equally likely neither is pushed, as in the code, which takes what is strictly wrong.
#[test]
fn a_tie_has_no_slope() {
    let (value, gradient) = run(
        Objective::RRHF,
        &given(0.0, 1.0),
        &[-2.0, -2.0, -1.0],
        &[1.0; 3],
    );
    assert_eq!((value, gradient), (0.0, vec![0.0; 3]));
    // By the mean of their tokens, not by their sum.
    let (value, gradient) = run(
        Objective::RRHF,
        &given(0.0, 1.0),
        &[-2.0, -3.0],
        &[1.0, 3.0],
    );
    assert_eq!((value, gradient), (0.0, vec![0.0; 2]));
    let (value, gradient) = run(
        Objective::RRHF,
        &given(0.0, 1.0),
        &[-3.0, -2.0],
        &[3.0, 1.0],
    );
    assert_eq!(value, 1.0);
    assert_eq!(gradient, [1.0 / 3.0, -1.0]);
}

fn problem(ranking: &str) -> Problem {
    Problem::from_json(&format!(
        r#"{{"beta": 0.5, "prompts": [{{"reward": [2.5, 2.0, 1.0, 0.0], "ranking": {ranking},
            "reference": [0.1, 0.2, 0.3, 0.4], "behavior": [[0.25, 0.25, 0.25, 0.25]]}}]}}"#
    ))
    .unwrap()
}

#[test]
fn the_limit_is_the_best_response() {
    for ranking in ["[3, 2, 1, 0]", "[3, 1]", "[0, 2, 3]"] {
        let problem = problem(ranking);
        let best = problem.prompts()[0].ranking.as_ref().unwrap()[..]
            .last()
            .copied()
            .unwrap();
        for objective in [Objective::RRHF, Objective::PRO] {
            let found = fixed_point(objective, &problem, &Evidence::population(&problem)).unwrap();
            assert_eq!(found.rest, Rest::Boundary);
            assert!(found.unique);
            let policy = found.policy.unwrap().probabilities();
            let mut all = vec![0.0; 4];
            all[best as usize] = 1.0;
            assert_eq!(policy, [all], "{objective:?}");
        }
    }
}

/// Plain descent, long: the loss falls towards 0, and with it goes what is not the best.
#[test]
fn descent_goes_to_the_limit() {
    for ranking in ["[3, 2, 1, 0]", "[0, 2, 3]"] {
        let problem = problem(ranking);
        let evidence = Evidence::population(&problem);
        for objective in [Objective::RRHF, Objective::PRO] {
            let mut logits = problem.reference().log().to_vec();
            let (mut first, mut last) = (None, 0.0);
            for _ in 0..40_000 {
                let here = evaluate(&problem, &evidence, objective, &logits).unwrap();
                first.get_or_insert(here.value);
                last = here.value;
                for (l, g) in logits[0].iter_mut().zip(&here.gradient[0]) {
                    *l -= 0.05 * g;
                }
            }
            let end = pistar::bandit::Policy::softmax(&logits).probabilities();
            let limit = fixed_point(objective, &problem, &evidence).unwrap();
            let limit = limit.policy.unwrap().probabilities();
            let gap = distance(&end, &limit);
            assert!(gap < 0.02, "{objective:?} {ranking} {gap}");
            assert!(
                last < 0.1 * first.unwrap(),
                "{objective:?} {ranking} {last}"
            );
        }
    }
}

/// Without the likelihood every policy in the order of the ranking is a minimum of RRHF: the reference stays where it is
/// one, and else some one is found.
#[test]
fn without_likelihood_rrhf_ends_in_order() {
    let none = Given::new().with("sft_weight", 0.0);
    let problem = problem("[3, 2, 1, 0]").with_numbers(&none);
    let evidence = Evidence::population(&problem);
    let found = fixed_point(Objective::RRHF, &problem, &evidence).unwrap();
    assert!(!found.unique);
    let policy = found.policy.unwrap();
    let loss = |at: &[Vec<f64>]| {
        evaluate(&problem, &evidence, Objective::RRHF, at)
            .unwrap()
            .value
    };
    assert!(loss(policy.log()) < 1e-3, "{:?}", policy.probabilities());
    assert!(loss(problem.reference().log()) > 4.0);
    let ordered = Problem::from_json(
        r#"{"beta": 0.5, "prompts": [{"reward": [2.0, 1.0, 0.0], "ranking": [2, 1, 0],
            "reference": [0.5, 0.3, 0.2], "behavior": [[0.4, 0.3, 0.3]]}]}"#,
    )
    .unwrap()
    .with_numbers(&none);
    let found = fixed_point(Objective::RRHF, &ordered, &Evidence::population(&ordered)).unwrap();
    let policy = found.policy.unwrap().probabilities();
    assert!(distance(&policy, &[vec![0.5, 0.3, 0.2]]) < 1e-9);
}

/// A list of one: RRHF is the likelihood, PRO nothing.
#[test]
fn a_list_of_one() {
    let problem = problem("[2]");
    let evidence = Evidence::population(&problem);
    let policy = |objective| {
        let found = fixed_point(objective, &problem, &evidence).unwrap();
        (found.rest, found.policy.unwrap().probabilities().remove(0))
    };
    assert_eq!(
        policy(Objective::RRHF),
        (Rest::Boundary, vec![0.0, 0.0, 1.0, 0.0])
    );
    let (rest, stays) = policy(Objective::PRO);
    assert_eq!(rest, Rest::Neutral);
    assert!(distance(&[stays], &[vec![0.1, 0.2, 0.3, 0.4]]) < 1e-15);
}
