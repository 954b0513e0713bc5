//! SLiC (sequence likelihood calibration): the linear program with integer vertices, against brute
//! force and a simplex search.

use pistar::backend::nd::sigmoid;
use pistar::bandit::population::evaluate;
use pistar::bandit::{Evidence, Policy, Problem};
use pistar::loss::Objective;
use pistar::solve::{FixedPoint, fixed_point, minimise::kinked};
use proptest::prelude::*;

use super::common::strategies::{self as any_, fit, settings, table, weight};

const REGRESSIONS: &str = "tests/regressions/slic.txt";

/// Masses sum to one, so the loss is a few units and its rounding 1e-15.
const TIE: f64 = 1e-12;

/// `pull[a][b]`: mass of the pairs that a wins against b.
type Wins = Vec<Vec<f64>>;

/// `Σ wins_ab (1 − (z_a − z_b))₊` over one prompt, z = βu.
fn loss(wins: &Wins, z: &[f64]) -> f64 {
    let mut sum = 0.0;
    for (a, row) in wins.iter().enumerate() {
        for (b, w) in row.iter().enumerate().filter(|&(b, _)| b != a) {
            sum += w * (1.0 - (z[a] - z[b])).max(0.0);
        }
    }
    sum
}

/// The population's wins: Bradley–Terry labels of w_ab.
fn population_wins(problem: &Problem) -> Wins {
    let prompt = &problem.prompts()[0];
    let win =
        |a: usize, b: usize| weight(prompt, a, b) * sigmoid(prompt.reward[a] - prompt.reward[b]);
    (0..prompt.arms())
        .map(|a| (0..prompt.arms()).map(|b| win(a, b)).collect())
        .collect()
}

/// The least loss over integer vectors with z₀ = 0, and how many attain it. No minimiser has two
/// arms more than K − 1 apart unless a component is free to move, so the box holds them all.
fn brute_force(wins: &Wins) -> (f64, usize) {
    let k = wins.len();
    let side = 2 * k - 1;
    let values: Vec<f64> = (0..side.pow(k as u32 - 1))
        .map(|mut code| {
            let mut z = vec![0.0];
            for _ in 1..k {
                z.push((code % side) as f64 - (k - 1) as f64);
                code /= side;
            }
            loss(wins, &z)
        })
        .collect();
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    (least, values.iter().filter(|v| **v < least + TIE).count())
}

fn z_of(problem: &Problem, policy: &Policy) -> Vec<f64> {
    let prompt = &problem.prompts()[0];
    let u = policy.log()[0]
        .iter()
        .zip(&prompt.log_reference)
        .map(|(l, r)| problem.beta() * (l - r));
    u.collect()
}

fn agrees_with_brute_force(
    problem: &Problem,
    found: &FixedPoint,
    wins: &Wins,
) -> Result<(), TestCaseError> {
    let z = z_of(problem, found.policy.as_ref().unwrap());
    let (least, ties) = brute_force(wins);
    prop_assert!(
        (loss(wins, &z) - least).abs() < TIE,
        "{} {least}",
        loss(wins, &z)
    );
    prop_assert_eq!(
        found.unique,
        ties == 1,
        "{} vertices attain the minimum",
        ties
    );
    // The vertex it names is one: differences are whole.
    for gap in z.iter().map(|v| v - z[0]) {
        prop_assert!((gap - gap.round()).abs() < 1e-9, "{z:?}");
    }
    prop_assert!(found.residual.unwrap() < TIE);
    Ok(())
}

proptest! {
    #![proptest_config(settings(REGRESSIONS, 64))]

    /// Population: no integer vector does better, and `unique` means that one alone is best.
    #[test]
    fn no_vertex_is_better(problem in prop_oneof![any_::mild(), any_::same_laws(), any_::two_arms()]) {
        let found = fixed_point(Objective::SLIC, &problem, &Evidence::population(&problem)).unwrap();
        agrees_with_brute_force(&problem, &found, &population_wins(&problem))?;
    }

    /// Small counts, which tie often: the same.
    #[test]
    fn no_vertex_is_better_on_a_dataset(problem in any_::mild(), clashes in any_::clashes(2)) {
        let counts = any_::returned(&clashes, problem.prompts()[0].arms());
        let evidence = Evidence::from_dataset(&problem, &any_::labelled(&problem, &counts));
        let total: u32 = counts.iter().enumerate()
            .map(|(a, row)| row.iter().sum::<u32>() - row[a])
            .sum();
        let wins = (counts.iter())
            .map(|row| row.iter().map(|&n| f64::from(n) / f64::from(total)).collect())
            .collect();
        let found = fixed_point(Objective::SLIC, &problem, &evidence).unwrap();
        agrees_with_brute_force(&problem, &found, &wins)?;
    }

    /// No policy has a smaller population loss, whatever the evidence.
    #[test]
    fn the_loss_is_no_smaller_elsewhere(problem in any_::any_kind(), at in table(6.0)) {
        let population = Evidence::population(&problem);
        let value = |t: &[Vec<f64>]| evaluate(&problem, &population, Objective::SLIC, t).unwrap().value;
        let found = fixed_point(Objective::SLIC, &problem, &population).unwrap().policy.unwrap();
        let least = value(found.log());
        prop_assert!(value(&fit(&problem, &at)) >= least - TIE);
        prop_assert!(value(problem.reference().log()) >= least - TIE);
        // Nor one a little aside.
        let mut near = found.log().to_vec();
        near.iter_mut().zip(&at).for_each(|(row, by)| row.iter_mut().zip(by).for_each(|(l, b)| *l += 0.1 * b));
        prop_assert!(value(&near) >= least - TIE);
    }

    /// Noiseless labels can all be satisfied: the loss is zero.
    #[test]
    fn noiseless_labels_leave_no_loss(problem in any_::mild(), clashes in any_::clashes(2)) {
        let reward = &problem.prompts()[0].reward;
        let k = reward.len();
        // A win counts only if the reward agrees (ties go to the earlier arm).
        let agrees = |a: usize, b: usize| reward[a] > reward[b] || (reward[a] == reward[b] && a < b);
        let counts: Vec<Vec<u32>> = (0..k)
            .map(|a| (0..k).map(|b| if agrees(a, b) { 1 + clashes[a][b] } else { 0 }).collect())
            .collect();
        let evidence = Evidence::from_dataset(&problem, &any_::labelled(&problem, &counts));
        let found = fixed_point(Objective::SLIC, &problem, &evidence).unwrap();
        prop_assert!(!found.unique, "a cone of policies has no loss");
        let at = evaluate(&problem, &evidence, Objective::SLIC, found.policy.unwrap().log()).unwrap();
        prop_assert!(at.value.abs() < TIE, "{}", at.value);
    }
}

proptest! {
    #![proptest_config(settings(REGRESSIONS, 12))]

    /// A simplex search (Nelder–Mead) finds no smaller loss, and with few arms gets as far. It works from values
    /// alone, so kinks cost it half the digits.
    #[test]
    fn a_simplex_search_agrees(problem in any_::mild()) {
        let wins = population_wins(&problem);
        let found = fixed_point(Objective::SLIC, &problem, &Evidence::population(&problem)).unwrap();
        let least = loss(&wins, &z_of(&problem, &found.policy.unwrap()));
        let free = |z: &[f64]| loss(&wins, &[&[0.0], z].concat());
        let searched = kinked(free, &vec![0.3; wins.len() - 1], 1.0).unwrap().value;
        prop_assert!(searched > least - TIE, "{searched} {least}");
        // In more than two dimensions a simplex now and then collapses onto a kink.
        if wins.len() <= 3 {
            prop_assert!(searched < least + 1e-6, "{searched} {least}");
        }
    }
}

/// A pair however rare is a pair: its sign still decides.
#[test]
fn rare_pairs_count() {
    let problem = Problem::from_json(
        r#"{"beta": 1, "prompts": [{"reward": [5, 0, 3], "behavior": [[0.5, 0.5, 1e-20]]}]}"#,
    )
    .unwrap();
    let found = fixed_point(Objective::SLIC, &problem, &Evidence::population(&problem)).unwrap();
    assert!(found.unique, "{found:?}");
    let log = found.policy.unwrap().log()[0].clone();
    assert!(
        (log[0] - log[1] - 1.0).abs() < 1e-14 && (log[0] - log[2]).abs() < 1e-14,
        "{log:?}"
    );
}

/// Disconnected arms are free to shift, and a tie within a component is a face: both are said.
#[test]
fn disconnected_ties_are_told() {
    let problem = Problem::from_json(
        r#"{"beta": 1, "prompts": [{"reward": [1, 1, 3, 0], "pairs": [
            [0, 0.5, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0.5], [0, 0, 0, 0]]}]}"#,
    )
    .unwrap();
    let found = fixed_point(Objective::SLIC, &problem, &Evidence::population(&problem)).unwrap();
    assert!(!found.unique);
    let notes = found.notes.join(" ");
    assert!(
        notes.contains("{0, 1} {2, 3}") && notes.contains("face"),
        "{notes}"
    );
    let strict = problem_with_reward([2.0, 1.0, 3.0, 0.0]);
    let found = fixed_point(Objective::SLIC, &strict, &Evidence::population(&strict)).unwrap();
    assert!(
        !found.unique && !found.notes.join(" ").contains("face"),
        "{found:?}"
    );
}

fn problem_with_reward(reward: [f64; 4]) -> Problem {
    let table = [
        [0.0, 0.5, 0.0, 0.0],
        [0.0; 4],
        [0.0, 0.0, 0.0, 0.5],
        [0.0; 4],
    ];
    let file = serde_json::json!({"beta": 1, "prompts": [{"reward": reward, "pairs": table}]});
    Problem::from_json(&file.to_string()).unwrap()
}
