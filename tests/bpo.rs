//! BPO: exact phases are where each phase's own loss is stationary, what they come to, and
//! Algorithm 1 by sampling.

use pistar::bandit::population::evaluate;
use pistar::bandit::{Evidence, PairLaw, Policy, Problem};
use pistar::loss::Objective;
use pistar::sim::Optimizer;
use pistar::sim::phases::{Config, Ensemble, Pairs, Reference, Row, policies, run};
use pistar::solve::bpo::{
    Inner, ema, first_update, merge, phase_problem, phases, static_equivalent,
};
use pistar::solve::{FixedPoint, fixed_point};
use proptest::prelude::*;

use super::common::golden::{self, instances, number};
use super::common::numeric::minimiser;
use super::common::strategies::{self as any_, fit, settings, table};
use super::common::{apart, distance, gradient_size, toy};

const REGRESSIONS: &str = "tests/regressions/bpo.txt";

/// Log-probabilities reach some hundreds and carry their rounding.
const EXACT: f64 = 1e-11;

const SMOOTH: [Inner; 2] = [Inner::Dpo, Inner::Ipo];

fn policy(point: &FixedPoint) -> &Policy {
    point.policy.as_ref().unwrap()
}

/// A phase's problem when the reference is not the behaviour policy.
fn stage(problem: &Problem, reference: &Policy, behaviour: &Policy) -> Problem {
    let laws = behaviour.probabilities();
    let referred = phase_problem(problem, reference).unwrap();
    referred.map_prompts(|x, prompt| {
        let (first, second) = (laws[x].clone(), laws[x].clone());
        prompt.law = PairLaw::Product { first, second };
    })
}

fn population_loss(problem: &Problem, inner: Inner, log: &[Vec<f64>]) -> f64 {
    let population = Evidence::population(problem);
    evaluate(problem, &population, inner.objective(), log)
        .unwrap()
        .value
}

proptest! {
    #![proptest_config(settings(REGRESSIONS, 48))]

    /// The definition: on the problem whose reference and laws are the last policy, the gradient of
    /// the inner loss itself vanishes, and the solver that knows nothing of phases agrees.
    #[test]
    fn each_phase_is_stationary_for_its_own_loss(problem in any_::full()) {
        for inner in SMOOTH {
            let mut last = problem.reference();
            for point in phases(&problem, inner, 4).unwrap() {
                let stage = phase_problem(&problem, &last).unwrap();
                let population = Evidence::population(&stage);
                let size = gradient_size(&stage, &population, inner.objective(), policy(&point).log());
                let scale = 1.0 + inner.first_step(problem.beta());
                prop_assert!(size < EXACT * scale, "{inner:?}: {size:e}");
                prop_assert!(point.residual.unwrap() < EXACT * scale);
                let solved = fixed_point(inner.objective(), &stage, &population).unwrap();
                prop_assert!(point.unique);
                prop_assert!(apart(policy(&point), policy(&solved)) < EXACT);
                // The regret is that of the problem given, not of the phase.
                prop_assert_eq!(point.regret.unwrap(), problem.regret(policy(&point)));
                last = policy(&point).clone();
            }
        }
    }

    /// SLiC: no policy has a smaller loss in the phase, and a phase is unique if all before were.
    #[test]
    fn slic_phases_minimise_their_own_loss(problem in any_::full(), at in table(6.0)) {
        let (mut last, mut unique) = (problem.reference(), true);
        for point in phases(&problem, Inner::Slic, 4).unwrap() {
            let stage = phase_problem(&problem, &last).unwrap();
            let least = population_loss(&stage, Inner::Slic, policy(&point).log());
            prop_assert!(population_loss(&stage, Inner::Slic, &fit(&problem, &at)) >= least - 1e-12);
            prop_assert!(population_loss(&stage, Inner::Slic, last.log()) >= least - 1e-12);
            let mut near = policy(&point).log().to_vec();
            near.iter_mut().zip(&at).for_each(|(row, by)| row.iter_mut().zip(by).for_each(|(l, b)| *l += 0.1 * b));
            prop_assert!(population_loss(&stage, Inner::Slic, &near) >= least - 1e-12);
            let solved = fixed_point(Objective::SLIC, &stage, &Evidence::population(&stage)).unwrap();
            unique &= solved.unique;
            prop_assert_eq!(point.unique, unique);
            last = policy(&point).clone();
        }
    }

    /// F phases of DPO are one static phase at β/F: the same policy, which is that problem's π*.
    #[test]
    fn phases_of_dpo_are_a_lower_temperature(problem in any_::full(), count in 1usize..12) {
        let moved = phases(&problem, Inner::Dpo, count).unwrap();
        let still = static_equivalent(&problem, count).unwrap();
        prop_assert!((still.beta() * count as f64 / problem.beta() - 1.0).abs() < 1e-15);
        let last = policy(moved.last().unwrap());
        prop_assert!(apart(last, &still.optimum().policy) < EXACT);
        let static_dpo = fixed_point(Objective::DPO, &still, &Evidence::population(&still)).unwrap();
        prop_assert!(apart(last, policy(&static_dpo)) < EXACT);
        // The regret at the problem's own β starts at 0 and never falls.
        let regrets: Vec<f64> = moved.iter().map(|p| p.regret.unwrap()).collect();
        prop_assert!(regrets[0].abs() < 1e-13 * (1.0 + problem.beta()));
        prop_assert!(regrets.windows(2).all(|w| w[1] >= w[0] - 1e-12), "{regrets:?}");
    }

    /// Every phase of DPO moves every log-odds by the same amount, `(R_a − R_b)/β`.
    #[test]
    fn log_odds_move_evenly_under_dpo(problem in any_::full()) {
        let mut last = problem.reference();
        for point in phases(&problem, Inner::Dpo, 6).unwrap() {
            for ((prompt, now), before) in problem.prompts().iter().zip(policy(&point).log()).zip(last.log()) {
                for b in 1..prompt.arms() {
                    let gain = (now[0] - now[b]) - (before[0] - before[b]);
                    let want = (prompt.reward[0] - prompt.reward[b]) / problem.beta();
                    prop_assert!((gain - want).abs() < 1e-12 * (1.0 + now[b].abs() + now[0].abs()));
                }
            }
            last = policy(&point).clone();
        }
    }

    /// τ between a static reference and a hard copy: every phase is stationary for its own loss,
    /// every reference is the average of logits, and DPO's are known in closed form.
    #[test]
    fn averaged_references(problem in any_::full(), tau in 0.0..1.0f64) {
        for inner in SMOOTH {
            let (mut reference, mut behaviour) = (problem.reference(), problem.reference());
            for (k, phase) in (1..).zip(ema(&problem, inner, tau, 4).unwrap()) {
                let stage = stage(&problem, &reference, &behaviour);
                let population = Evidence::population(&stage);
                let now = policy(&phase.answer);
                let size = gradient_size(&stage, &population, inner.objective(), now.log());
                prop_assert!(size < EXACT * (1.0 + inner.first_step(problem.beta())), "{inner:?}: {size:e}");
                let mixed: Vec<Vec<f64>> = (reference.log().iter().zip(now.log()))
                    .map(|(r, p)| r.iter().zip(p).map(|(r, p)| tau * p + (1.0 - tau) * r).collect())
                    .collect();
                prop_assert!(apart(&phase.reference, &Policy::softmax(&mixed)) < EXACT);
                if inner == Inner::Dpo {
                    let moved = |by: f64| {
                        let rows: Vec<Vec<f64>> = (problem.prompts().iter())
                            .map(|p| p.log_reference.iter().zip(&p.reward).map(|(l, r)| l + by * r / problem.beta()).collect())
                            .collect();
                        Policy::softmax(&rows)
                    };
                    let k = f64::from(k);
                    prop_assert!(apart(&phase.reference, &moved(k * tau)) < EXACT);
                    prop_assert!(apart(now, &moved(1.0 + (k - 1.0) * tau)) < EXACT);
                }
                (reference, behaviour) = (phase.reference, now.clone());
            }
        }
    }

    /// τ = 0 is a static reference (DPO: phase 1 for ever), τ = 1 is BPO.
    #[test]
    fn the_ends_of_averaging(problem in any_::full()) {
        for inner in Inner::ALL {
            let moved = phases(&problem, inner, 3).unwrap();
            for (a, b) in moved.iter().zip(ema(&problem, inner, 1.0, 3).unwrap()) {
                prop_assert_eq!(policy(a), policy(&b.answer));
                prop_assert_eq!(policy(a).log().len(), b.reference.log().len());
                prop_assert!(apart(policy(a), &b.reference) < EXACT);
            }
            for still in ema(&problem, inner, 0.0, 3).unwrap() {
                prop_assert!(apart(&still.reference, &problem.reference()) < EXACT);
                if inner == Inner::Dpo {
                    prop_assert!(apart(policy(&still.answer), policy(&moved[0])) < EXACT);
                }
            }
        }
    }

    /// Merged logits are the geometric mean, and all three losses are convex in logits.
    #[test]
    fn a_merged_ensemble_is_no_worse_than_its_members(
        problem in any_::any_kind(),
        members in prop::collection::vec(table(6.0), 1..6),
    ) {
        let members: Vec<Policy> = members.iter().map(|t| Policy::softmax(&fit(&problem, t))).collect();
        let merged = merge(&members).unwrap();
        for (x, row) in merged.probabilities().iter().enumerate() {
            prop_assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-14);
            let geometric: Vec<f64> = (0..row.len())
                .map(|a| members.iter().map(|m| m.probabilities()[x][a]).product::<f64>().powf(1.0 / members.len() as f64))
                .collect();
            let sum: f64 = geometric.iter().sum();
            for (got, want) in row.iter().zip(&geometric) {
                prop_assert!((got - want / sum).abs() < 1e-12);
            }
        }
        for inner in Inner::ALL {
            let each: Vec<f64> = members.iter().map(|m| population_loss(&problem, inner, m.log())).collect();
            let mean = each.iter().sum::<f64>() / each.len() as f64;
            let whole = population_loss(&problem, inner, merged.log());
            prop_assert!(whole <= mean + 1e-12 * (1.0 + mean), "{inner:?}: {whole} {mean}");
        }
    }

    /// K = 1: at the start of a phase the reference cancels, and the expected update of each loss,
    /// taken from its own code, is c π_a (2P_a − 1).
    #[test]
    fn the_first_update_of_a_phase(problem in any_::full(), at in table(4.0)) {
        let at = Policy::softmax(&fit(&problem, &at));
        let start = phase_problem(&problem, &at).unwrap();
        let population = Evidence::population(&start);
        for inner in Inner::ALL {
            let c = inner.first_step(problem.beta());
            let gradient = evaluate(&start, &population, inner.objective(), at.log()).unwrap().gradient;
            let update = first_update(&problem, inner, &at).unwrap();
            for (x, prompt) in problem.prompts().iter().enumerate() {
                let p = &at.probabilities()[x];
                for a in 0..prompt.arms() {
                    let wins: f64 = (0..prompt.arms())
                        .map(|b| p[b] / (1.0 + (prompt.reward[b] - prompt.reward[a]).exp()))
                        .sum();
                    let want = prompt.weight * c * p[a] * (2.0 * wins - 1.0);
                    prop_assert!((update[x][a] - want).abs() < 1e-14 * c, "{inner:?}");
                    prop_assert!((-gradient[x][a] - want).abs() < 1e-14 * c, "{inner:?}: {} {want}", -gradient[x][a]);
                }
            }
        }
    }

    /// Temperatures from 1e-3 to 1e3, rewards to ±1e4, references to 1e-300: numbers all the way,
    /// and the reference of a phase is the last policy to the last bit, probability 0 or not.
    #[test]
    fn extreme_problems_stay_finite(problem in any_::extreme()) {
        for inner in Inner::ALL {
            let mut last = problem.reference();
            for phase in ema(&problem, inner, 0.5, 4).unwrap() {
                prop_assert!(phase.reference.log().iter().flatten().all(|l| l.is_finite()));
            }
            for point in phases(&problem, inner, 4).unwrap() {
                let stage = phase_problem(&problem, &last).unwrap();
                for (prompt, row) in stage.prompts().iter().zip(last.log()) {
                    prop_assert_eq!(&prompt.log_reference, row);
                }
                prop_assert!(policy(&point).log().iter().flatten().all(|l| l.is_finite()));
                prop_assert!(point.regret.unwrap().is_finite() && point.residual.unwrap().is_finite());
                last = policy(&point).clone();
            }
        }
        let far = phases(&problem, Inner::Dpo, 1000).unwrap();
        prop_assert!(far[999].regret.unwrap().is_finite());
    }
}

proptest! {
    #![proptest_config(settings(REGRESSIONS, 12))]

    /// A numeric minimiser from a random start finds the second phase too.
    #[test]
    fn a_numeric_minimiser_finds_each_phase(problem in any_::mild(), start in table(1.0)) {
        prop_assume!(problem.beta() > 0.3);
        for inner in SMOOTH {
            let points = phases(&problem, inner, 2).unwrap();
            let stage = phase_problem(&problem, policy(&points[0])).unwrap();
            let from: Vec<Vec<f64>> = (points[0].policy.as_ref().unwrap().log().iter().zip(fit(&problem, &start)))
                .map(|(l, s)| l.iter().zip(s).map(|(l, s)| l + s).collect())
                .collect();
            let found = minimiser(&stage, &Evidence::population(&stage), inner.objective(), &from);
            prop_assert!(apart(&Policy::softmax(&found), policy(&points[1])) < 1e-6, "{inner:?}");
        }
    }
}

/// Under IPO the log-odds of the two best arms end up moving by `(p_12 − ½)/β` a phase.
#[test]
fn the_rate_at_which_ipo_collapses() {
    let problem = toy();
    let points = phases(&problem, Inner::Ipo, 120).unwrap();
    let odds = |k: usize| {
        let log = &policy(&points[k]).log()[0];
        log[1] - log[0]
    };
    let p12 = 1.0 / (1.0 + (-0.5f64).exp());
    let want = -(p12 - 0.5) / 0.5;
    let early = odds(1) - odds(0);
    let late = odds(119) - odds(118);
    assert!((late - want).abs() < 1e-9, "{late} {want}");
    assert!((early - want).abs() > 1e-2, "not at once: {early}");
    assert!(policy(&points[119]).probabilities()[0][0] > 1.0 - 1e-10);
}

/// The reference numbers, computed in 50-digit arithmetic.
#[test]
fn golden_phases() {
    let mut compared = 0;
    for (name, instance, problem) in instances() {
        for (inner, key) in [(Inner::Dpo, "DPO"), (Inner::Ipo, "IPO_onpolicy_pairs")] {
            for (k, point) in (1..).zip(phases(&problem, inner, 5).unwrap()) {
                let want = &instance["limits"]["BPO_phases_exact"][k.to_string()][key];
                let pi = golden::table(&want["pi"]);
                let off = distance(&policy(&point).probabilities(), &pi);
                assert!(off < 1e-13, "{name} {key} {k}: {off:e}");
                let off = (point.regret.unwrap() - number(&want["regret"])).abs();
                assert!(off < 1e-13, "{name} {key} {k}: {off:e}");
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 30);
}

/// An arm whose probability has gone below the smallest double keeps its log-probability, and the
/// answer says that no pair shows it.
#[test]
fn an_arm_may_leave_the_doubles() {
    let problem = Problem::from_json(
        r#"{"beta": 0.001, "prompts": [{"reward": [1, 0], "reference": [1e-300, 1],
            "behavior": [[0.5, 0.5]]}]}"#,
    )
    .unwrap();
    let points = phases(&problem, Inner::Dpo, 3).unwrap();
    let odds = |k: usize| {
        let log = &policy(&points[k]).log()[0];
        log[0] - log[1]
    };
    let start = 1e-300f64.ln();
    for k in 0..3 {
        let want = start + 1000.0 * (k + 1) as f64;
        assert!((odds(k) - want).abs() < 1e-12 * want.abs(), "{}", odds(k));
    }
    assert!(
        points[0].notes.is_empty() && points[1].notes.is_empty(),
        "{points:?}"
    );
    assert!(points[2].notes.concat().contains("5e-324"), "{points:?}");
}

/// A prompt of weight 0 is never shown and never moves, with or without averaging.
#[test]
fn a_prompt_never_shown_stays() {
    let problem = Problem::from_json(
        r#"{"beta": 0.5, "prompts": [
            {"weight": 1, "reward": [1, 0], "reference": [0.5, 0.5],
             "behavior": [[0.5, 0.5]]},
            {"weight": 0, "reward": [3, 0], "reference": [0.25, 0.75],
             "behavior": [[0.5, 0.5]]}]}"#,
    )
    .unwrap();
    for inner in Inner::ALL {
        for phase in ema(&problem, inner, 0.5, 3).unwrap() {
            let pi = policy(&phase.answer).probabilities();
            assert!((pi[1][0] - 0.25).abs() < 1e-15, "{inner:?} {pi:?}");
            assert!(pi[0][0] > 0.5 && !phase.answer.unique);
        }
    }
}

#[test]
fn what_cannot_be_solved_is_refused() {
    let problem = toy();
    let says = |error: pistar::Error, what: &str| {
        let error = error.to_string();
        assert!(error.contains(what), "{error}");
    };
    says(phases(&problem, Inner::Dpo, 0).unwrap_err(), "phases");
    says(
        phases(&problem, Inner::Dpo, usize::MAX).unwrap_err(),
        "3 arms",
    );
    says(static_equivalent(&problem, 0).unwrap_err(), "temperature");
    for tau in [-0.1, 1.1, f64::NAN] {
        says(ema(&problem, Inner::Ipo, tau, 1).unwrap_err(), "tau");
    }
    let certain = Policy::from_log(vec![vec![0.0, f64::NEG_INFINITY, f64::NEG_INFINITY]]);
    says(phase_problem(&problem, &certain).unwrap_err(), "arm 1");
    let short = Policy::from_log(vec![vec![0.0]]);
    says(phase_problem(&problem, &short).unwrap_err(), "1 arms");
    says(
        phase_problem(&problem, &Policy::from_log(vec![])).unwrap_err(),
        "0 prompts",
    );
    says(merge(&[]).unwrap_err(), "none");
    says(merge(&[certain.clone(), short]).unwrap_err(), "policies[1]");
    let other = Policy::from_log(vec![vec![f64::NEG_INFINITY, 0.0, f64::NEG_INFINITY]]);
    says(merge(&[certain, other]).unwrap_err(), "no arm");
}

// ------------------------------------------------------------------------------- by sampling

fn config(inner: Inner) -> Config {
    Config {
        inner,
        reference: Reference::Behaviour,
        updates: 60,
        phases: 3,
        pairs: Pairs::Drawn(32),
        ensemble: Ensemble::default(),
        every: 5,
        optimizer: Optimizer::Sgd { lr: 0.5 },
        seeds: 5,
        key: 0,
        threads: 2,
    }
}

fn rows(problem: &Problem, config: &Config) -> Vec<Row> {
    run(problem, config).unwrap()
}

/// The largest difference of true rewards along two runs.
fn path_gap(a: &[Row], b: &[Row]) -> f64 {
    assert_eq!(a.len(), b.len());
    (a.iter().zip(b)).fold(0.0, |m, (a, b)| (a.reward - b.reward).abs().max(m))
}

fn mean_and_error(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
    (mean, (variance / n).sqrt())
}

/// Same key, same rows, for any number of threads and of other seeds.
#[test]
fn rows_do_not_depend_on_threads() {
    for inner in Inner::ALL {
        let base = Config {
            threads: 1,
            ..config(inner)
        };
        let one = rows(&toy(), &base);
        assert_eq!(one.len(), 5 * 13);
        for threads in [2, 3] {
            assert_eq!(
                rows(
                    &toy(),
                    &Config {
                        threads,
                        ..base.clone()
                    }
                ),
                one
            );
        }
        let fewer = rows(
            &toy(),
            &Config {
                seeds: 2,
                ..base.clone()
            },
        );
        assert_eq!(fewer[..], one[..fewer.len()]);
        assert_ne!(rows(&toy(), &Config { key: 1, ..base }), one);
    }
}

/// The first row is the reference, budgets count labels, and a win rate against oneself is ½.
#[test]
fn rows_say_what_was_spent() {
    let problem = toy();
    let all = rows(
        &problem,
        &Config {
            every: 7,
            seeds: 1,
            ..config(Inner::Ipo)
        },
    );
    let updates: Vec<usize> = all.iter().map(|r| r.update).collect();
    assert_eq!(updates, [0, 7, 14, 21, 28, 35, 42, 49, 56, 60]);
    assert!(all.iter().all(|r| r.labels == 32 * r.update));
    let start = &all[0];
    assert_eq!(start.regret, problem.regret(&problem.reference()));
    assert!((start.reward - 5.5 / 3.0).abs() < 1e-14 && (start.win_rate - 0.5).abs() < 1e-15);
    assert!(all[9].win_rate > 0.55 && all[9].reward > 1.9, "{all:?}");
}

/// With one update per phase (F = T) the log-ratios are all 0 and under plain SGD β is only a
/// learning rate: at lr/c the three losses take the very same path at any β. A static reference
/// does not, nor do two updates a phase.
#[test]
fn with_one_update_a_phase_the_reference_cancels() {
    let run = |inner: Inner, beta: f64, reference, phases| {
        let problem = toy().at(pistar::bandit::Beta::new("beta", beta).unwrap());
        let optimizer = Optimizer::Sgd {
            lr: 0.3 / inner.first_step(beta),
        };
        rows(
            &problem,
            &Config {
                reference,
                phases,
                optimizer,
                ..config(inner)
            },
        )
    };
    let first = run(Inner::Dpo, 0.5, Reference::Behaviour, 60);
    for inner in Inner::ALL {
        for beta in [0.1, 0.5, 4.0] {
            let gap = path_gap(&first, &run(inner, beta, Reference::Behaviour, 60));
            assert!(gap < 1e-12, "{inner:?} {beta}: {gap:e}");
        }
    }
    let gap = |inner, reference: Reference, phases| {
        path_gap(
            &run(inner, 0.5, reference.clone(), phases),
            &run(inner, 4.0, reference, phases),
        )
    };
    for inner in SMOOTH {
        assert!(gap(inner, Reference::Static, 60) > 1e-2, "{inner:?}");
        assert!(gap(inner, Reference::Behaviour, 30) > 1e-3, "{inner:?}");
    }
}

/// Adam divides each gradient's scale out, so with K = 1 the three losses agree at one learning rate.
#[test]
fn under_adam_one_learning_rate_serves_all_losses() {
    let adam = |inner| {
        let optimizer = Optimizer::adam(1e-2);
        rows(
            &toy(),
            &Config {
                phases: 60,
                optimizer,
                ..config(inner)
            },
        )
    };
    let dpo = adam(Inner::Dpo);
    for inner in [Inner::Ipo, Inner::Slic] {
        // ε = 1e-8 does not scale with the gradient.
        assert!(path_gap(&dpo, &adam(inner)) < 1e-6, "{inner:?}");
    }
    let sgd = |inner| {
        rows(
            &toy(),
            &Config {
                phases: 60,
                ..config(inner)
            },
        )
    };
    assert!(path_gap(&sgd(Inner::Dpo), &sgd(Inner::Ipo)) > 1e-2);
}

/// An ensemble of two-dimensional changes of logits.
fn ensemble(members: usize) -> Ensemble {
    Ensemble {
        members,
        rank: Some(2),
    }
}

/// With one update a phase a lone member is its own reference, whatever its rank, and β only a learning rate;
/// of several, each is held against the merged policy, which is another one, and β is not.
#[test]
fn in_an_ensemble_the_reference_does_not_cancel() {
    let run = |inner: Inner, beta: f64, ensemble: Ensemble| {
        let problem = toy().at(pistar::bandit::Beta::new("beta", beta).unwrap());
        let optimizer = Optimizer::Sgd {
            lr: 0.3 / inner.first_step(beta),
        };
        rows(
            &problem,
            &Config {
                phases: 60,
                optimizer,
                ensemble,
                ..config(inner)
            },
        )
    };
    for inner in SMOOTH {
        let gap = |ensemble| path_gap(&run(inner, 0.5, ensemble), &run(inner, 4.0, ensemble));
        let (alone, merged) = (gap(ensemble(1)), gap(ensemble(5)));
        assert!(alone < 1e-12, "{inner:?}: {alone:e}");
        assert!(merged > 1e-3, "{inner:?}: {merged:e}");
    }
}

/// Members that do not differ are one: theirs are the rows of a lone table, to rounding. And members are their
/// own, not their neighbours': another one changes the merged policy and no random number.
#[test]
fn members_differ_by_their_factors_alone() {
    for inner in Inner::ALL {
        let with = |members, rank| {
            let ensemble = Ensemble { members, rank };
            rows(
                &toy(),
                &Config {
                    ensemble,
                    ..config(inner)
                },
            )
        };
        assert!(path_gap(&with(3, None), &with(1, None)) < 1e-12);
        let (one, two) = (with(1, Some(2)), with(2, Some(2)));
        assert!(path_gap(&one, &two) > 1e-3);
        // All begin at the reference.
        for (a, b) in one.iter().zip(&two).filter(|(a, _)| a.update == 0) {
            assert_eq!(a, b);
        }
    }
}

/// At the first step the merged logits of many members move, on average, as a table's: `E[AᵀA]` is the identity.
#[test]
fn a_first_step_of_low_rank_is_a_tables_on_average() {
    let first = |rank, seeds| {
        let found = policies(
            &toy(),
            &Config {
                updates: 1,
                phases: 1,
                pairs: Pairs::Expected,
                ensemble: Ensemble { members: 20, rank },
                optimizer: Optimizer::Sgd { lr: 0.5 },
                seeds,
                ..config(Inner::Ipo)
            },
        );
        found.unwrap()
    };
    let whole = first(None, 1);
    let odds = |p: &Policy, a: usize| p.log()[0][a] - p.log()[0][2];
    for rank in [1, 2, 3] {
        for arm in 0..2 {
            let each: Vec<f64> = (first(Some(rank), 200).iter())
                .map(|p| odds(&p[0], arm))
                .collect();
            let (mean, error) = mean_and_error(&each);
            let want = odds(&whole[0][0], arm);
            assert!((mean - want).abs() < 4.5 * error, "{rank} {arm}");
            assert!(error > 0.0 && want.abs() > 8.0 * error, "{rank} {arm}");
        }
    }
}

/// One phase is offline training, whose reference never moves; τ = 0 is static, and τ = 1 with one
/// update a phase is BPO; a reference that is given as it is at the start is static. All to the byte, ensembles too.
#[test]
fn the_references_meet_at_their_ends() {
    // A reference whose logarithms do not sum to exactly 1.
    let problem = Problem::from_json(
        r#"{"beta": 0.5, "prompts": [{"reward": [2.5, 2, 1], "reference": [0.2, 0.1, 0.7],
            "behavior": [[0.3, 0.4, 0.3]]}]}"#,
    )
    .unwrap();
    let start = Policy::softmax(problem.reference().log());
    for (inner, ensemble) in Inner::ALL
        .into_iter()
        .flat_map(|inner| [Ensemble::default(), ensemble(3)].map(|e| (inner, e)))
    {
        let with = |reference, phases| {
            rows(
                &problem,
                &Config {
                    reference,
                    phases,
                    ensemble,
                    ..config(inner)
                },
            )
        };
        assert_eq!(with(Reference::Behaviour, 1), with(Reference::Static, 1));
        for phases in [3, 60] {
            let still = with(Reference::Static, phases);
            assert_eq!(with(Reference::Average { tau: 0.0 }, phases), still);
            assert_eq!(with(Reference::Given(start.clone()), phases), still);
        }
        assert_eq!(
            with(Reference::Average { tau: 1.0 }, 60),
            with(Reference::Behaviour, 60)
        );
        if inner != Inner::Slic {
            let behaviour = with(Reference::Behaviour, 3);
            assert!(path_gap(&with(Reference::Static, 3), &behaviour) > 1e-3);
            let average = with(Reference::Average { tau: 0.1 }, 3);
            assert!(path_gap(&average, &behaviour) > 1e-4);
            assert!(path_gap(&average, &with(Reference::Static, 3)) > 1e-4);
        }
    }
}

/// The golden reference is the end of an on-policy run of DPO, for every loss; where no pair is drawn that run
/// is the one that can be had by hand.
#[test]
fn golden_is_a_run_of_its_own() {
    let problem = toy();
    for inner in Inner::ALL {
        let with = |inner, reference, phases, pairs| Config {
            reference,
            phases,
            pairs,
            seeds: 2,
            ..config(inner)
        };
        let on_policy = with(Inner::Dpo, Reference::Behaviour, 60, Pairs::Expected);
        let by_hand = policies(&problem, &on_policy).unwrap()[0][59].clone();
        let run = |reference, pairs| rows(&problem, &with(inner, reference, 3, pairs));
        assert_eq!(
            run(Reference::Golden, Pairs::Expected),
            run(Reference::Given(by_hand.clone()), Pairs::Expected)
        );
        // By sampling each seed has one of its own, near the expected one.
        let (drawn, near) = (
            run(Reference::Golden, Pairs::Drawn(2000)),
            run(Reference::Given(by_hand), Pairs::Drawn(2000)),
        );
        // SLiC's hinge does not look at a reference before it is reached.
        assert!(inner == Inner::Slic || drawn != near);
        assert!(path_gap(&drawn, &near) < 0.02);
        assert!(drawn.iter().all(|r| r.labels == 2000 * r.update));
    }
}

/// The largest difference of two policies' log-probabilities.
fn log_apart(a: &Policy, b: &Policy) -> f64 {
    (a.log().concat().iter().zip(b.log().concat())).fold(0.0, |m, (a, b)| (a - b).abs().max(m))
}

/// Two prompts of unlike weight and reference.
fn two_prompts() -> Problem {
    Problem::from_json(
        r#"{"beta": 1, "prompts": [
            {"weight": 0.4, "reward": [1, 0, 0.3], "reference": [0.3, 0.4, 0.3],
             "behavior": [[0.3, 0.4, 0.3]]},
            {"weight": 0.6, "reward": [0, 0.7], "reference": [0.5, 0.5],
             "behavior": [[0.5, 0.5]]}]}"#,
    )
    .unwrap()
}

/// Trains on all pairs until a phase is over: its policies, seed 0.
fn to_the_end(problem: &Problem, inner: Inner, reference: Reference) -> Vec<Policy> {
    let lr = match inner {
        Inner::Ipo => 1.0,
        _ => 8.0,
    };
    let config = Config {
        reference,
        updates: 12_000,
        phases: 4,
        pairs: Pairs::Expected,
        every: 12_000,
        optimizer: Optimizer::Sgd { lr },
        seeds: 1,
        ..config(inner)
    };
    policies(problem, &config).unwrap().remove(0)
}

/// The loop and the solver agree: trained to its end on all pairs with their probabilities, each phase leaves
/// the policy that is solved for; with a reference that stays, or labels that are turned round, it does not.
#[test]
fn the_loop_ends_where_phases_are_solved() {
    let problem = two_prompts();
    for inner in SMOOTH {
        let solved = phases(&problem, inner, 4).unwrap();
        let found = to_the_end(&problem, inner, Reference::Behaviour);
        assert_eq!(found.len(), 4);
        for (k, (found, solved)) in found.iter().zip(&solved).enumerate() {
            let off = log_apart(found, policy(solved));
            println!("{inner:?} phase {}: {off:.1e}", k + 1);
            assert!(off < 1e-12, "{inner:?} {k}: {off:e}");
        }
        // What moves is much: no two phases are alike.
        for pair in found.windows(2) {
            assert!(log_apart(&pair[0], &pair[1]) > 0.1);
        }
        // Faults. A reference that does not move: the first phase is right, the others are not.
        let still = to_the_end(&problem, inner, Reference::Static);
        assert!(log_apart(&still[0], policy(&solved[0])) < 1e-12);
        for (found, solved) in still.iter().zip(&solved).skip(1) {
            assert!(log_apart(found, policy(solved)) > 0.1, "{inner:?}");
        }
        // The label of the other pair: rewards with their sign turned.
        let turned = problem.map_prompts(|_, prompt| {
            prompt.reward.iter_mut().for_each(|r| *r = -*r);
        });
        let turned = to_the_end(&turned, inner, Reference::Behaviour);
        for (found, solved) in turned.iter().zip(&solved) {
            assert!(log_apart(found, policy(solved)) > 0.1, "{inner:?}");
        }
    }
}

/// SLiC's minimisers lie on kinks, which steps of one size go around by no more than a step: a tenth of it
/// comes ten times as near.
#[test]
fn the_loop_ends_around_slics_kinks() {
    let problem = two_prompts();
    let solved = phases(&problem, Inner::Slic, 3).unwrap();
    assert!(solved[2].unique);
    let off = |lr: f64, reference: Reference| -> Vec<f64> {
        let config = Config {
            reference,
            updates: (900.0 / lr) as usize,
            phases: 3,
            pairs: Pairs::Expected,
            every: 1_000_000,
            optimizer: Optimizer::Sgd { lr },
            seeds: 1,
            ..config(Inner::Slic)
        };
        let found = policies(&problem, &config).unwrap().remove(0);
        (found.iter().zip(&solved))
            .map(|(found, solved)| log_apart(found, policy(solved)))
            .collect()
    };
    let farthest = [0.3, 0.03].map(|lr| {
        let all = off(lr, Reference::Behaviour);
        println!("{lr}: {all:?}");
        // β is 1: a step moves no logit by more than the rate.
        assert!(all.iter().all(|off| *off < lr), "{lr}: {all:?}");
        all.into_iter().fold(0.0, f64::max)
    });
    assert!(farthest[1] < 0.2 * farthest[0], "{farthest:?}");
    let still = off(0.03, Reference::Static);
    assert!(still[1] > 0.5 && still[2] > 0.5, "{still:?}");
}

/// With many pairs a phase sampled is the phase solved: mean rewards over seeds are within five
/// standard errors, plus the curvature's share of what one seed scatters, of the exact ones after
/// every phase; the next phase's are far outside.
#[test]
fn sampled_phases_end_at_the_exact_ones() {
    let problem = Problem::from_json(
        r#"{"beta": 1, "prompts": [{"reward": [1, 0, 0.3], "reference": [0.3, 0.4, 0.3],
            "behavior": [[0.3, 0.4, 0.3]]}]}"#,
    )
    .unwrap();
    let value = |point: &FixedPoint| -> f64 {
        let pi = policy(point).probabilities();
        pi[0]
            .iter()
            .zip(&problem.prompts()[0].reward)
            .map(|(p, r)| p * r)
            .sum()
    };
    for inner in SMOOTH {
        let exact = phases(&problem, inner, 3).unwrap();
        let lr = match inner {
            Inner::Ipo => 1.0,
            _ => 8.0,
        };
        let config = Config {
            updates: 450,
            phases: 3,
            pairs: Pairs::Drawn(2000),
            every: 150,
            optimizer: Optimizer::Sgd { lr },
            seeds: 24,
            ..config(inner)
        };
        let all = rows(&problem, &config);
        for (k, point) in (1..).zip(&exact) {
            let at: Vec<f64> = (all.iter())
                .filter(|r| r.update == 150 * k)
                .map(|r| r.reward)
                .collect();
            let (mean, error) = mean_and_error(&at);
            let want = value(point);
            println!("{inner:?} phase {k}: {mean:.6} ± {error:.6} against {want:.6}");
            assert!(
                (mean - want).abs() < 5.0 * error + 24.0 * error * error,
                "{inner:?} {k}"
            );
            if let Some(next) = exact.get(k) {
                assert!((mean - value(next)).abs() > 20.0 * error);
            }
        }
    }
}

#[test]
fn runs_that_make_no_sense_are_refused() {
    let says = |config: Config, what: &str| {
        let error = run(&toy(), &config).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    };
    let base = config(Inner::Dpo);
    says(
        Config {
            phases: 7,
            ..base.clone()
        },
        "divides",
    );
    says(
        Config {
            phases: 120,
            ..base.clone()
        },
        "divides",
    );
    says(
        Config {
            pairs: Pairs::Drawn(0),
            ..base.clone()
        },
        "batch",
    );
    says(
        Config {
            every: 0,
            ..base.clone()
        },
        "every",
    );
    for (members, rank, what) in [
        (0, None, "members"),
        (1001, None, "members"),
        (2, Some(0), "rank"),
        (2, Some(4), "3 arms"),
    ] {
        let ensemble = Ensemble { members, rank };
        says(
            Config {
                ensemble,
                ..base.clone()
            },
            what,
        );
    }
    says(
        Config {
            reference: Reference::Given(Policy::from_log(vec![vec![0.0]])),
            ..base.clone()
        },
        "1 arms",
    );
    says(
        Config {
            reference: Reference::Average { tau: 2.0 },
            ..base.clone()
        },
        "tau",
    );
    says(
        Config {
            phases: 1,
            optimizer: Optimizer::Sgd { lr: 1e6 },
            ..config(Inner::Ipo)
        },
        "diverged",
    );
}
