//! KTO's limit, stated from its definition: loss `E[1 − σ(±β(u − z₀))]`, z₀ = max(0, E KL) without
//! gradient, one thumb per response.

use pistar::bandit::{Beta, Evidence, Policy, Problem, kl};
use pistar::solve::FixedPoint;
use pistar::solve::kto::{self, KlTerm, Options, Split};
use proptest::prelude::*;

use super::common::golden::{instances, number, table};
use super::common::strategies::{self as any_, fit, settings, table as logits};
use super::common::{apart, distance, toy};

const REGRESSIONS: &str = "tests/regressions/kto.txt";

/// μ̄, prompt by prompt.
fn mean_laws(problem: &Problem) -> Vec<Vec<f64>> {
    (problem.prompts().iter())
        .map(|p| {
            let (first, second) = p.law.marginals();
            first
                .iter()
                .zip(&second)
                .map(|(p, q)| 0.5 * (p + q))
                .collect()
        })
        .collect()
}

/// Who is desirable under a split, from its definition.
fn thumbs(problem: &Problem, split: Split) -> Vec<Vec<bool>> {
    let means: Vec<f64> = (problem.prompts().iter().zip(mean_laws(problem)))
        .map(|(p, law)| p.reward.iter().zip(law).map(|(r, m)| r * m).sum())
        .collect();
    let pooled: f64 = (problem.prompts().iter().zip(&means))
        .map(|(p, m)| p.weight * m)
        .sum();
    (problem.prompts().iter().zip(&means))
        .map(|(p, mean)| {
            let least = match split {
                Split::Pooled => pooled,
                Split::PerPrompt => *mean,
                Split::Threshold(t) => t,
            };
            p.reward.iter().map(|&r| r > least).collect()
        })
        .collect()
}

fn reference_point(problem: &Problem, policy: &Policy, term: KlTerm) -> f64 {
    match term {
        KlTerm::Exact => problem.kl(policy, &problem.reference()).max(0.0),
        KlTerm::Zero => 0.0,
    }
}

fn sigmoid(v: f64) -> f64 {
    if v >= 0.0 {
        1.0 / (1.0 + (-v).exp())
    } else {
        v.exp() / (1.0 + v.exp())
    }
}

/// The negated gradient of the loss with respect to logits, the signs of thumbs given.
fn update(problem: &Problem, good: &[Vec<bool>], term: KlTerm, policy: &Policy) -> Vec<Vec<f64>> {
    let (beta, z) = (problem.beta(), reference_point(problem, policy, term));
    let laws = mean_laws(problem);
    (problem.prompts().iter().enumerate())
        .map(|(x, prompt)| {
            let log = &policy.log()[x];
            let slopes: Vec<f64> = (0..prompt.arms())
                .map(|a| {
                    let s = sigmoid(beta * (log[a] - prompt.log_reference[a] - z));
                    let sign = if good[x][a] { 1.0 } else { -1.0 };
                    sign * laws[x][a] * beta * s * (1.0 - s)
                })
                .collect();
            let sum: f64 = slopes.iter().sum();
            (log.iter().zip(&slopes))
                .map(|(l, g)| prompt.weight * (g - l.exp() * sum))
                .collect()
        })
        .collect()
}

fn size(table: &[Vec<f64>]) -> f64 {
    table.iter().flatten().fold(0.0, |m, v| v.abs().max(m))
}

/// Explicit gradient flow from some logits.
fn flow(problem: &Problem, term: KlTerm, start: &[Vec<f64>], steps: usize) -> Policy {
    let good = thumbs(problem, Split::Pooled);
    let mut theta = start.to_vec();
    for _ in 0..steps {
        let policy = Policy::softmax(&theta);
        let up = update(problem, &good, term, &policy);
        // As fast as stays stable: slopes of the field are below β²/2.
        let step = 1.0 / problem.beta().powi(2);
        (theta.iter_mut().flatten().zip(up.concat())).for_each(|(t, u)| *t += step * u);
    }
    Policy::softmax(&theta)
}

fn limit(problem: &Problem, options: Options) -> FixedPoint {
    kto::fixed_point(problem, &Evidence::population(problem), options).unwrap()
}

fn at(problem: &Problem, beta: f64) -> Problem {
    problem.at(Beta::new("beta", beta).unwrap())
}

#[test]
fn golden() {
    for (name, instance, problem) in instances() {
        let want = &instance["limits"]["KTO"];
        let got = limit(&problem, Options::default());
        let policy = got.policy.as_ref().unwrap();
        let off = distance(&policy.probabilities(), &table(&want["pi"]));
        assert!(off < 1e-14, "{name} {off}");
        assert!((got.regret.unwrap() - number(&want["regret"])).abs() < 1e-14);
        let z = reference_point(&problem, policy, KlTerm::Exact);
        assert!((z - number(&want["z0"])).abs() < 1e-14, "{name}");
        assert!(
            got.unique && got.residual.unwrap() < 1e-16,
            "{name} {got:?}"
        );
        let labels = kto::desirable(&Evidence::population(&problem), Split::Pooled).unwrap();
        for (x, row) in labels.iter().enumerate() {
            let listed: Vec<f64> = (0..row.len())
                .filter(|&a| row[a])
                .map(|a| a as f64)
                .collect();
            assert_eq!(
                vec![listed],
                table(&serde_json::json!([want["desirable"][x]]))
            );
        }
    }
}

fn splits() -> impl Strategy<Value = Split> {
    prop_oneof![
        Just(Split::Pooled),
        Just(Split::PerPrompt),
        (-2.0..2.0f64).prop_map(Split::Threshold)
    ]
}

fn terms() -> impl Strategy<Value = KlTerm> {
    prop_oneof![Just(KlTerm::Exact), Just(KlTerm::Zero)]
}

proptest! {
    #![proptest_config(settings(REGRESSIONS, 32))]

    /// β ≤ 1: nothing is left on the other arms, and μ̄ s(1 − s)/π is one number on D, z₀ being the KL.
    #[test]
    fn desirable_arms_balance(problem in any_::full(), beta in 0.05..1.0f64, split in splits(), kl in terms()) {
        let problem = at(&problem, beta);
        let good = thumbs(&problem, split);
        prop_assert_eq!(&kto::desirable(&Evidence::population(&problem), split).unwrap(), &good);
        let found = limit(&problem, Options { split, kl });
        let policy = found.policy.unwrap();
        let z = reference_point(&problem, &policy, kl);
        for (x, prompt) in problem.prompts().iter().enumerate() {
            let log = &policy.log()[x];
            if !good[x].contains(&true) {
                prop_assert!(prompt.arms() == 1 || !found.unique);
                continue;
            }
            let law = &mean_laws(&problem)[x];
            let mut rates = Vec::new();
            for a in 0..prompt.arms() {
                if good[x][a] {
                    let v = beta * (log[a] - prompt.log_reference[a] - z);
                    rates.push(law[a].ln() - v.abs() - 2.0 * (-v.abs()).exp().ln_1p() - log[a]);
                } else {
                    prop_assert_eq!(log[a], f64::NEG_INFINITY);
                }
            }
            for r in &rates {
                prop_assert!((r - rates[0]).abs() < 1e-9 * (1.0 + r.abs()), "{rates:?}");
            }
        }
        let left = size(&update(&problem, &good, kl, &policy));
        prop_assert!((left - found.residual.unwrap()).abs() < 1e-12);
        if good.iter().all(|g| g.contains(&true)) {
            prop_assert!(found.unique || found.notes.iter().any(|n| n.contains("values of z₀")));
            prop_assert!(left < 1e-13, "{left}");
        }
    }

    /// Only the thumbs count: rewards that leave them as they are leave the limit as it is.
    #[test]
    fn the_size_of_rewards_is_not_seen(problem in any_::full(), beta in 0.1..1.0f64, stretch in 0.1..5.0f64) {
        let problem = at(&problem, beta);
        let split = Split::Threshold(0.0);
        let stretched = problem.map_prompts(|_, p| p.reward.iter_mut().for_each(|r| *r *= stretch));
        let options = Options { split, kl: KlTerm::Exact };
        let (a, b) = (limit(&problem, options), limit(&stretched, options));
        prop_assert_eq!(a.policy.unwrap(), b.policy.unwrap());
    }

    /// With thumbs of probability q the loss is still linear in s, and only arms with q > ½ stay.
    #[test]
    fn noisy_thumbs(problem in any_::full(), beta in 0.1..1.0f64, noise in logits(3.0)) {
        let problem = at(&problem, beta);
        let pulls: Vec<Vec<f64>> = (mean_laws(&problem).iter().zip(fit(&problem, &noise)))
            .map(|(law, row)| law.iter().zip(row).map(|(m, t)| m * (2.0 * sigmoid(t) - 1.0)).collect())
            .collect();
        prop_assume!(pulls.iter().all(|row| row.iter().any(|&k| k > 0.0)));
        let found = kto::fixed_point_of(&problem, &Evidence::population(&problem), &pulls, KlTerm::Exact).unwrap();
        let policy = found.policy.unwrap();
        let z = reference_point(&problem, &policy, KlTerm::Exact);
        for ((prompt, log), row) in problem.prompts().iter().zip(policy.log()).zip(&pulls) {
            let slopes: Vec<f64> = (0..prompt.arms())
                .map(|a| {
                    let s = sigmoid(beta * (log[a] - prompt.log_reference[a] - z));
                    row[a] * s * (1.0 - s)
                })
                .collect();
            let sum: f64 = slopes.iter().sum();
            for a in 0..prompt.arms() {
                prop_assert!((slopes[a] - log[a].exp() * sum).abs() < 1e-13);
                prop_assert!(row[a] > 0.0 || log[a] == f64::NEG_INFINITY);
            }
        }
    }

    /// The mismatched estimate is E_μ[u]: the KL where responses come from the policy, never above 0
    /// where they come from the reference.
    #[test]
    fn the_mismatched_estimate(problem in any_::mild(), by in logits(2.0)) {
        let reference = &problem.prompts()[0].log_reference;
        let policy = Policy::softmax(&fit(&problem, &by));
        let (log, true_kl) = (&policy.log()[0], kl(&policy.log()[0], reference));
        let on_policy = kto::mismatched_kl(&policy.probabilities()[0], log, reference);
        prop_assert!((on_policy - true_kl).abs() < 1e-12);
        let law: Vec<f64> = reference.iter().map(|l| l.exp()).collect();
        prop_assert!(kto::mismatched_kl(&law, log, reference) <= 1e-12);
    }

    /// Any temperature, any numbers: what comes is a policy.
    #[test]
    fn extremes(problem in any_::extreme(), split in splits(), kl in terms()) {
        let found = limit(&problem, Options { split, kl });
        let policy = found.policy.unwrap();
        for row in policy.probabilities() {
            prop_assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{row:?}");
        }
        prop_assert!(found.residual.unwrap().is_finite());
    }
}

proptest! {
    #![proptest_config(settings(REGRESSIONS, 12))]

    /// Gradient flow from the reference by plain steps goes there, prompts without a desirable arm
    /// included.
    #[test]
    fn flow_goes_there(problem in any_::mild(), second in any_::mild(), beta in 0.25..0.5f64) {
        let rows: Vec<any_::Row> = [&problem, &second].iter()
            .map(|p| any_::Row {
                reward: p.prompts()[0].reward.clone(),
                reference: p.prompts()[0].log_reference.iter().map(|l| l.exp()).collect(),
                law: p.prompts()[0].law.clone(),
            })
            .collect();
        let problem = any_::problem_of(beta, &[0.6, 0.4], &rows);
        let found = limit(&problem, Options::default());
        // Two arms that nearly balance part too slowly for plain steps.
        let end = flow(&problem, KlTerm::Exact, problem.reference().log(), 60_000);
        let settled = end.probabilities().iter().zip(thumbs(&problem, Split::Pooled))
            .all(|(row, good)| good.contains(&true) || row.iter().any(|&p| p > 0.98));
        prop_assume!(settled);
        let off = apart(&found.policy.unwrap(), &end);
        prop_assert!(off < 0.03, "{off} {:?}", found.notes);
    }
}

/// (2.5, 2, 1) and (2.01, 2, 1) are one problem to it, and arm 2 is preferred because it is shown more.
#[test]
fn blind_to_the_size_of_rewards() {
    let near = toy().map_prompts(|_, p| p.reward[0] = 2.01);
    let (a, b) = (
        limit(&toy(), Options::default()),
        limit(&near, Options::default()),
    );
    assert_eq!(a.policy, b.policy);
    let policy = &a.policy.unwrap().probabilities()[0];
    assert!((policy[0] - 0.374_023_087).abs() < 1e-9 && policy[1] > policy[0] && policy[2] == 0.0);
    // By plain steps: what is left on arm 3 falls as 1/t².
    let end = flow(&toy(), KlTerm::Exact, toy().reference().log(), 100_000);
    assert!(distance(&end.probabilities(), std::slice::from_ref(policy)) < 1e-4);
}

/// Under the pooled mean a prompt may have no undesirable arm, or no desirable one.
fn two_levels() -> Problem {
    Problem::from_json(
        r#"{"beta": 0.5, "prompts": [
            {"weight": 0.5, "reward": [9.0, 5.0, 7.0], "behavior": [[0.5, 0.3, 0.2]]},
            {"weight": 0.5, "reward": [-9.0, -5.0, -7.0], "reference": [0.3, 0.4, 0.3],
             "behavior": [[0.5, 0.2, 0.3]]}]}"#,
    )
    .unwrap()
}

#[test]
fn one_threshold_for_all_prompts() {
    let problem = two_levels();
    let found = limit(&problem, Options::default());
    assert!(
        !found.unique && found.notes[0].contains("prompt 1"),
        "{:?}",
        found.notes
    );
    let policy = found.policy.clone().unwrap();
    // Where all are desirable, the rewards do not matter.
    let turned = problem.map_prompts(|x, p| {
        if x == 0 {
            p.reward.reverse();
        }
    });
    let other = limit(&turned, Options::default()).policy.unwrap();
    assert!(distance(&policy.probabilities(), &other.probabilities()) < 1e-12);
    assert!(policy.probabilities()[0].iter().all(|&p| p > 0.01));
    // Where none is, one arm takes all, and a push decides which.
    let mut ends = Vec::new();
    for arm in 0..3 {
        let mut start = problem.reference().log().to_vec();
        start[1][arm] += 2.0;
        ends.push(flow(&problem, KlTerm::Exact, &start, 60_000).probabilities()[1].clone());
    }
    for (arm, end) in ends.iter().enumerate() {
        assert!(end[arm] > 0.99, "{arm} {end:?}");
    }
    let plain = flow(&problem, KlTerm::Exact, problem.reference().log(), 60_000);
    let winner = (0..3).find(|&a| policy.log()[1][a] == 0.0).unwrap();
    assert!(
        plain.probabilities()[1][winner] > 0.99,
        "{plain:?} {winner}"
    );
    // With each prompt's own mean both have both.
    let own = limit(
        &problem,
        Options {
            split: Split::PerPrompt,
            kl: KlTerm::Exact,
        },
    );
    assert!(own.unique && own.notes.is_empty());
}

/// Undesirable arms alike in everything stay level; where responses come from the reference, the
/// reference itself is at rest, though a push decides for one arm.
#[test]
fn nothing_decides_between_them() {
    let down = Options {
        split: Split::Threshold(0.0),
        kl: KlTerm::Exact,
    };
    let with = |law: &str| {
        Problem::from_json(&format!(
            r#"{{"beta": 0.5, "prompts": [{{"reward": [-1.0, -1.0, -1.0],
                "reference": [0.4, 0.4, 0.2], "behavior": [{law}]}}]}}"#
        ))
        .unwrap()
    };
    let twins = limit(&with("[0.25, 0.25, 0.5]"), down);
    assert!(!twins.unique);
    assert_eq!(
        twins.policy.unwrap().probabilities(),
        vec![vec![0.5, 0.5, 0.0]]
    );
    let problem = with("[0.4, 0.4, 0.2]");
    let rest = limit(&problem, down);
    let noted = rest.notes.iter().any(|n| n.contains("rests between"));
    assert!(!rest.unique && noted, "{rest:?}");
    assert!(rest.residual.unwrap() < 1e-16);
    assert!(apart(&rest.policy.unwrap(), &problem.reference()) < 1e-9);
}

/// A reward equal to the threshold is not desirable.
#[test]
fn ties_are_thumbs_down() {
    let level = toy().map_prompts(|_, p| p.reward = vec![1.0; 3]);
    let labels = kto::desirable(&Evidence::population(&level), Split::Threshold(1.0)).unwrap();
    assert_eq!(labels, vec![vec![false; 3]]);
    let labels = kto::desirable(&Evidence::population(&toy()), Split::Threshold(2.0)).unwrap();
    assert_eq!(labels, vec![vec![true, false, false]]);
}

/// An arm that no response shows: empty beside a desirable one, the winner where there is none.
#[test]
fn arms_never_shown() {
    let problem = Problem::from_json(
        r#"{"beta": 0.5, "prompts": [{"reward": [2.0, 1.0, 0.0], "behavior": [[0.4, 0.6, 0.0]]}]}"#,
    )
    .unwrap();
    let with = |threshold| {
        limit(
            &problem,
            Options {
                split: Split::Threshold(threshold),
                kl: KlTerm::Exact,
            },
        )
    };
    let (some, none) = (with(0.5), with(5.0));
    assert_eq!(some.policy.unwrap().log()[0][2], f64::NEG_INFINITY);
    assert_eq!(
        none.policy.unwrap().probabilities(),
        vec![vec![0.0, 0.0, 1.0]]
    );
    assert!(some.unique && none.unique && none.notes[0].contains("never shown"));
}

/// Below β = 1, too, z₀ may have several values: two desirable arms shown equally, one of them rare
/// under the reference.
#[test]
fn several_reference_points() {
    let problem = Problem::from_json(
        r#"{"beta": 0.8, "prompts": [{"reward": [2.0, 2.0, 0.0], "reference": [0.05, 0.9, 0.05],
            "behavior": [[0.3, 0.3, 0.4]]}]}"#,
    )
    .unwrap();
    let found = limit(&problem, Options::default());
    assert!(
        !found.unique && found.notes[0].contains("2 values of z₀"),
        "{:?}",
        found.notes
    );
    assert!(found.residual.unwrap() < 1e-16);
    let policy = found.policy.unwrap();
    assert!((policy.probabilities()[0][0] - 0.5).abs() < 1e-2);
    // By plain steps: from the reference there, from the rare arm elsewhere, to another rest.
    let plain = flow(&problem, KlTerm::Exact, problem.reference().log(), 100_000);
    assert!(apart(&plain, &policy) < 2e-3, "{plain:?}");
    let other = flow(&problem, KlTerm::Exact, &[vec![6.0, 0.0, -6.0]], 400_000);
    assert!(
        (other.probabilities()[0][0] - 0.9865).abs() < 2e-3,
        "{other:?}"
    );
}

/// β > 1: each desirable arm attracts once it has nearly all; one alone wins at any temperature.
#[test]
fn hot() {
    let problem = at(&toy(), 2.0);
    let found = limit(&problem, Options::default());
    assert!(
        !found.unique && found.notes.iter().any(|n| n.contains("β > 1")),
        "{:?}",
        found.notes
    );
    assert!(found.residual.unwrap() < 1e-12, "{found:?}");
    let plain = flow(&problem, KlTerm::Exact, problem.reference().log(), 400_000);
    let off = apart(&plain, found.policy.as_ref().unwrap());
    assert!(off < 0.02, "{off} {plain:?} {found:?}");
    for arm in 0..2 {
        let mut start = problem.reference().log().to_vec();
        start[0][arm] += 6.0;
        let end = flow(&problem, KlTerm::Exact, &start, 100_000);
        assert!(end.probabilities()[0][arm] > 0.999, "{arm} {end:?}");
    }
    let one = limit(
        &problem,
        Options {
            split: Split::Threshold(2.2),
            kl: KlTerm::Exact,
        },
    );
    assert!(one.unique);
    assert_eq!(
        one.policy.unwrap().probabilities(),
        vec![vec![1.0, 0.0, 0.0]]
    );
}

#[test]
fn refusals() {
    let problem = toy();
    let evidence = Evidence::population(&problem);
    let options = Options {
        split: Split::Threshold(f64::NAN),
        kl: KlTerm::Exact,
    };
    let error = kto::fixed_point(&problem, &evidence, options).unwrap_err();
    assert!(error.to_string().contains("threshold"), "{error}");
    for pulls in [
        vec![],
        vec![vec![0.1, 0.2]],
        vec![vec![0.1, f64::INFINITY, 0.0]],
    ] {
        let error = kto::fixed_point_of(&problem, &evidence, &pulls, KlTerm::Zero).unwrap_err();
        assert!(error.to_string().contains("pulls"), "{error}");
    }
}
