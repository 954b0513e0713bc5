//! A policy through a sequence of tasks: metrics, methods, and what each forgets.

use pistar::bandit::{Policy, Problem};
use pistar::continual::{
    Base, Keeps, Method, Plan, Score, Sequence, SequenceShape, Weights, metrics, run,
};
use pistar::solve::copr::{Divergence, Target, compromise};
use proptest::collection::vec;
use proptest::prelude::*;

use super::common::distance;
use super::common::strategies::settings;

const REGRESSIONS: &str = "tests/regressions/continual.txt";

fn linear(overlap: f64) -> SequenceShape {
    SequenceShape {
        tasks: 3,
        prompts: 8,
        arms: 4,
        beta: 0.5,
        overlap: Some(overlap),
        block: 6,
    }
}

fn shared(prompts: usize) -> SequenceShape {
    SequenceShape {
        tasks: 2,
        prompts,
        arms: 4,
        beta: 0.5,
        overlap: None,
        block: 1,
    }
}

fn plan() -> Plan {
    Plan {
        steps: 300,
        replay: 0.25,
        multiplier_rate: 0.1,
        pull: 0.05,
        ..Plan::default()
    }
}

/// Sequences of every kind: shared prompts on a table, own prompts on a table, own prompts with shared
/// features.
fn kinds(seed: u64) -> [Sequence; 3] {
    let mixed = Sequence::random(&linear(0.5), seed).unwrap();
    let problems = mixed.tasks().iter().map(|t| t.problem.clone()).collect();
    [
        Sequence::random(&shared(3), seed).unwrap(),
        Sequence::apart(problems).unwrap(),
        mixed,
    ]
}

/// Whether a base teaches the order of all responses.
fn orders(base: Base) -> bool {
    !matches!(base, Base::Likelihood | Base::SelfPlay)
}

fn averages(shape: &SequenceShape, method: Method, plan: &Plan) -> (f64, f64) {
    let seeds = 6;
    let (mut accuracy, mut transfer) = (0.0, 0.0);
    for seed in 0..seeds {
        let sequence = Sequence::random(shape, seed).unwrap();
        let metrics = run(&sequence, method, plan).unwrap().metrics;
        let last = shape.tasks - 1;
        accuracy += metrics.average_accuracy[last] / seeds as f64;
        transfer += metrics.backward_transfer[last].unwrap() / seeds as f64;
    }
    (accuracy, transfer)
}

/// A worked example: three tasks, by hand.
#[test]
fn metrics_by_hand() {
    let a = vec![
        vec![0.9, 0.3, 0.1],
        vec![0.7, 0.8, 0.95],
        vec![0.6, 0.85, 0.5],
    ];
    let close = |x: f64, y: f64| assert!((x - y).abs() < 1e-15, "{x} {y}");
    close(metrics::average_accuracy(&a, 2), 0.65);
    close(
        metrics::average_incremental_accuracy(&a, 2),
        (0.9 + 0.75 + 0.65) / 3.0,
    );
    close(
        metrics::backward_transfer(&a, 2).unwrap(),
        (-0.3 + 0.05) / 2.0,
    );
    close(metrics::forgetting(&a, 2).unwrap(), (0.3 - 0.05) / 2.0);
    assert_eq!(metrics::backward_transfer(&a, 0), None);
    assert_eq!(metrics::forgetting(&a, 0), None);
    // A good guess before a task is learned counts as something to forget, in the printed range only.
    let mut lucky = a.clone();
    lucky[0][1] = 1.0;
    close(metrics::forgetting(&lucky, 2).unwrap(), 0.125);
    close(
        metrics::forgetting_as_printed(&lucky, 2).unwrap(),
        (0.3 + 0.15) / 2.0,
    );
}

/// Random sequences rank by reward: nothing but the rewards decides what is better.
#[test]
fn random_sequences_leave_the_ranking_to_the_rewards() {
    for shape in [shared(2), linear(0.5)] {
        let sequence = Sequence::random(&shape, 0).unwrap();
        for task in sequence.tasks() {
            assert!(task.problem.prompts().iter().all(|p| p.ranking.is_none()));
        }
    }
    // A ranking that is given is taken, and need not follow the rewards.
    let sequence = Sequence::random(&shared(1), 0).unwrap();
    let mut reversed = sequence.tasks()[0].problem.clone();
    reversed = reversed.map_prompts(|_, p| {
        let mut order: Vec<u32> = (0..4).collect();
        order.sort_by(|&a, &b| p.reward[b as usize].total_cmp(&p.reward[a as usize]));
        p.ranking = Some(order);
    });
    let reversed = Sequence::shared(vec![reversed]).unwrap();
    assert_eq!(
        run(&reversed, Method::COPR, &plan()).unwrap().accuracy[0],
        [0.0]
    );
}

/// Same seed, same outcome, to the last bit; another seed replays other prompts.
#[test]
fn runs_are_reproducible() {
    let sequence = Sequence::random(&linear(0.5), 3).unwrap();
    let again = Sequence::random(&linear(0.5), 3).unwrap();
    for &method in Method::ALL {
        let (one, two) = (
            run(&sequence, method, &plan()),
            run(&again, method, &plan()),
        );
        assert_eq!(one.unwrap(), two.unwrap());
    }
    let other = Plan { seed: 1, ..plan() };
    let kept = |plan: &Plan| run(&sequence, Method::FIT_REPLAY, plan).unwrap().replayed;
    assert_ne!(kept(&plan()), kept(&other));
    assert!(kept(&plan()).iter().all(|task| task.len() == 2));
}

/// Whatever is run: accuracies in [0, 1], one half of pairs in order at the start, a full history,
/// multipliers for COPR only, the first task learned the same by all who fit.
#[test]
fn every_method_on_every_kind_of_sequence() {
    for sequence in kinds(1) {
        let tasks = sequence.tasks().len();
        let alone = |base| {
            let method = Method::ALL
                .iter()
                .find(|m| m.base == base && m.keeps == Keeps::Nothing);
            method.map(|&method| run(&sequence, method, &plan()).unwrap())
        };
        for &method in Method::ALL {
            let out = run(&sequence, method, &plan()).unwrap();
            assert_eq!(out.initial, vec![0.5; tasks]);
            assert!(
                out.accuracy
                    .iter()
                    .flatten()
                    .all(|a| (0.0..=1.0).contains(a))
            );
            // The likelihood of the best response says nothing of the order of the others.
            let least = if orders(method.base) { 0.7 } else { 0.55 };
            assert!(
                out.accuracy[0][0] > least,
                "{}: {:?}",
                method.name,
                out.accuracy
            );
            let copr = matches!(method.keeps, Keeps::Constraints | Keeps::Fits);
            for moment in &out.history {
                let old = if copr { moment.task } else { 0 };
                assert_eq!(moment.multipliers.len(), old);
                assert_eq!(moment.constraints.len(), old);
                // The threshold is the divergence at the start of the task (eq. 13).
                if moment.step == 0 && method.keeps == Keeps::Constraints {
                    assert!(moment.constraints.iter().all(|c| *c == 0.0));
                }
            }
            let rounds = |t: usize| if method.sees_all() { t + 1 } else { 1 };
            let moments: usize = (0..tasks).map(|t| rounds(t) * 300 / 50 + 1).sum();
            assert_eq!(out.history.len(), moments);
            let from_the_first =
                matches!(method.keeps, Keeps::Pull(Weights::Equal) | Keeps::Plateaus);
            if let Some(alone) = alone(method.base)
                && !from_the_first
            {
                assert_eq!(out.parameters[0], alone.parameters[0], "{}", method.name);
            }
        }
    }
}

/// A free table forgets nothing where tasks have prompts of their own, whatever the method does
/// without replay.
#[test]
fn a_table_does_not_forget_prompts_it_does_not_see() {
    let [_, apart, _] = kinds(5);
    for method in [
        Method::SFT,
        Method::SFT_L2,
        Method::SFT_EWC,
        Method::SFT_MAS,
        Method::SFT_LWF,
        Method::FIT,
        Method::FIT_L2,
        Method::FIT_EWC,
    ] {
        let out = run(&apart, method, &plan()).unwrap();
        let last = out.accuracy.len() - 1;
        assert_eq!(out.metrics.backward_transfer[last], Some(0.0));
        assert_eq!(out.metrics.forgetting[last], Some(0.0));
    }
    // Features that do not overlap neither, though the policy is one.
    let separate = Sequence::random(&linear(0.0), 5).unwrap();
    let out = run(&separate, Method::FIT, &plan()).unwrap();
    assert_eq!(out.metrics.backward_transfer[2], Some(0.0));
}

/// Shared features: the plain sequence forgets, constraints and anchors forget less, and joint
/// training is best (mean of six random sequences).
#[test]
fn constraints_and_anchors_reduce_forgetting() {
    let shape = SequenceShape {
        prompts: 40,
        ..linear(0.3)
    };
    let plan = Plan {
        replay: 0.5,
        multiplier_rate: 1.0,
        ..plan()
    };
    let plan = Plan { pull: 1.0, ..plan };
    let [copr, sequential, replay, ewc, joint] = [
        Method::COPR_NO_LIKELIHOOD,
        Method::FIT,
        Method::FIT_REPLAY,
        Method::FIT_EWC,
        Method::FIT_ALL,
    ]
    .map(|method| averages(&shape, method, &plan));
    assert!(sequential.1 < -0.05, "{sequential:?}");
    for other in [copr, replay, ewc] {
        assert!(other.1 > sequential.1 + 0.02, "{other:?} {sequential:?}");
    }
    for other in [copr, sequential, replay, ewc] {
        assert!(joint.0 > other.0 + 0.02, "{joint:?} {other:?}");
    }
}

/// One shared prompt, both tasks fitted to rest: the plain sequence ends at the optimum of eq. 3 (all
/// rewards added), replay at the compromise of both sampling distributions in either divergence, and
/// COPR, whose threshold the exact first fit has made zero, goes back to the first as λ grows.
#[test]
fn one_shared_prompt_ends_where_the_theory_says() {
    for divergence in [Divergence::Reverse, Divergence::Forward] {
        let sequence = Sequence::random(&shared(1), 2).unwrap();
        let plan = Plan {
            steps: 4000,
            rate: 0.5,
            replay: 1.0,
            divergence,
            multiplier_rate: 1.0,
            multiplier_cap: 1e4,
            ..Plan::default()
        };
        let end = |method| {
            let out = run(&sequence, method, &plan).unwrap();
            let last = out.history.last().unwrap().clone();
            let policy = |k: usize| sequence.policy(&out.parameters[k], 1).probabilities();
            ([policy(0), policy(1)], last)
        };
        let optima: Vec<Policy> = {
            let mut before = sequence.policy(&vec![0.0; sequence.parameters()], 0);
            (sequence.tasks().iter())
                .map(|task| {
                    let prompt = &task.problem.prompts()[0];
                    let mut order: Vec<usize> = (0..4).collect();
                    order.sort_by(|&a, &b| prompt.reward[a].total_cmp(&prompt.reward[b]));
                    let advantage = [-0.75, -0.25, 0.25, 0.75];
                    let target = Target::new(&before.log()[0], order.clone(), &advantage, 0.5);
                    let mut log = vec![0.0; 4];
                    (order.iter().zip(target.unwrap().log)).for_each(|(&a, l)| log[a] = l);
                    before = Policy::from_log(vec![log]);
                    before.clone()
                })
                .collect()
        };
        let ([first, second], _) = end(Method::FIT);
        assert!(distance(&first, &optima[0].probabilities()) < 1e-9);
        assert!(distance(&second, &optima[1].probabilities()) < 1e-9);

        let parts = [
            (1.0, &optima[0].log()[0][..]),
            (1.0, &optima[1].log()[0][..]),
        ];
        let middle: Vec<f64> = compromise(&parts, divergence)
            .iter()
            .map(|l| l.exp())
            .collect();
        let ([_, second], _) = end(Method::FIT_REPLAY);
        assert!(distance(&second, std::slice::from_ref(&middle)) < 1e-9);

        let ([_, second], last) = end(Method::COPR_NO_LIKELIHOOD);
        assert!(
            last.constraints[0] > 0.0 && last.multipliers[0] > 20.0,
            "{last:?}"
        );
        let back = distance(&second, &optima[0].probabilities());
        assert!(
            back < 0.1 * distance(&[middle], &optima[0].probabilities()),
            "{back}"
        );
    }
}

/// Bad plans and tables are refused by name.
#[test]
fn errors_name_what_is_wrong() {
    let sequence = Sequence::random(&shared(2), 0).unwrap();
    let refused = |method, change: fn(&mut Plan)| {
        let mut plan = plan();
        change(&mut plan);
        run(&sequence, method, &plan).unwrap_err().to_string()
    };
    assert!(refused(Method::COPR, |p| p.rate = 0.0).starts_with("rate"));
    assert!(refused(Method::COPR, |p| p.rate = 1e200).starts_with("rate"));
    assert!(refused(Method::COPR, |p| p.replay = 1.5).starts_with("replay"));
    assert!(refused(Method::COPR, |p| p.likelihood = Some(f64::NAN)).starts_with("likelihood"));
    assert!(refused(Method::COPR, |p| p.record_every = 0).starts_with("record_every"));
    assert!(refused(Method::COPR, |p| p.multiplier_cap = 0.5).starts_with("multiplier start"));
    assert!(refused(Method::SFT, |p| p.pull = -1.0).starts_with("pull"));
    assert!(refused(Method::SFT, |p| p.beta = Some(0.0)).starts_with("beta"));
    assert!(refused(Method::SFT, |p| p.distillation = f64::INFINITY).starts_with("distillation"));
    assert!(refused(Method::SFT, |p| p.coupling = 1.0).starts_with("coupling"));
    assert!(refused(Method::SFT, |p| p.coupling = f64::NAN).starts_with("coupling"));
    assert!(refused(Method::SFT, |p| p.iterations = 0).starts_with("iterations"));
    assert!(refused(Method::SFT, |p| p.plateau.length = 0).starts_with("plateau window"));
    assert!(Sequence::shared(vec![]).is_err());
    let other = Sequence::random(&shared(3), 0).unwrap();
    let problem = |s: &Sequence| s.tasks()[0].problem.clone();
    let error = Sequence::shared(vec![problem(&sequence), problem(&other)]).unwrap_err();
    assert!(error.to_string().starts_with("tasks[1]"), "{error}");
    let features = vec![vec![vec![vec![1.0, 2.0]; 4], vec![vec![1.0, 2.0]; 3]]];
    let error = Sequence::linear(vec![problem(&sequence)], features).unwrap_err();
    assert!(error.to_string().starts_with("features[0][1]"), "{error}");
    let bad = problem(&sequence).map_prompts(|_, p| p.ranking = Some(vec![0, 0]));
    let error = run(&Sequence::shared(vec![bad]).unwrap(), Method::COPR, &plan()).unwrap_err();
    assert!(
        error.to_string().starts_with("tasks[0].prompts[0].ranking"),
        "{error}"
    );
}

/// The score of rewards is 1 at the best arm and 0 at the worst; that of orders counts pairs.
#[test]
fn scores_by_hand() {
    let problem = Problem::from_json(
        r#"{"beta": 0.5, "prompts": [
            {"weight": 0.5, "reward": [2.5, 2.0, 1.0], "behavior": [[0.2, 0.2, 0.6]]},
            {"weight": 0.5, "reward": [1.0, 1.0], "behavior": [[0.5, 0.5]]}]}"#,
    )
    .unwrap();
    let sequence = Sequence::shared(vec![problem]).unwrap();
    let score = |w: [f64; 5], score| sequence.tasks()[0].accuracy(&sequence.policy(&w, 0), score);
    let sure = [900.0, 0.0, 0.0, 0.0, 3.0];
    assert!((score(sure, Score::Reward) - 1.0).abs() < 1e-15);
    assert!((score([0.0; 5], Score::Reward) - (0.5 * (1.0 + 2.0 / 3.0) / 3.0 + 0.5)).abs() < 1e-15);
    assert!((score(sure, Score::Order) - (0.5 * 2.5 / 3.0 + 0.5)).abs() < 1e-15);
    assert!((score([0.0; 5], Score::Order) - 0.75).abs() < 1e-15);
}

proptest! {
    #![proptest_config(settings(REGRESSIONS, 64))]

    /// FM ≥ −BWT; equality where no task is ever better than when just learned; the printed range can
    /// only add.
    #[test]
    fn forgetting_is_at_least_minus_backward_transfer(a in vec(vec(0.0..1.0f64, 5), 5)) {
        for k in 1..5 {
            let forgetting = metrics::forgetting(&a, k).unwrap();
            let transfer = metrics::backward_transfer(&a, k).unwrap();
            prop_assert!(forgetting >= -transfer - 1e-15);
            prop_assert!(metrics::forgetting_as_printed(&a, k).unwrap() >= forgetting);
            let fading: Vec<Vec<f64>> = (0..5)
                .map(|i| (0..5).map(|j| a[j][j] * 0.9f64.powi(i - j as i32)).collect())
                .collect();
            let gap = metrics::forgetting(&fading, k).unwrap() + metrics::backward_transfer(&fading, k).unwrap();
            prop_assert!(gap.abs() < 1e-15);
            prop_assert!((0.0..=1.0).contains(&metrics::average_incremental_accuracy(&a, k)));
        }
    }
}
