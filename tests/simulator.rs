//! Sampled training: the toy's published statistics, the limits it heads for, and bytes that do not
//! depend on threads.

use std::collections::BTreeMap;

use pistar::bandit::{Evidence, Problem, Shape, random_problem};
use pistar::loss::{Given, Objective};
use pistar::observer::Silent;
use pistar::sim::{Config, Optimizer, Row, run};
use pistar::solve::fixed_point;
use serde_json::Value;

use super::common::toy;

fn config(objectives: &[Objective]) -> Config {
    Config {
        objectives: objectives.to_vec(),
        seeds: 40,
        key: 0,
        samples: 10_000,
        batch: 512,
        epochs: 100,
        drop_last: false,
        optimizer: Optimizer::adam(1e-3),
        threads: 2,
    }
}

fn rows(problem: &Problem, config: &Config) -> Vec<Row> {
    let mut all = Vec::new();
    run(
        problem,
        config,
        |rows| {
            all.extend_from_slice(rows);
            Ok(())
        },
        &Silent,
    )
    .unwrap();
    all
}

/// Regrets by objective and epoch, over seeds.
fn by_epoch(rows: &[Row]) -> BTreeMap<(Objective, usize), Vec<f64>> {
    let mut table: BTreeMap<_, Vec<f64>> = BTreeMap::new();
    for row in rows {
        table
            .entry((row.objective, row.epoch))
            .or_default()
            .push(row.regret);
    }
    table
}

fn mean_and_variance(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (
        mean,
        values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0),
    )
}

/// Means at 40 seeds against an independent simulation at 40 seeds (numpy, another random stream):
/// a two-sample test in each of 25 cells, at a fixed key. A cell beyond 4 standard errors has
/// probability 6e-5; the five epochs of a run are correlated, so their sum of squares is not
/// tested, but no more than two cells may pass 2.5.
#[test]
fn the_toy_follows_its_published_statistics() {
    let reference: Value = serde_json::from_str(include_str!("fixtures/toy_sim.json")).unwrap();
    let names = [
        (Objective::COPG, "CoPG"),
        (Objective::IPO, "IPO"),
        (Objective::PG_ZERO, "PG0"),
        (Objective::PG_VALUE, "PGR"),
        (Objective::PG_SOFT_VALUE, "PGRb"),
    ];
    let objectives = names.map(|(o, _)| o);
    for (key, drop_last, steps) in [("{}", false, 2000), ("{'drop_last': True}", true, 1900)] {
        let config = Config {
            drop_last,
            ..config(&objectives)
        };
        assert_eq!(config.steps(), steps);
        let table = by_epoch(&rows(&toy(), &config));
        let mut beyond = Vec::new();
        for (objective, name) in names {
            let want = &reference[key][name];
            for (i, epoch) in [1, 10, 25, 50, 100].into_iter().enumerate() {
                let values = &table[&(objective, epoch)];
                assert_eq!(values.len(), 40);
                let (mean, variance) = mean_and_variance(values);
                let (their_mean, their_sd) = (
                    want["mean"][i].as_f64().unwrap(),
                    want["std"][i].as_f64().unwrap(),
                );
                let z = (mean - their_mean) / ((variance + their_sd.powi(2)) / 40.0).sqrt();
                println!(
                    "{key} {name} epoch {epoch}: {mean:.6} against {their_mean:.6}, z = {z:.2}"
                );
                assert!(z.abs() < 4.0, "{key} {name} epoch {epoch}: z = {z}");
                if z.abs() > 2.5 {
                    beyond.push((name, epoch, z));
                }
            }
        }
        assert!(beyond.len() <= 2, "{key}: {beyond:?}");
    }
}

/// At ten times the learning rate everything reaches its exact limit: to rounding where there is no
/// sampling error, within five standard errors of the mean elsewhere.
#[test]
fn the_toy_reaches_its_exact_limits() {
    let problem = toy();
    let population = Evidence::population(&problem);
    let objectives = [
        Objective::COPG,
        Objective::PG_SOFT_VALUE,
        Objective::PG_VALUE,
        Objective::PG_ZERO,
        Objective::IPO,
    ];
    let config = Config {
        optimizer: Optimizer::adam(1e-2),
        ..config(&objectives)
    };
    let table = by_epoch(&rows(&problem, &config));
    for objective in objectives {
        let limit = fixed_point(objective, &problem, &population)
            .unwrap()
            .regret
            .unwrap();
        let (mean, variance) = mean_and_variance(&table[&(objective, 100)]);
        if [Objective::COPG, Objective::PG_SOFT_VALUE].contains(&objective) {
            assert!(mean < 1e-12, "{objective:?} {mean}");
        } else {
            // Regret is convex around the limit, so noise in the policy shifts its mean by O(1/n).
            assert!(
                (mean - limit).abs() < 5.0 * (variance / 40.0).sqrt() + 1e-3,
                "{objective:?} {mean} {limit}"
            );
        }
    }
}

/// Every objective, counted tuples and listed ones, contextual: same key, same bytes.
#[test]
fn rows_do_not_depend_on_threads_or_on_the_number_of_seeds() {
    let trainable: Vec<Objective> = (Objective::ALL.into_iter())
        .filter(|&o| pistar::sim::trainable(o))
        .collect();
    for arms in [2, 12] {
        let shape = Shape {
            prompts: 3,
            arms,
            beta: 0.5,
            reward_scale: 1.0,
        };
        let problem = random_problem(shape, 3).unwrap();
        let problem = problem.with_numbers(&Given::new().with("baseline", 0.5));
        let base = Config {
            seeds: 5,
            samples: 300,
            batch: 64,
            epochs: 4,
            threads: 1,
            optimizer: Optimizer::adam(1e-2),
            ..config(&trainable)
        };
        let one = rows(&problem, &base);
        assert_eq!(one.len(), 5 * trainable.len() * 5);
        for threads in [2, 3, 5] {
            assert_eq!(
                rows(
                    &problem,
                    &Config {
                        threads,
                        ..base.clone()
                    }
                ),
                one,
                "{arms} arms, {threads} threads"
            );
        }
        let fewer = rows(
            &problem,
            &Config {
                seeds: 2,
                ..base.clone()
            },
        );
        assert_eq!(fewer[..], one[..fewer.len()], "{arms} arms");
        let other = rows(&problem, &Config { key: 1, ..base });
        assert_ne!(other, one);
    }
}

/// Counting tuples and listing examples are the same sum: a batch too small to be counted, taken as
/// the whole dataset, trains like a counted one.
#[test]
fn counted_and_listed_minibatches_agree() {
    // 2 arms have 8 tuples: always counted. Splitting an arm in two of half the mass each changes
    // no expectation, but 50 arms have 5,000 tuples and are listed.
    let problem = |copies: usize| {
        let spread = |p: [f64; 2]| -> Vec<f64> {
            p.iter()
                .flat_map(|p| vec![p / copies as f64; copies])
                .collect()
        };
        let reward: Vec<f64> = [1.0, 0.0].iter().flat_map(|&r| vec![r; copies]).collect();
        let file = serde_json::json!({"beta": 0.5, "prompts": [{
            "reward": reward, "reference": spread([0.5, 0.5]),
            "behavior": [spread([0.3, 0.7]), spread([0.6, 0.4])],
        }]});
        Problem::from_json(&file.to_string()).unwrap()
    };
    let config = Config {
        samples: 20_000,
        batch: 500,
        epochs: 30,
        seeds: 4,
        optimizer: Optimizer::adam(1e-2),
        ..config(&[
            Objective::COPG,
            Objective::DPO,
            Objective::PG_VALUE,
            Objective::RLOO,
            Objective::REWARD_MODEL,
        ])
    };
    let (counted, listed) = (rows(&problem(1), &config), rows(&problem(25), &config));
    let end = |rows: &[Row], objective| mean_and_variance(&by_epoch(rows)[&(objective, 30)]).0;
    for &objective in &config.objectives {
        let (a, b) = (end(&counted, objective), end(&listed, objective));
        assert!((a - b).abs() < 0.02, "{objective:?}: {a} {b}");
    }
}

/// SGD with a whole-dataset batch is gradient descent: it ends where the dataset's own fixed point is.
#[test]
fn full_batches_end_at_the_datasets_fixed_point() {
    let problem = toy();
    let config = Config {
        seeds: 1,
        samples: 400,
        batch: 400,
        epochs: 20_000,
        optimizer: Optimizer::Sgd { lr: 1.0 },
        threads: 1,
        ..config(&[
            Objective::IPO,
            Objective::DPO,
            Objective::REWARD_MODEL,
            Objective::PG_ZERO,
        ])
    };
    let table = by_epoch(&rows(&problem, &config));
    let data = pistar::bandit::Dataset::preferences(&problem, 400, 0, 0);
    let evidence = Evidence::from_dataset(&problem, &data);
    for &objective in &config.objectives {
        let limit = fixed_point(objective, &problem, &evidence).unwrap();
        let reached = table[&(objective, 20_000)][0];
        assert!(
            (reached - limit.regret.unwrap()).abs() < 1e-7,
            "{objective:?}: {reached} {limit:?}"
        );
    }
}

#[test]
fn a_diverging_run_stops_and_says_so() {
    let config = Config {
        optimizer: Optimizer::Sgd { lr: 1e6 },
        epochs: 3,
        ..config(&[Objective::COPG])
    };
    let error = run(&toy(), &config, |_| Ok(()), &Silent)
        .unwrap_err()
        .to_string();
    assert!(error.contains("copg diverged at 1e6"), "{error}");
}
