//! CoPG (contrastive policy gradient): Theorem 1 with its true condition, Property 1, eq. 7,
//! and the trajectory of its flow.

use std::io::Cursor;

use pistar::bandit::population::evaluate;
use pistar::bandit::{Dataset, Evidence, PairLaw, Policy, Problem};
use pistar::loss::Objective;
use pistar::solve::{copg::trajectory, fixed_point};
use proptest::prelude::*;

use super::common::numeric::{flow, minimiser};
use super::common::strategies::{self as any_, connected, fit, islands, settings, table, weight};
use super::common::{apart, distance, gradient_size};

const REGRESSIONS: &str = "tests/regressions/copg.txt";

/// R/β reaches some hundreds, and log-probabilities carry its rounding.
const EXACT: f64 = 1e-11;

fn solve(problem: &Problem) -> pistar::solve::FixedPoint {
    fixed_point(Objective::COPG, problem, &Evidence::population(problem)).unwrap()
}

/// A problem of one prompt from its laws.
fn pair_of_laws(first: &[f64], second: &[f64]) -> Problem {
    let prompt = serde_json::json!({
        "reward": [1.0, -0.5, 2.0, 0.25], "reference": [0.4, 0.3, 0.2, 0.1],
        "behavior": [first, second],
    });
    let file = serde_json::json!({ "beta": 0.7, "prompts": [prompt] });
    Problem::from_json(&file.to_string()).unwrap()
}

/// Theorem 1's condition, case by case: the laws may even be disjoint, but must connect the arms.
#[test]
fn the_optimum_is_reached_from_laws_that_connect_the_arms() {
    let all: &[f64] = &[0.1, 0.2, 0.3, 0.4];
    let point: &[f64] = &[0.0, 0.0, 1.0, 0.0];
    let cases: [(&[f64], &[f64], bool); 7] = [
        (all, all, true),
        (&[0.5, 0.5, 0.0, 0.0], &[0.0, 0.0, 0.3, 0.7], true),
        (point, all, true),
        (all, point, true),
        (point, point, false),
        (point, &[0.0, 1.0, 0.0, 0.0], false),
        (&[0.5, 0.5, 0.0, 0.0], &[0.5, 0.5, 0.0, 0.0], false),
    ];
    for (first, second, reached) in cases {
        let problem = pair_of_laws(first, second);
        let found = solve(&problem);
        let off = apart(found.policy.as_ref().unwrap(), &problem.optimum().policy);
        assert_eq!(found.unique, reached, "{first:?} {second:?}");
        assert_eq!(off < 1e-14, reached, "{first:?} {second:?}: off by {off}");
        assert_eq!(found.regret.unwrap() < 1e-14, reached);
    }
    // Two equal point masses compare nothing: the gradient vanishes everywhere.
    let blind = pair_of_laws(point, point);
    let anywhere = [vec![3.0, -1.0, 0.5, 2.0]];
    let size = gradient_size(
        &blind,
        &Evidence::population(&blind),
        Objective::COPG,
        &anywhere,
    );
    assert_eq!(size, 0.0);
}

proptest! {
    #![proptest_config(settings(REGRESSIONS, 64))]

    /// The expected update vanishes at the answer, whatever the laws.
    #[test]
    fn the_gradient_vanishes_at_the_fixed_point(problem in any_::any_kind()) {
        let population = Evidence::population(&problem);
        for objective in [Objective::COPG, Objective::COPG_COMPLETED, Objective::COPG_SQUARED] {
            let found = fixed_point(objective, &problem, &population).unwrap();
            let size = gradient_size(&problem, &population, objective, found.policy.unwrap().log());
            prop_assert!(size < 10.0 * EXACT, "{}: {size}", objective.name());
            prop_assert!(found.residual.unwrap() < 10.0 * EXACT);
        }
    }

    /// Theorem 1: π* is the only stationary point iff every comparison graph is connected.
    #[test]
    fn the_optimum_is_unique_iff_the_graph_is_connected(problem in any_::any_kind()) {
        let found = solve(&problem);
        prop_assert_eq!(found.unique, connected(&problem));
        let best = problem.optimum().policy;
        if connected(&problem) {
            prop_assert!(apart(&found.policy.unwrap(), &best) < EXACT);
            prop_assert!(found.regret.unwrap() < EXACT);
        } else {
            // Moving one component against the rest is stationary too, and is not π*.
            let mut logits = best.log().to_vec();
            let x = problem.prompts().iter().position(|p| islands(p).len() > 1).unwrap();
            for &a in &islands(&problem.prompts()[x])[0] {
                logits[x][a] += 1.0;
            }
            let population = Evidence::population(&problem);
            prop_assert!(gradient_size(&problem, &population, Objective::COPG, &logits) < EXACT);
            prop_assert!(problem.regret(&Policy::softmax(&logits)) > 0.0);
        }
    }

    /// The population loss is above its minimum by (β/2) Σ w_ab (Δu − Δu*)², exactly.
    #[test]
    fn the_loss_is_larger_elsewhere(problem in any_::any_kind(), at in table(4.0)) {
        let population = Evidence::population(&problem);
        let logits = fit(&problem, &at);
        let value = |t: &[Vec<f64>]| evaluate(&problem, &population, Objective::COPG, t).unwrap().value;
        let best = problem.optimum().policy;
        let mut expected = 0.0;
        for ((prompt, l), best) in problem.prompts().iter().zip(&logits).zip(best.log()) {
            for a in 0..prompt.arms() {
                for b in 0..a {
                    let gap = (l[a] - l[b]) - (best[a] - best[b]);
                    expected += prompt.weight * weight(prompt, a, b) * problem.beta() / 2.0 * gap * gap;
                }
            }
        }
        let excess = value(&logits) - value(best.log());
        let scale = 1.0 + expected + value(best.log()).abs();
        prop_assert!((excess - expected).abs() < 1e-12 * scale, "{excess} {expected}");
    }

    /// A minimiser that knows nothing of the algebra ends at π*. (The loss is flat to 1e-15 of its
    /// size, which leaves log-ratios about 1e-7 of play.)
    #[test]
    fn a_numeric_minimiser_finds_the_optimum(problem in any_::mild(), start in table(3.0)) {
        let population = Evidence::population(&problem);
        let start = fit(&problem, &start);
        let table = minimiser(&problem, &population, Objective::COPG, &start);
        let off = apart(&Policy::softmax(&table), &problem.optimum().policy);
        prop_assert!(off < 1e-6, "{off}");
    }

    /// Disconnected: π* within each component, and each component's sum of logits is conserved.
    #[test]
    fn components_keep_their_logits(problem in any_::disconnected()) {
        let found = solve(&problem).policy.unwrap();
        let (prompt, answer) = (&problem.prompts()[0], &found.log()[0]);
        let groups = islands(prompt);
        let best = problem.optimum().policy;
        for group in &groups {
            for &a in group {
                let gap = answer[a] - answer[group[0]] - (best.log()[0][a] - best.log()[0][group[0]]);
                prop_assert!(gap.abs() < EXACT);
            }
        }
        // Logits are known up to one shift: it must be the same for the mean of every component.
        let drift = |group: &[usize]| -> f64 {
            let moved = group.iter().map(|&a| answer[a] - prompt.log_reference[a]);
            moved.sum::<f64>() / group.len() as f64
        };
        for group in &groups {
            prop_assert!((drift(group) - drift(&groups[0])).abs() < EXACT);
        }
    }

    /// Eq. 7: in logits the gradient of the objective is ρ L_w (R − βu).
    #[test]
    fn the_gradient_is_a_laplacian(problem in any_::any_kind(), at in table(4.0)) {
        let logits = fit(&problem, &at);
        let got = evaluate(&problem, &Evidence::population(&problem), Objective::COPG, &logits).unwrap();
        for (x, prompt) in problem.prompts().iter().enumerate() {
            let r = |a: usize| prompt.reward[a] - problem.beta() * (logits[x][a] - prompt.log_reference[a]);
            for a in 0..prompt.arms() {
                let others = (0..prompt.arms()).filter(|&b| b != a);
                let want: f64 = others.map(|b| weight(prompt, a, b) * (r(a) - r(b))).sum();
                prop_assert!((got.gradient[x][a] + prompt.weight * want).abs() < 1e-12);
            }
        }
    }

    /// The completed square is the same number; Algorithm 1's loss has 2β times the gradient.
    #[test]
    fn the_three_forms_agree(problem in any_::any_kind(), at in table(4.0)) {
        let logits = fit(&problem, &at);
        let population = Evidence::population(&problem);
        let [plain, completed, squared] =
            [Objective::COPG, Objective::COPG_COMPLETED, Objective::COPG_SQUARED]
                .map(|o| evaluate(&problem, &population, o, &logits).unwrap());
        // The square is divided by 2β ≥ 0.1: its rounding grows by that much.
        prop_assert!((plain.value - completed.value).abs() < 1e-10 * (1.0 + plain.value.abs()));
        prop_assert!(distance(&plain.gradient, &completed.gradient) < 1e-12);
        let scaled: Vec<Vec<f64>> = (squared.gradient.iter())
            .map(|row| row.iter().map(|g| g / (2.0 * problem.beta())).collect())
            .collect();
        prop_assert!(distance(&plain.gradient, &scaled) < 1e-12);
    }

    /// Property 1: with both responses from the policy itself, and that law frozen, E ∇ℓ = 2 ∇J.
    #[test]
    fn on_policy_it_is_twice_the_policy_gradient(problem in any_::full(), at in table(2.0)) {
        let logits = fit(&problem, &at);
        let policy = Policy::softmax(&logits).probabilities();
        let own = any_::with_laws(&problem, |x, _| PairLaw::Product {
            first: policy[x].clone(),
            second: policy[x].clone(),
        });
        let got = evaluate(&own, &Evidence::population(&own), Objective::COPG, &logits).unwrap();
        // ∇J by central differences: h² and ε/h are both about 1e-10.
        let h = 1e-5;
        for (x, row) in got.gradient.iter().enumerate() {
            for (a, g) in row.iter().enumerate() {
                let objective = |by: f64| {
                    let mut moved = logits.clone();
                    moved[x][a] += by;
                    problem.objective(&Policy::softmax(&moved))
                };
                let slope = (objective(h) - objective(-h)) / (2.0 * h);
                prop_assert!((g + 2.0 * slope).abs() < 1e-7, "{g} {slope}");
            }
        }
    }

    /// Any labels-free dataset whose pairs connect the arms gives π* exactly, however small.
    #[test]
    fn a_connected_dataset_gives_the_optimum(
        problem in any_::full(),
        links in proptest::collection::vec((0..any_::ARMS, 0..any_::ARMS), any_::PROMPTS * any_::ARMS),
    ) {
        let mut lines = String::new();
        for (x, prompt) in problem.prompts().iter().enumerate() {
            for a in 1..prompt.arms() {
                let (b, again) = links[x * any_::ARMS + a];
                lines += &format!("{{\"prompt\": {x}, \"first\": {a}, \"second\": {}}}\n", b % a);
                lines += &format!("{{\"prompt\": {x}, \"first\": {a}, \"second\": {}}}\n", again % prompt.arms());
            }
        }
        let data = Dataset::read(Cursor::new(lines), "pairs", &problem).unwrap();
        let evidence = Evidence::from_dataset(&problem, &data);
        let found = fixed_point(Objective::COPG, &problem, &evidence).unwrap();
        prop_assert!(found.unique);
        prop_assert!(apart(&found.policy.unwrap(), &problem.optimum().policy) < EXACT);
    }
}

proptest! {
    #![proptest_config(settings(REGRESSIONS, 24))]

    /// The answer on a disconnected graph is where gradient flow from the reference ends.
    #[test]
    fn disconnected_flow_ends_at_the_answer(problem in any_::disconnected()) {
        let population = Evidence::population(&problem);
        // The Laplacian of a law has no eigenvalue above 2, so β · step · 2 < 2 is stable; the
        // update is linear, so where it ends does not depend on the step.
        let pace = (0.9 / problem.beta(), 1e-11, 20_000);
        let start = problem.reference();
        let end = flow(&problem, &population, Objective::COPG, start.log(), pace);
        let off = apart(&Policy::softmax(&end), &solve(&problem).policy.unwrap());
        prop_assert!(off < 1e-7, "{off}");
    }

    /// The trajectory starts at the reference, ends at the fixed point, and moves by −∇L.
    #[test]
    fn the_trajectory_solves_its_equation(problem in any_::any_kind(), t in 0.1..10.0f64) {
        let population = Evidence::population(&problem);
        // In units of βt, so that the error is h² ~ 1e-10 and the rounding ε · R/β / h ~ 1e-9.
        let h = 1e-5 / problem.beta();
        let times = [0.0, t - h, t, t + h, 1e8 / problem.beta()];
        let path = trajectory(&problem, &population, &times).unwrap();
        prop_assert!(apart(&path[0], &problem.reference()) < 1e-14);
        let end = solve(&problem).policy.unwrap();
        // The slowest modes have λ ~ 1e-6; those that stand still drift with the rounding of λ = 0.
        prop_assert!(apart(&path[4], &end) < 1e-6, "{}", apart(&path[4], &end));
        let at = evaluate(&problem, &population, Objective::COPG, path[2].log()).unwrap();
        for (x, g) in at.gradient.iter().enumerate() {
            let speed: Vec<f64> = (path[3].log()[x].iter().zip(&path[1].log()[x]))
                .map(|(late, early)| (late - early) / (2.0 * h))
                .collect();
            // Log-probabilities move with the logits up to a shift; the update sums to zero.
            let mean = speed.iter().sum::<f64>() / speed.len() as f64;
            for (v, g) in speed.iter().zip(g) {
                prop_assert!((v - mean + g).abs() < 1e-5, "{} {g}", v - mean);
            }
        }
    }
}

/// A mode a billion times slower than another still moves, at its own rate.
#[test]
fn slow_modes_are_not_lost() {
    // A path 0 – 1 – 2 whose second link is weak: w₀₁ = 1e-3, w₁₂ = 1e-12, the rest on self pairs.
    let problem = Problem::from_json(
        r#"{"beta": 1.0, "prompts": [{"reward": [0.0, 0.0, 1.0], "pairs": [
            [0.998999999999, 0.001, 0.0], [0.0, 0.0, 1e-12], [0.0, 0.0, 0.0]]}]}"#,
    )
    .unwrap();
    let population = Evidence::population(&problem);
    // The weak link joins {0, 1} and 2: its rate is w (1/2 + 1) = 1.5e-12.
    let time = 1.0 / 1.5e-12;
    let policy = &trajectory(&problem, &population, &[time]).unwrap()[0];
    let gap = policy.log()[0][2] - policy.log()[0][1];
    let want = 1.0 - (-1.0f64).exp();
    assert!((gap - want).abs() < 1e-3, "{gap} {want}");
}
