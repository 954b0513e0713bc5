//! The bandit itself: J, regret, KL and V*; symmetries that every solver must respect; extremes.

use pistar::bandit::population::evaluate;
use pistar::bandit::{Evidence, PairLaw, Policy, Problem, kl};
use pistar::loss::{InputKind, Kind, Objective};
use pistar::solve::{Rest, fixed_point};
use proptest::prelude::*;

use super::common::apart;
use super::common::strategies::{self as any_, fit, settings, table};

const REGRESSIONS: &str = "tests/regressions/bandit.txt";

/// Limits found by flow and Newton agree to about this, closed forms to 1e-11.
const LIMIT: f64 = 1e-8;

/// The limit; DRO's Algorithm 1 as printed may have none.
fn limit(objective: Objective, problem: &Problem) -> Option<Policy> {
    let found = fixed_point(objective, problem, &Evidence::population(problem)).unwrap();
    assert!(found.policy.is_some() || objective == Objective::DRO_ALGORITHM_1);
    found.policy
}

/// Largest difference of two limits; infinite if only one exists.
fn limits_apart(a: &Option<Policy>, b: &Option<Policy>) -> f64 {
    match (a, b) {
        (Some(a), Some(b)) => apart(a, b),
        (None, None) => 0.0,
        _ => f64::INFINITY,
    }
}

/// The problem as plain numbers, with its arms in another order or other rewards.
fn rewritten(
    problem: &Problem,
    reward: impl Fn(f64) -> f64,
    order: impl Fn(usize) -> Vec<usize>,
) -> Problem {
    let rows: Vec<any_::Row> = (problem.prompts().iter())
        .map(|prompt| {
            let order = order(prompt.arms());
            let pick = |v: &[f64]| -> Vec<f64> { order.iter().map(|&a| v[a]).collect() };
            let reference: Vec<f64> = prompt.log_reference.iter().map(|l| l.exp()).collect();
            any_::Row {
                reward: pick(&prompt.reward).into_iter().map(&reward).collect(),
                reference: pick(&reference),
                law: match &prompt.law {
                    PairLaw::Product { first, second } => PairLaw::Product {
                        first: pick(first),
                        second: pick(second),
                    },
                    joint => {
                        let row =
                            |&y: &usize| order.iter().map(|&z| joint.probability(y, z)).collect();
                        PairLaw::joint("pairs", &order.iter().map(row).collect::<Vec<_>>()).unwrap()
                    }
                },
            }
        })
        .collect();
    let weights: Vec<f64> = problem.prompts().iter().map(|p| p.weight).collect();
    let turned = any_::problem_of(problem.beta(), &weights, &rows);
    // Lists are the same lists: of arms whose rewards tie, a new one might have another order.
    turned.map_prompts(|x, prompt| {
        let order = order(prompt.arms());
        let place = |&arm: &u32| order.iter().position(|&a| a == arm as usize).unwrap() as u32;
        let before = problem.prompts()[x].ranking.as_ref();
        prompt.ranking = before.map(|ranking| ranking.iter().map(place).collect());
    })
}

proptest! {
    #![proptest_config(settings(REGRESSIONS, 64))]

    /// Regret is J* − J = β E KL(π‖π*) ≥ 0, and 0 at π*.
    #[test]
    fn regret_is_what_is_missing_from_j(problem in any_::any_kind(), at in table(4.0)) {
        let policy = Policy::softmax(&fit(&problem, &at));
        let optimum = problem.optimum();
        let regret = problem.regret(&policy);
        let missing = problem.objective(&optimum.policy) - problem.objective(&policy);
        // J is a sum of a few terms of size R and β·8.
        let scale = 50.0 + regret;
        prop_assert!((regret - missing).abs() < 1e-14 * scale, "{regret} {missing}");
        prop_assert!((optimum.objective - problem.objective(&optimum.policy)).abs() < 1e-13 * scale);
        prop_assert!(regret >= 0.0);
        prop_assert!(problem.regret(&optimum.policy) < 1e-20);
        prop_assert_eq!(regret < 1e-12, apart(&policy, &optimum.policy) < 1e-6);
    }

    /// KL is Σ p ln(p/q), not negative, and 0 for equal policies only; both ways round.
    #[test]
    fn kl_both_ways(p in table(5.0), q in table(5.0)) {
        let (p, q) = (Policy::softmax(&p), Policy::softmax(&q));
        for (p, q) in p.log().iter().zip(q.log()) {
            for (p, q) in [(p, q), (q, p)] {
                let plain: f64 = p.iter().zip(q).map(|(p, q)| p.exp() * (p - q)).sum();
                prop_assert!((kl(p, q) - plain).abs() < 1e-13);
                prop_assert!(kl(p, q) >= 0.0);
                prop_assert_eq!(kl(p, p), 0.0);
            }
        }
    }

    /// V* lies between its parts: E_ref R and any R(a) + β ln π_ref(a) below, the best R above.
    #[test]
    fn soft_value_bounds(problem in any_::any_kind()) {
        let optimum = problem.optimum();
        for (prompt, v) in problem.prompts().iter().zip(&optimum.value) {
            let rounding = 1e-13 * (1.0 + v.abs());
            let mut mean = 0.0;
            for (r, l) in prompt.reward.iter().zip(&prompt.log_reference) {
                mean += l.exp() * r;
                prop_assert!(r + problem.beta() * l <= v + rounding);
            }
            let best = prompt.reward.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            prop_assert!(mean <= v + rounding && *v <= best + rounding, "{mean} {v} {best}");
        }
    }
}

proptest! {
    #![proptest_config(settings(REGRESSIONS, 32))]

    /// An arm that the reference excludes gets exactly 0, whatever its reward, and changes nothing.
    #[test]
    fn excluded_arms_are_absent(problem in any_::full(), reward in -1e3..1e3f64, at in 0..=2usize) {
        let rows: Vec<_> = (problem.prompts().iter())
            .map(|prompt| {
                let PairLaw::Product { first, second } = &prompt.law else { panic!("product laws") };
                let reference: Vec<f64> = prompt.log_reference.iter().map(|l| l.exp()).collect();
                let with = |v: &[f64], new: f64| [&v[..at], &[new], &v[at..]].concat();
                let law = PairLaw::Product { first: with(first, 0.0), second: with(second, 0.0) };
                any_::Row { reward: with(&prompt.reward, reward), reference: with(&reference, 0.0), law }
            })
            .collect();
        let weights: Vec<f64> = problem.prompts().iter().map(|p| p.weight).collect();
        let wider = any_::problem_of(problem.beta(), &weights, &rows);
        for objective in Objective::ALL {
            let (plain, wide) = (limit(objective, &problem), limit(objective, &wider));
            prop_assert!(limits_apart(&plain, &wide) < LIMIT, "{}", objective.name());
            for row in wide.iter().flat_map(|w| wider.restore(&w.probabilities(), 0.0)) {
                prop_assert_eq!(row[at], 0.0);
            }
        }
    }

    /// Relabelling the arms relabels every answer.
    #[test]
    fn arms_have_no_order(problem in prop_oneof![any_::full(), any_::joint()], seed in any::<u64>()) {
        let order = |arms: usize| {
            let mut order: Vec<usize> = (0..arms).collect();
            pistar::random::Stream::new(seed, pistar::random::Purpose::Order, 0).shuffle(&mut order);
            order
        };
        let turned = rewritten(&problem, |r| r, order);
        for objective in Objective::ALL {
            let turn = |policy: Policy| Policy::from_log(policy.log().iter()
                .map(|row| order(row.len()).iter().map(|&a| row[a]).collect())
                .collect());
            let off = limits_apart(&limit(objective, &problem).map(turn), &limit(objective, &turned));
            prop_assert!(off < LIMIT, "{}: {off}", objective.name());
        }
    }

    /// A constant added to every reward moves no limit but that of the bare policy gradient.
    #[test]
    fn rewards_count_up_to_a_constant(problem in any_::full(), shift in 1.0..20.0f64) {
        let shifted = rewritten(&problem, |r| r + shift, |arms| (0..arms).collect());
        for objective in Objective::ALL {
            let off = limits_apart(&limit(objective, &problem), &limit(objective, &shifted));
            if objective != Objective::PG_ZERO {
                prop_assert!(off < LIMIT, "{}: {off}", objective.name());
            }
        }
    }
}

proptest! {
    #![proptest_config(settings(REGRESSIONS, 8))]

    /// No overflow and no NaN at any scale, in any loss or solver.
    #[test]
    fn extremes_stay_finite(problem in any_::extreme(), at in table(700.0)) {
        let population = Evidence::population(&problem);
        for objective in Objective::ALL {
            let name = objective.name();
            for logits in [problem.reference().log(), &fit(&problem, &at)] {
                let at = evaluate(&problem, &population, objective, logits).unwrap();
                prop_assert!(at.value.is_finite(), "{name}: {}", at.value);
                prop_assert!(at.gradient.iter().flatten().all(|g| g.is_finite()), "{name}");
            }
            let found = fixed_point(objective, &problem, &population).unwrap();
            let Some(policy) = found.policy else {
                // No limit is a fault of none but those that may run off or be too slow to follow.
                let may = [
                    Objective::PG_ZERO,
                    Objective::PG_VALUE,
                    Objective::DRO_FIXED,
                    Objective::DRO_CONSTANT,
                    Objective::DRO_ALGORITHM_1,
                    Objective::ADVANTAGE_MODEL_CENTRED,
                    Objective::SQUARED_HINGE,
                ];
                prop_assert!(may.contains(&objective) && !found.notes.is_empty(), "{name}");
                continue;
            };
            for row in policy.probabilities() {
                prop_assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{name}: {row:?}");
            }
            prop_assert!(found.residual.unwrap().is_finite(), "{name}");
            prop_assert!(found.regret.unwrap() >= 0.0, "{name}: {:?}", found.regret);
        }
    }
}

/// A flow that has not come to rest is no limit: nothing is shown for one.
#[test]
fn an_answer_that_has_not_arrived_says_so() {
    let file = r#"{"beta": 0.001, "prompts": [{"reward": [1000, 0, 500],
                   "behavior": [[0.3, 0.3, 0.4]]}]}"#;
    let problem = Problem::from_json(file).unwrap();
    let found = fixed_point(
        Objective::PG_VALUE,
        &problem,
        &Evidence::population(&problem),
    )
    .unwrap();
    // Updates here are of the size of the rewards.
    match found.residual {
        Some(residual) => assert!(residual < 1e-9, "{found:?}"),
        None => assert!(found.policy.is_none() && !found.unique && !found.notes.is_empty()),
    }
}

/// With E_π[R_β] as the baseline, one arm that no response shows comes to π* by the baseline, however
/// slowly: the flow's update is rounding while 7e-7 of the arm is left, where π* has 5e-7.
#[test]
fn one_arm_that_is_never_shown_comes_to_the_optimum() {
    let file = r#"{"beta": 0.0575317088496783, "prompts": [{
        "reward": [0.4376435216057132, -0.9737059117337356, -0.4115984834359666],
        "reference": [0.02408685, 0.94509928, 0.03081387],
        "pairs": [[0.4985301972478829, 0.5014698027521171, 0], [0, 0, 0], [0, 0, 0]]}]}"#;
    let problem = Problem::from_json(file).unwrap();
    let orders = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];
    for order in orders {
        let turned = rewritten(&problem, |r| r, |_| order.to_vec());
        let evidence = Evidence::population(&turned);
        let found = fixed_point(Objective::PG_SOFT_VALUE, &turned, &evidence).unwrap();
        assert!(found.rest == Rest::Stable && found.unique, "{found:?}");
        // π* ∝ π_ref e^{R/β}, by its definition.
        let prompt = &turned.prompts()[0];
        let weight =
            |a: usize| prompt.log_reference[a].exp() * (prompt.reward[a] / turned.beta()).exp();
        let total: f64 = (0..3).map(weight).sum();
        for (a, p) in found.policy.unwrap().probabilities()[0].iter().enumerate() {
            assert!(
                (p / (weight(a) / total) - 1.0).abs() < 1e-11,
                "{order:?}: {p}"
            );
        }
    }
}

/// Policy gradient with E_π[R] of all arms, learning from responses that never show one of them, goes
/// round for ever here.
#[test]
fn a_cycle_is_no_limit() {
    let file = r#"{"beta": 0.08786490788531165, "prompts": [{"reward": [0, 0, 0, 0],
                   "reference": [0.45, 0.12, 0.05, 0.38], "behavior": [[0.25, 0.25, 0.25, 0.25]]}]}"#;
    let problem = Problem::from_json(file).unwrap();
    let log = "{\"prompt\": 0, \"arm\": 1, \"reward\": 2}\n\
               {\"prompt\": 0, \"arm\": 2, \"reward\": -0.5}\n\
               {\"prompt\": 0, \"arm\": 2, \"reward\": -2}\n\
               {\"prompt\": 0, \"arm\": 0, \"reward\": 0.5}\n\
               {\"prompt\": 0, \"arm\": 2, \"reward\": 1.5}\n";
    let data = pistar::bandit::Dataset::read(log.as_bytes(), "log", &problem).unwrap();
    let evidence = Evidence::from_dataset(&problem, &data);
    let found = fixed_point(Objective::PG_VALUE, &problem, &evidence).unwrap();
    assert_eq!(found.rest, Rest::None);
    assert!(
        found.policy.is_none() && found.notes[0].contains("came to no rest"),
        "{found:?}"
    );
}

/// Excluded arms come back in their place.
#[test]
fn tables_are_restored_to_the_files_arms() {
    let problem = Problem::from_json(
        r#"{"beta": 1, "prompts": [{"reward": [9, 1, 2], "reference": [0, 0.5, 0.5],
            "behavior": [[0, 0.5, 0.5]]}]}"#,
    )
    .unwrap();
    let restored = problem.restore(&[vec![3.0, 4.0]], -1.0);
    assert_eq!(restored, [vec![-1.0, 3.0, 4.0]]);
    assert_eq!(problem.prompts()[0].kept(), [1, 2]);
    assert_eq!(problem.prompts()[0].position(0), None);
    assert_eq!(problem.prompts()[0].position(2), Some(1));
}

/// Whatever is not unique says why, and what is unique has nothing to add.
#[test]
fn notes_go_with_uniqueness() {
    let problem = |behavior: &str| {
        let file = format!(
            r#"{{"beta": 1, "prompts": [{{"reward": [1, 0, 2], "behavior": [{behavior}]}}]}}"#
        );
        Problem::from_json(&file).unwrap()
    };
    for (behavior, connected) in [("[0.2, 0.3, 0.5]", true), ("[0.5, 0.5, 0]", false)] {
        let problem = any_::complete(&problem(behavior));
        for objective in Objective::ALL {
            let found = fixed_point(objective, &problem, &Evidence::population(&problem)).unwrap();
            if objective.spec().inputs == InputKind::Lists {
                // Rankings are given, whatever the behaviour; likelihood empties the other arms.
                assert!(found.unique, "{objective:?} {found:?}");
                continue;
            }
            if objective == Objective::PPO_CLIP {
                // What a clip leaves flat is shared in many ways, also where every arm is shown.
                assert_eq!(found.unique, found.notes.is_empty(), "{found:?}");
                continue;
            }
            if connected {
                assert!(
                    found.unique && found.notes.is_empty(),
                    "{objective:?} {found:?}"
                );
                continue;
            }
            // Without a baseline, and beside a desirable arm, one that is never shown goes to 0,
            // whatever the path; one score alone is what the mean leaves it.
            assert!(
                !found.unique || found.rest != Rest::Neutral,
                "{objective:?} {found:?}"
            );
            let settled = [Objective::PG_ZERO, Objective::ADVANTAGE_MODEL_CENTRED];
            let boundary = objective.spec().kind == Kind::Boundary;
            if boundary || settled.contains(&objective) {
                assert!(found.unique, "{objective:?} {found:?}");
            } else {
                assert!(!found.notes.is_empty(), "{objective:?} {found:?}");
            }
        }
    }
}

/// Flows are counted prompt by prompt: beyond their cap an objective that takes one for each is refused,
/// and one in closed form is not.
#[test]
fn flows_are_limited_by_prompts() {
    let prompt = serde_json::json!({"reward": [1, 0], "behavior": [[0.4, 0.6]]});
    let file = serde_json::json!({"beta": 0.5, "prompts": vec![prompt; 1001]});
    let problem = Problem::from_json(&file.to_string()).unwrap();
    let population = Evidence::population(&problem);
    for objective in [
        Objective::COPG,
        Objective::DPO,
        Objective::PG_ZERO,
        Objective::DRO_V,
    ] {
        assert!(
            fixed_point(objective, &problem, &population).is_ok(),
            "{objective:?}"
        );
    }
    for objective in [Objective::PG_VALUE, Objective::DRO_ALGORITHM_1] {
        let error = fixed_point(objective, &problem, &population)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("limited to 1000 prompts and the problem has 1001"),
            "{error}"
        );
    }
}
