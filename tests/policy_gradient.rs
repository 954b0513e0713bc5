//! Policy gradient with a baseline on fixed laws: stationary points of each baseline, what they
//! minimise where they do, and whether the flow returns to them.

use pistar::bandit::population::{Feed, evaluate_with};

use pistar::bandit::{Evidence, Policy, Problem, kl};
use pistar::loss::{Baseline, Objective};
use pistar::solve::{self, FixedPoint, minimise::smooth};
use proptest::prelude::*;

use super::common::apart;
use super::common::feed;
use super::common::numeric::flow;
use super::common::strategies::{self as any_, fit, settings, table};

const REGRESSIONS: &str = "tests/regressions/policy_gradient.txt";

/// The negated expected update at logits.
fn field(problem: &Problem, baseline: &Baseline, logits: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let feed = Feed {
        baseline: Some(baseline.clone()),
        ..feed(Objective::PG_ZERO, problem)
    };
    let population = Evidence::population(problem);
    let at = evaluate_with(problem, &population, &feed, logits, |batch| {
        Objective::PG_ZERO.bind(&problem.given())?.on_tape(batch)
    });
    at.unwrap().gradient
}

fn size(table: &[Vec<f64>]) -> f64 {
    table.iter().flatten().fold(0.0, |m, g| g.abs().max(m))
}

fn limit(problem: &Problem, baseline: &Baseline) -> FixedPoint {
    solve::policy_gradient(problem, &Evidence::population(problem), baseline).unwrap()
}

/// The problem with its rewards moved by a constant per prompt.
fn moved(problem: &Problem, by: impl Fn(usize) -> f64) -> Problem {
    let rows: Vec<any_::Row> = (problem.prompts().iter().enumerate())
        .map(|(x, p)| any_::Row {
            reward: p.reward.iter().map(|r| r + by(x)).collect(),
            reference: p.log_reference.iter().map(|l| l.exp()).collect(),
            law: p.law.clone(),
        })
        .collect();
    let weights: Vec<f64> = problem.prompts().iter().map(|p| p.weight).collect();
    any_::problem_of(problem.beta(), &weights, &rows)
}

/// The same problem with its soft values V* moved to `value`.
fn valued(problem: &Problem, value: f64) -> Problem {
    let optimum = problem.optimum();
    moved(problem, |x| value - optimum.value[x])
}

/// m = μ₁ + μ₂ of the first prompt.
fn responses(problem: &Problem) -> Vec<f64> {
    let (p, q) = problem.prompts()[0].law.marginals();
    p.iter().zip(&q).map(|(p, q)| p + q).collect()
}

/// R_β of the first prompt.
fn regularised(problem: &Problem, log_policy: &[f64]) -> Vec<f64> {
    let prompt = &problem.prompts()[0];
    (prompt
        .reward
        .iter()
        .zip(log_policy)
        .zip(&prompt.log_reference))
    .map(|((r, l), reference)| r - problem.beta() * (l - reference))
    .collect()
}

proptest! {
    #![proptest_config(settings(REGRESSIONS, 32))]

    /// Whatever the baseline, the expected update vanishes at the limit. (Updates are m times
    /// rewards, up to about 20.)
    #[test]
    fn limits_are_stationary(problem in any_::full(), b in -5.0..5.0f64) {
        for baseline in [
            Baseline::Given(0.0), Baseline::Given(b), Baseline::Value, Baseline::SoftValue,
        ] {
            let found = limit(&problem, &baseline);
            let update = size(&field(&problem, &baseline, found.policy.unwrap().log()));
            prop_assert!(update < 1e-9, "{baseline:?}: {update}, {}", found.method);
            prop_assert!((update - found.residual.unwrap()).abs() < 1e-10);
        }
    }

    /// b = E_ν[R_β] gives π* for the policy itself and for any law ν.
    #[test]
    fn soft_value_baselines_reach_the_optimum(problem in any_::full(), law in any_::table(3.0)) {
        let nu = Policy::softmax(&fit(&problem, &law)).probabilities();
        for baseline in [Baseline::SoftValue, Baseline::SoftValueUnder(nu)] {
            let found = limit(&problem, &baseline);
            let policy = found.policy.unwrap();
            prop_assert!(found.unique);
            prop_assert!(apart(&policy, &problem.optimum().policy) < 1e-11);
            prop_assert!(size(&field(&problem, &baseline, policy.log())) < 1e-11);
        }
    }

    /// No baseline, V* ≥ 0: π_a S = m_a R_β(a) for one S ≥ 0, solved by Lambert's W.
    #[test]
    fn without_a_baseline_lambert(problem in any_::mild(), value in 0.0..5.0f64) {
        let problem = valued(&problem, value);
        let found = limit(&problem, &Baseline::Given(0.0));
        // At V* = 0 rounding decides which side it is on.
        prop_assume!(value > 1e-9);
        prop_assert!(found.method.contains("Lambert"), "{}", found.method);
        prop_assert!(found.unique);
        let policy = found.policy.unwrap();
        let m = responses(&problem);
        let pushes: Vec<f64> = regularised(&problem, &policy.log()[0]).iter().zip(&m).map(|(r, m)| m * r).collect();
        let s: f64 = pushes.iter().sum();
        prop_assert!(s >= 0.0);
        for (push, p) in pushes.iter().zip(&policy.probabilities()[0]) {
            prop_assert!((push - p * s).abs() < 1e-10, "{push} {p} {s}");
        }
    }

    /// No baseline is gradient ascent on Σ m (R u − βu²/2), whose maximiser it finds.
    #[test]
    fn without_a_baseline_a_potential(problem in any_::mild(), value in 0.0..5.0f64, start in table(2.0)) {
        let problem = valued(&problem, value);
        let (prompt, beta, m) = (&problem.prompts()[0], problem.beta(), responses(&problem));
        let potential = |theta: &[f64]| {
            let policy = Policy::softmax(&[theta.to_vec()]);
            let mut value = 0.0;
            let mut slope = vec![0.0; theta.len()];
            for (a, l) in policy.log()[0].iter().enumerate() {
                let u = l - prompt.log_reference[a];
                value -= m[a] * (prompt.reward[a] * u - beta * u * u / 2.0);
                slope[a] = -m[a] * (prompt.reward[a] - beta * u);
            }
            let sum: f64 = slope.iter().sum();
            let policy = &policy.probabilities()[0];
            slope.iter_mut().zip(policy).for_each(|(g, p)| *g -= sum * p);
            // Where nothing is left to gain the minimiser may try a point that is no number.
            if value.is_nan() { (f64::MAX, vec![0.0; theta.len()]) } else { (value, slope) }
        };
        let found = smooth(potential, &fit(&problem, &start)[0]).unwrap();
        let off = apart(&Policy::softmax(&[found.point]), &limit(&problem, &Baseline::Given(0.0)).policy.unwrap());
        // Values are flat to 1e-15 near the optimum, which is half the digits of the point.
        prop_assert!(off < 1e-6, "{off}");
    }

    /// Below its baseline (V* < b) the answer is found by and is still stationary.
    #[test]
    fn below_the_baseline_the_flow(problem in any_::mild(), value in 0.01..5.0f64) {
        let problem = valued(&problem, -value);
        let found = limit(&problem, &Baseline::Given(0.0));
        prop_assert!(found.method.contains("flow"), "{}", found.method);
        let update = size(&field(&problem, &Baseline::Given(0.0), found.policy.unwrap().log()));
        prop_assert!(update < 1e-9, "{update}");
    }

    /// b = E_π[R]: m_a (R_β(a) − b) = π_a S with S = −β KL(π‖π_ref)/Σ(π²/m).
    #[test]
    fn the_value_baseline_leaves_a_bias(problem in any_::mild()) {
        let policy = limit(&problem, &Baseline::Value).policy.unwrap();
        let (prompt, log) = (&problem.prompts()[0], &policy.log()[0]);
        let (m, pi) = (responses(&problem), &policy.probabilities()[0]);
        let b: f64 = pi.iter().zip(&prompt.reward).map(|(p, r)| p * r).sum();
        let spread: f64 = pi.iter().zip(&m).map(|(p, m)| p * p / m).sum();
        let s = -problem.beta() * kl(log, &prompt.log_reference) / spread;
        for (a, r) in regularised(&problem, log).iter().enumerate() {
            prop_assert!((m[a] * (r - b) - pi[a] * s).abs() < 1e-9, "{a}");
        }
    }

    /// The constant b and the constant −b in every reward are one thing.
    #[test]
    fn a_given_baseline_is_a_shift_of_rewards(problem in any_::full(), b in -5.0..5.0f64) {
        let shifted = limit(&moved(&problem, |_| -b), &Baseline::Given(0.0));
        let given = limit(&problem, &Baseline::Given(b));
        let off = apart(&given.policy.unwrap(), &shifted.policy.unwrap());
        prop_assert!(off < 1e-8, "{off}");
    }
}

proptest! {
    #![proptest_config(settings(REGRESSIONS, 16))]

    /// Pushed aside by 1e-3, gradient flow returns to the limit of every baseline.
    #[test]
    fn limits_attract(problem in any_::mild(), aside in table(1e-3)) {
        for (objective, problem) in [
            (Objective::PG_ZERO, valued(&problem, 1.0)),
            (Objective::PG_VALUE, problem.clone()),
            (Objective::PG_SOFT_VALUE, problem.clone()),
        ] {
            let population = Evidence::population(&problem);
            let limit = solve::fixed_point(objective, &problem, &population).unwrap().policy.unwrap();
            let start: Vec<Vec<f64>> = (limit.log().iter().zip(&fit(&problem, &aside)))
                .map(|(row, by)| row.iter().zip(by).map(|(l, d)| l + d).collect())
                .collect();
            // Slopes of the field are at most about 2β + m|R|.
            let top = problem.prompts()[0].reward.iter().fold(0.0f64, |t, r| t.max(r.abs()));
            let pace = (0.5 / (2.0 * problem.beta() + 2.0 * top + 0.1), 1e-9, 20_000);
            let end = flow(&problem, &population, objective, &start, pace);
            let back = apart(&Policy::softmax(&end), &limit);
            prop_assert!(back < 1e-6, "{}: {back}", objective.name());
        }
    }
}

/// A bandit with two limits: each attracts, the reference flows to the one that is shown, and the
/// answer says that it is not the only one.
#[test]
fn a_second_limit_is_found() {
    let problem = Problem::from_json(
        r#"{"beta": 1.0, "prompts": [{"reward": [-4.4, -0.5, -4.3], "behavior": [[0.26, 0.72, 0.02]]}]}"#,
    )
    .unwrap();
    let population = Evidence::population(&problem);
    let found = solve::fixed_point(Objective::PG_VALUE, &problem, &population).unwrap();
    assert!(
        !found.unique && found.notes[0].contains("ends elsewhere"),
        "{found:?}"
    );
    let shown = found.policy.unwrap();
    let ends = |start: &[Vec<f64>]| {
        let end = flow(
            &problem,
            &population,
            Objective::PG_VALUE,
            start,
            (0.1, 1e-11, 200_000),
        );
        Policy::softmax(&end)
    };
    assert!(apart(&ends(problem.reference().log()), &shown) < 1e-6);
    // Some other start rests elsewhere.
    let starts = [
        [0.0, 0.0, 9.0],
        [9.0, 0.0, 0.0],
        [0.0, 9.0, 0.0],
        [0.0, -9.0, 0.0],
    ];
    assert!(
        starts
            .iter()
            .any(|s| apart(&ends(&[s.to_vec()]), &shown) > 1e-3)
    );
}
