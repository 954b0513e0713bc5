//! Pairs logged with the rewards that were seen, noise and all.

use pistar::bandit::{Dataset, Evidence, Record, Shape, log_sum_exp, random_problem};
use pistar::loss::{InputKind, Objective};
use pistar::solve::{copg, fixed_point};
use proptest::prelude::*;

use super::common::strategies::settings;
use super::common::{apart, gradient_size, toy};

const FAMILY: [Objective; 3] = [
    Objective::COPG,
    Objective::COPG_COMPLETED,
    Objective::COPG_SQUARED,
];

/// `Σ (Δr − β Δu)²` over the examples themselves.
fn misfit(data: &Dataset, log: &[Vec<f64>], reference: &[Vec<f64>], beta: f64) -> f64 {
    let each = data.records().iter().map(|record| {
        let &Record::Scored {
            prompt,
            first,
            second,
            rewards,
            ..
        } = record
        else {
            panic!("a scored pair")
        };
        let u = |a: u32| log[prompt][a as usize] - reference[prompt][a as usize];
        (rewards[0] - rewards[1] - beta * (u(first) - u(second))).powi(2)
    });
    each.sum::<f64>() / data.records().len() as f64
}

proptest! {
    #![proptest_config(settings("tests/regressions/scored.txt", 24))]

    /// The fixed point minimises Algorithm 1's loss over the logged examples, and the expected
    /// update there, summed over pairs by the loss's own code, is zero.
    #[test]
    fn copg_fits_the_differences_seen(seed in 0u64..1000, arms in 2usize..6, noise in 0.0f64..2.0) {
        let shape = Shape { prompts: 2, arms, beta: 0.7, reward_scale: 1.0 };
        let problem = random_problem(shape, seed).unwrap();
        let data = Dataset::scored(&problem, 200, noise, seed, 1).unwrap();
        let evidence = Evidence::from_dataset(&problem, &data);
        let reference = problem.reference();
        for objective in FAMILY {
            let point = fixed_point(objective, &problem, &evidence).unwrap();
            let policy = point.policy.unwrap();
            prop_assert!(gradient_size(&problem, &evidence, objective, policy.log()) < 1e-12);
            let at = |log: &[Vec<f64>]| misfit(&data, log, reference.log(), 0.7);
            let best = at(policy.log());
            for x in 0..2 {
                for a in 0..arms {
                    let mut log = policy.log().to_vec();
                    log[x][a] += 0.1;
                    let normaliser = log_sum_exp(&log[x]);
                    log[x].iter_mut().for_each(|l| *l -= normaliser);
                    prop_assert!(at(&log) >= best - 1e-12);
                }
            }
        }
        let late = copg::trajectory(&problem, &evidence, &[1e9]).unwrap();
        let point = fixed_point(Objective::COPG, &problem, &evidence).unwrap();
        prop_assert!(!point.unique || apart(&late[0], &point.policy.unwrap()) < 1e-9);
    }
}

/// Objectives of single responses see the mean reward of each arm.
#[test]
fn single_responses_see_mean_rewards() {
    let problem = toy();
    let data = Dataset::scored(&problem, 500, 1.0, 3, 0).unwrap();
    let evidence = Evidence::from_dataset(&problem, &data);
    let (mut sum, mut count) = ([0.0; 3], [0.0; 3]);
    for record in data.records() {
        let &Record::Scored {
            first,
            second,
            rewards,
            ..
        } = record
        else {
            panic!("a scored pair")
        };
        for (a, r) in [(first, rewards[0]), (second, rewards[1])] {
            sum[a as usize] += r;
            count[a as usize] += 1.0;
        }
    }
    let share = &evidence.of(InputKind::Singles).unwrap().prompts[0];
    for a in 0..3 {
        let want = sum[a] / count[a];
        assert!((share.reward[a] - want).abs() < 1e-12);
        assert!((share.responses[a] - count[a] / 500.0).abs() < 1e-12);
    }
    for objective in [
        Objective::RLOO,
        Objective::PG_ZERO,
        Objective::PG_SOFT_VALUE,
    ] {
        let policy = fixed_point(objective, &problem, &evidence).unwrap().policy;
        let size = gradient_size(&problem, &evidence, objective, policy.unwrap().log());
        assert!(size < 1e-9, "{}: {size}", objective.name());
    }
}

/// Without noise it is the data of `preferences`, and CoPG has no statistical error; with noise it
/// has, though its mean is right.
#[test]
fn without_noise_nothing_changes() {
    let problem = toy();
    let clean = Dataset::scored(&problem, 1000, 0.0, 5, 2).unwrap();
    let plain = Dataset::preferences(&problem, 1000, 5, 2);
    for (scored, pair) in clean.records().iter().zip(plain.records()) {
        let &Record::Scored {
            prompt,
            first,
            second,
            rewards,
            label,
        } = scored
        else {
            panic!("a scored pair")
        };
        assert_eq!(
            *pair,
            Record::Pair {
                prompt,
                first,
                second,
                label
            }
        );
        let reward = &problem.prompts()[0].reward;
        assert_eq!(rewards, [reward[first as usize], reward[second as usize]]);
    }
    let regret = |noise| {
        let data = Dataset::scored(&problem, 1000, noise, 5, 2).unwrap();
        let evidence = Evidence::from_dataset(&problem, &data);
        fixed_point(Objective::COPG, &problem, &evidence)
            .unwrap()
            .regret
            .unwrap()
    };
    assert!(regret(0.0) < 1e-14, "{}", regret(0.0));
    assert!(regret(0.5) > 1e-6, "{}", regret(0.5));
    assert!(Dataset::scored(&problem, 10, f64::NAN, 0, 0).is_err());
    assert!(Dataset::scored(&problem, 10, -1.0, 0, 0).is_err());
}

/// CoPG's toy, noise of sd 0.5 and 10⁴ pairs: the mean regret over datasets is about 1.0e-4.
#[test]
fn noise_costs_copg_what_least_squares_says() {
    let problem = toy();
    let mean = (0..40)
        .map(|index| {
            let data = Dataset::scored(&problem, 10_000, 0.5, 11, index).unwrap();
            let evidence = Evidence::from_dataset(&problem, &data);
            fixed_point(Objective::COPG, &problem, &evidence)
                .unwrap()
                .regret
                .unwrap()
        })
        .sum::<f64>()
        / 40.0;
    assert!((0.5e-4..2e-4).contains(&mean), "{mean}");
}

#[test]
fn they_are_written_as_they_are_read() {
    let problem = toy();
    let data = Dataset::scored(&problem, 20, 0.5, 1, 0).unwrap();
    let mut file = Vec::new();
    data.write(&mut file, &problem).unwrap();
    assert_eq!(Dataset::read(&*file, "log", &problem).unwrap(), data);
    let unlabelled = r#"{"prompt": 0, "first": 2, "second": 0, "rewards": [0.5, 2.0]}"#;
    let read = Dataset::read(unlabelled.as_bytes(), "log", &problem).unwrap();
    let evidence = Evidence::from_dataset(&problem, &read);
    let pairs = evidence.of(InputKind::LabelledPairs).unwrap();
    let edge = pairs.prompts[0].compared().edges(&[])[0];
    let wins = 1.0 / (1.0 + (-1.5f64).exp());
    assert!((edge.wins - wins).abs() < 1e-15, "{edge:?}");
    for (line, says) in [
        (
            r#"{"prompt": 0, "first": 2, "second": 0, "rewards": [1e200, 0]}"#,
            "log:1: rewards",
        ),
        (
            r#"{"prompt": 0, "first": 2, "second": 0, "rewards": [1]}"#,
            "log:1",
        ),
        (r#"{"prompt": 0, "arm": 2, "rewards": [1, 2]}"#, "log:1"),
    ] {
        let error = Dataset::read(line.as_bytes(), "log", &problem).unwrap_err();
        assert!(error.to_string().contains(says), "{line}: {error}");
    }
}
