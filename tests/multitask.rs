//! Policy optimisation on scores: PPO's clip, rejection sampling, clusters, rehearsal, and many tasks
//! under one policy.

use nalgebra::DMatrix;
use pistar::bandit::{Evidence, Policy, Shape, log_sum_exp, random_problem};
use pistar::loss::{Batch, Given, Objective};
use pistar::random::{Purpose, Stream};
use pistar::sim::multitask::rehearsal::select;
use pistar::sim::multitask::{
    Critic, Experiment, Labels, MultiTask, Row, Scores, Settings, TASKS, VARIANTS, calibration,
    experiment, moments, train,
};
use pistar::solve::best_of_n::{above, best_of_n};
use pistar::solve::{fixed_point, ppo_clip};
use pistar::stats::kmeans::kmeans;
use proptest::collection::vec;
use proptest::prelude::*;

use super::common::strategies::settings;

const REGRESSIONS: &str = "tests/regressions/multitask.txt";

fn softmax(logits: &[f64]) -> Vec<f64> {
    let normaliser = log_sum_exp(logits);
    logits.iter().map(|l| l - normaliser).collect()
}

fn apart(a: &[f64], b: &[f64]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f64::max)
}

fn row(scale: f64) -> impl Strategy<Value = Vec<f64>> {
    vec(-scale..scale, 4)
}

proptest! {
    #![proptest_config(settings(REGRESSIONS, 64))]

    /// The best of n is what counting all Kⁿ draws says, ties shared as the draws fall.
    #[test]
    fn best_of_n_counts_draws(
        logits in row(3.0), scores in vec(0u8..3, 4), n in 1u32..6,
    ) {
        let log = softmax(&logits);
        let scores: Vec<f64> = scores.into_iter().map(f64::from).collect();
        let mut law = vec![0.0; 4];
        for draws in 0..4usize.pow(n) {
            let arms: Vec<usize> = (0..n).map(|i| draws / 4usize.pow(i) % 4).collect();
            let chance: f64 = arms.iter().map(|&y| log[y].exp()).product();
            // The first of the best.
            let best = arms.iter().copied().fold(arms[0], |b, y| if scores[y] > scores[b] { y } else { b });
            law[best] += chance;
        }
        let got: Vec<f64> = best_of_n(&log, &scores, n).unwrap().iter().map(|l| l.exp()).collect();
        prop_assert!(apart(&got, &law) < 1e-13, "{got:?} {law:?}");
    }

    /// It sums to one for any n, also for policies down to 1e-300, and its mean score rises with n.
    #[test]
    fn best_of_n_is_a_law(logits in row(700.0), scores in row(5.0), n in 1u32..1_000_000) {
        let log = softmax(&logits);
        let mean = |n| -> f64 {
            let law = best_of_n(&log, &scores, n).unwrap();
            assert!(log_sum_exp(&law).abs() < 1e-9, "{law:?}");
            law.iter().zip(&scores).map(|(l, s)| l.exp() * s).sum()
        };
        prop_assert!(mean(n) >= mean(1) - 1e-9);
        prop_assert!(apart(&best_of_n(&log, &scores, 1).unwrap(), &log) < 1e-9 * 1400.0);
    }

    /// What passes a threshold keeps its proportions.
    #[test]
    fn a_threshold_conditions(logits in row(3.0), scores in row(2.0), threshold in -2.5..2.5f64) {
        let log = softmax(&logits);
        let pass = |y: usize| scores[y] >= threshold;
        let mass: f64 = (0..4).filter(|&y| pass(y)).map(|y| log[y].exp()).sum();
        match above(&log, &scores, threshold).unwrap() {
            None => prop_assert!((0..4).all(|y| !pass(y))),
            Some(law) => for y in 0..4 {
                let want = if pass(y) { log[y].exp() / mass } else { 0.0 };
                prop_assert!((law[y].exp() - want).abs() < 1e-13);
            },
        }
    }

    /// At the old policy the clip is not felt: the gradient is the policy gradient, and no constant in
    /// the advantage changes it.
    #[test]
    fn the_clip_starts_as_policy_gradient(
        logits in row(2.0), advantage in row(3.0), epsilon in 0.05..0.5f64, constant in -5.0..5.0f64,
    ) {
        let old = softmax(&logits);
        let mean: f64 = old.iter().zip(&advantage).map(|(l, a)| l.exp() * a).sum();
        let want: Vec<f64> = old.iter().zip(&advantage).map(|(l, a)| l.exp() * (a - mean)).collect();
        prop_assert!(apart(&ppo_clip::gradient(&old, &old, &advantage, epsilon), &want) < 1e-14);
        let moved: Vec<f64> = advantage.iter().map(|a| a + constant).collect();
        prop_assert!(apart(&ppo_clip::gradient(&old, &old, &moved, epsilon), &want) < 1e-14);
    }

    /// Elsewhere it is the gradient of the surrogate, and the surrogate never exceeds the unclipped one.
    #[test]
    fn the_clips_gradient_is_the_surrogates(
        logits in row(2.0), moved in row(2.0), advantage in row(3.0), epsilon in 0.05..0.5f64,
    ) {
        let (old, now) = (softmax(&logits), softmax(&moved));
        // Away from the corners, where there is a derivative.
        let clear = |(l, o): (&f64, &f64)| {
            let r = (l - o).exp();
            (r - 1.0 - epsilon).abs() > 1e-3 && (r - 1.0 + epsilon).abs() > 1e-3
        };
        prop_assume!(now.iter().zip(&old).all(clear));
        let gradient = ppo_clip::gradient(&now, &old, &advantage, epsilon);
        for y in 0..4 {
            let at = |h: f64| {
                let mut logits = moved.clone();
                logits[y] += h;
                ppo_clip::surrogate(&softmax(&logits), &old, &advantage, epsilon)
            };
            let slope = (at(1e-5) - at(-1e-5)) / 2e-5;
            prop_assert!((slope - gradient[y]).abs() < 1e-7, "{slope} {}", gradient[y]);
        }
        let plain: f64 = now.iter().zip(&advantage).map(|(l, a)| l.exp() * a).sum();
        prop_assert!(ppo_clip::surrogate(&now, &old, &advantage, epsilon) <= plain + 1e-14);
    }

    /// The largest surrogate is a policy's, no other policy beats it, and for an advantage of both
    /// signs with room to move it is E[A] + ε E|A|.
    #[test]
    fn the_surrogates_maximum(
        logits in row(1.0), advantage in row(3.0), epsilon in 0.05..0.5f64, other in row(4.0),
    ) {
        let old = softmax(&logits);
        let p: Vec<f64> = old.iter().map(|l| l.exp()).collect();
        let (value, policy) = ppo_clip::maximum(&p, &advantage, epsilon);
        prop_assert!((policy.iter().sum::<f64>() - 1.0).abs() < 1e-13);
        prop_assert!(policy.iter().all(|p| *p >= 0.0));
        prop_assert!(ppo_clip::surrogate(&softmax(&other), &old, &advantage, epsilon) <= value + 1e-13);
        let up: f64 = (0..4).filter(|&y| advantage[y] > 0.0).map(|y| p[y]).sum();
        if up > 0.0 && up < 1.0 && (1.0 + epsilon) * up <= 1.0 {
            let mean = |f: fn(f64) -> f64| -> f64 { (0..4).map(|y| p[y] * f(advantage[y])).sum() };
            prop_assert!((value - mean(|a| a) - epsilon * mean(f64::abs)).abs() < 1e-13);
        }
    }

    /// Below-baseline scores everywhere: nothing holds the best response back, it takes all the mass
    /// that the clip lets the others give up. Above-baseline everywhere: no response gains more than ε.
    #[test]
    fn a_baseline_far_off_disarms_or_tightens_the_clip(
        logits in row(1.0), scores in row(3.0), epsilon in 0.05..0.5f64,
    ) {
        let p: Vec<f64> = softmax(&logits).iter().map(|l| l.exp()).collect();
        let best = (0..4).max_by(|&i, &j| scores[i].total_cmp(&scores[j])).unwrap();
        let shifted = |c: f64| -> Vec<f64> { scores.iter().map(|s| s + c).collect() };
        let (_, low) = ppo_clip::maximum(&p, &shifted(-10.0), epsilon);
        for y in 0..4 {
            let want = if y == best { 1.0 - (1.0 - epsilon) * (1.0 - p[best]) } else { (1.0 - epsilon) * p[y] };
            prop_assert!((low[y] - want).abs() < 1e-12, "{low:?} {p:?}");
        }
        let (_, high) = ppo_clip::maximum(&p, &shifted(10.0), epsilon);
        for y in 0..4 {
            prop_assert!(high[y] <= (1.0 + epsilon) * p[y] + 1e-12, "{high:?} {p:?}");
        }
    }

    /// Every point is in the cluster of its nearest centre, every centre is the mean of its points, none
    /// is empty, and the same stream finds the same clusters.
    #[test]
    fn clusters_are_lloyds(points in vec(-1.0..1.0f64, 40), clusters in 1usize..6, seed in 0u64..100) {
        let points = DMatrix::from_row_slice(20, 2, &points);
        let run = || kmeans(&points, clusters, &mut Stream::new(seed, Purpose::Start, 0)).unwrap();
        let found = run();
        prop_assert_eq!(&found, &run());
        let mut inertia = 0.0;
        for (i, &own) in found.of.iter().enumerate() {
            let to = |k: usize| (points.row(i) - found.centres.row(k)).norm_squared();
            prop_assert!((0..clusters).all(|k| to(own) <= to(k)));
            inertia += to(own);
        }
        prop_assert!((inertia - found.inertia).abs() < 1e-12);
        for k in 0..clusters {
            let own: Vec<usize> = (0..20).filter(|&i| found.of[i] == k).collect();
            prop_assert!(!own.is_empty());
            for c in 0..2 {
                let mean = own.iter().map(|&i| points[(i, c)]).sum::<f64>() / own.len() as f64;
                prop_assert!((mean - found.centres[(k, c)]).abs() < 1e-12);
            }
        }
    }
}

/// The best response may be rarer than the smallest number: n draws show it n times as often.
#[test]
fn a_best_response_that_is_hardly_ever_drawn() {
    let law = best_of_n(&[0.0, -929.0], &[0.0, 3.0], 50).unwrap();
    assert!(
        (law[1] - (50f64.ln() - 929.0)).abs() < 1e-12 && law[0].abs() < 1e-15,
        "{law:?}"
    );
    assert_eq!(
        best_of_n(&[0.0, f64::NEG_INFINITY], &[0.0, 3.0], 9).unwrap()[1],
        f64::NEG_INFINITY
    );
}

#[test]
fn refusals() {
    let log = softmax(&[0.0, 1.0]);
    assert!(best_of_n(&log, &[0.0], 1).is_err());
    assert!(best_of_n(&log, &[0.0, f64::NAN], 1).is_err());
    assert!(best_of_n(&log, &[0.0, 1.0], 0).is_err());
    assert!(above(&log, &[0.0], 0.0).is_err());
    let mut stream = Stream::new(0, Purpose::Start, 0);
    let points = DMatrix::from_row_slice(2, 1, &[0.0, 1.0]);
    assert!(kmeans(&points, 0, &mut stream).is_err());
    assert!(kmeans(&points, 3, &mut stream).is_err());
    assert!(kmeans(&points.map(|_| f64::NAN), 1, &mut stream).is_err());
    assert!(MultiTask::draw(&[], 3, 0.1, 0.1, 0).is_err());
    assert!(MultiTask::draw(&TASKS, 1, 0.1, 0.1, 0).is_err());
    let tasks = world();
    assert!(train(&tasks, &[], &[], &SHORT).is_err());
    let scores = tasks.scores(Scores::Reward, 2.5).unwrap();
    for wrong in [
        Settings { lr: 0.0, ..SHORT },
        Settings {
            gamma: -1.0,
            ..SHORT
        },
    ] {
        assert!(train(&tasks, &scores, &[], &wrong).is_err());
    }
}

const SHORT: Settings = Settings {
    rounds: 5,
    steps: 3,
    lr: 0.3,
    epsilon: 0.2,
    critic: Critic::Exact,
    gamma: 0.0,
};

fn world() -> MultiTask {
    MultiTask::draw(&TASKS, 6, 0.1, 0.1, 3).unwrap()
}

/// Separated groups are found, whatever the seed.
#[test]
fn clusters_find_groups() {
    let points = DMatrix::from_fn(30, 2, |i, j| {
        10.0 * [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]][i % 3][j] + (i * (j + 7) % 11) as f64 * 0.01
    });
    for seed in 0..20 {
        let found = kmeans(&points, 3, &mut Stream::new(seed, Purpose::Start, 0)).unwrap();
        assert!(
            (3..30).all(|i| found.of[i] == found.of[i % 3]),
            "{seed}: {:?}",
            found.of
        );
    }
    // More clusters than different points: still a clustering.
    let same = DMatrix::from_element(5, 2, 1.0);
    let found = kmeans(&same, 3, &mut Stream::new(0, Purpose::Start, 0)).unwrap();
    assert_eq!(found.inertia, 0.0);
}

/// In each cluster the kept are the best scored of what was drawn, as many as asked for.
#[test]
fn rehearsal_keeps_the_best_of_each_cluster() {
    let tasks = world();
    let scores = tasks.scores(Scores::Advantage, 2.5).unwrap();
    let initial = tasks.problem().reference();
    let keep = |top| select(&tasks, &initial, &scores, (3, top, 4), 5).unwrap();
    let (kept, all) = (keep(2), keep(usize::MAX));
    assert_eq!(kept.len(), 6);
    for k in &kept {
        assert!(tasks.trained(k.prompt), "a forget set is never rehearsed");
        assert_eq!(k.score, scores[k.prompt][k.arm]);
        let better = all
            .iter()
            .filter(|o| o.cluster == k.cluster && o.score > k.score)
            .count();
        assert!(better < 2, "{k:?}");
    }
    assert_eq!(kept, keep(2));
}

/// The registered loss has the value and the slopes of the surrogate, the inner ones on the edges of the clip, and
/// where nothing is clipped those of the ratio.
#[test]
fn the_loss_is_the_surrogate_edges_included() {
    let beta = 0.3;
    let (old, reference) = ([-1.5, -0.75, -2.0, -0.5], [-1.0, -2.0, -0.25, -3.0]);
    let (reward, baseline) = ([1.0, -0.5, 0.25, 2.0], 0.4);
    let advantage: Vec<f64> = (0..4)
        .map(|y| reward[y] - beta * (old[y] - reference[y]) - baseline)
        .collect();
    assert!(advantage.iter().any(|a| *a > 0.0) && advantage.iter().any(|a| *a < 0.0));
    // The ratio, and ε for which it is on an edge, inside and outside.
    for t in [-0.25f64, 0.0, 0.25] {
        let edge = (t.exp() - 1.0).abs();
        for epsilon in [edge, edge + 0.1, 0.5 * edge, f64::INFINITY] {
            let now: Vec<f64> = old.iter().map(|l| l + t).collect();
            let batch = Batch {
                log_policy: [now.clone(), vec![]],
                log_old: [old.to_vec(), vec![]],
                log_reference: [reference.to_vec(), vec![]],
                reward: [reward.to_vec(), vec![]],
                baseline: vec![baseline; 4],
                weight: old.iter().map(|l| l.exp()).collect(),
                ..Batch::default()
            };
            let given = Given::from(beta).with("epsilon", epsilon);
            let got = Objective::PPO_CLIP
                .bind(&given)
                .unwrap()
                .on_tape(&batch)
                .unwrap();
            let value = ppo_clip::surrogate(&now, &old, &advantage, epsilon);
            let slopes = ppo_clip::cotangent(&now, &old, &advantage, epsilon);
            assert!((got.value + value).abs() < 1e-14, "{t} {epsilon}");
            for (got, want) in got.gradient[0].iter().zip(&slopes) {
                assert!((got + want).abs() < 1e-14, "{t} {epsilon}: {got} {want}");
            }
            assert_eq!(got.gradient[1], [0.0; 4]);
            let inside = epsilon >= edge;
            assert!(!inside || slopes.iter().all(|g| *g != 0.0), "{t} {epsilon}");
        }
    }
}

/// What a round of PPO can lead to is the surrogate's maximum: the solver has its value, whatever moved the policy.
#[test]
fn a_rounds_limit_is_the_surrogates_maximum() {
    for (seed, epsilon) in [(1, 0.2), (2, 0.05), (3, 1.5), (4, f64::INFINITY)] {
        let shape = Shape {
            prompts: 2,
            arms: 4,
            beta: 0.5,
            reward_scale: 1.0,
        };
        let numbers = Given::new().with("epsilon", epsilon).with("baseline", 0.3);
        let problem = random_problem(shape, seed).unwrap().with_numbers(&numbers);
        let evidence = Evidence::population(&problem);
        let limit = fixed_point(Objective::PPO_CLIP, &problem, &evidence).unwrap();
        assert!(limit.residual.unwrap() < 1e-9, "{limit:?}");
        for (prompt, log) in problem.prompts().iter().zip(limit.policy.unwrap().log()) {
            let (first, second) = prompt.law.marginals();
            let old: Vec<f64> = first
                .iter()
                .zip(&second)
                .map(|(a, b)| 0.5 * (a + b))
                .collect();
            let log_old: Vec<f64> = old.iter().map(|p| p.ln()).collect();
            let advantage: Vec<f64> = (0..4)
                .map(|y| prompt.reward[y] - 0.5 * (log_old[y] - prompt.log_reference[y]) - 0.3)
                .collect();
            let (value, _) = ppo_clip::maximum(&old, &advantage, epsilon);
            let got = ppo_clip::surrogate(log, &log_old, &advantage, epsilon);
            assert!((got - value).abs() < 1e-13, "{got} {value}");
        }
    }
}

/// With exact means subtracted a constant per prompt changes nothing; with one shared mean it does.
#[test]
fn offsets_matter_only_to_a_shared_critic() {
    let tasks = world();
    let scores = tasks.scores(Scores::Reward, 2.5).unwrap();
    let moved: Vec<Vec<f64>> = (scores.iter().zip(tasks.groups()))
        .map(|(row, &g)| row.iter().map(|s| s + 3.0 * g as f64).collect())
        .collect();
    let wins = |scores: &[Vec<f64>], critic| -> Vec<f64> {
        let settings = Settings { critic, ..SHORT };
        let (rows, _) = train(&tasks, scores, &[], &settings).unwrap();
        rows.iter().map(|row| row.win).collect()
    };
    assert!(apart(&wins(&scores, Critic::Exact), &wins(&moved, Critic::Exact)) < 1e-12);
    assert!(
        apart(
            &wins(&scores, Critic::Shared),
            &wins(&moved, Critic::Shared)
        ) > 1e-3
    );
}

/// A round of one step is a step of policy gradient on J.
#[test]
fn one_step_is_policy_gradient() {
    let tasks = world();
    let scores = tasks.scores(Scores::Reward, 2.5).unwrap();
    let settings = Settings {
        rounds: 1,
        steps: 1,
        lr: 1e-4,
        ..SHORT
    };
    let (_, policy) = train(&tasks, &scores, &[], &settings).unwrap();
    let trained: Vec<usize> = (0..tasks.groups().len())
        .filter(|&x| tasks.trained(x))
        .collect();
    let objective = |policy: &Policy| -> f64 {
        let prompts = tasks.problem().prompts();
        let each = trained
            .iter()
            .map(|&x| prompts[x].objective(&policy.log()[x], 0.1));
        each.sum::<f64>() / trained.len() as f64
    };
    let zero = vec![0.0; tasks.width()];
    let gradient: Vec<f64> = (0..zero.len())
        .map(|i| {
            let at = |h: f64| {
                let mut theta = zero.clone();
                theta[i] = h;
                objective(&tasks.policy(&theta))
            };
            (at(1e-5) - at(-1e-5)) / 2e-5
        })
        .collect();
    let theta: Vec<f64> = gradient.iter().map(|g| 1e-4 * g).collect();
    let want = tasks.policy(&theta);
    for (got, want) in policy.log().iter().zip(want.log()) {
        assert!(apart(got, want) < 1e-10);
    }
}

fn last<'a>(rows: &'a [(&str, Row)], variant: &str, task: &str) -> &'a Row {
    let found = rows
        .iter()
        .rev()
        .find(|(v, row)| *v == variant && row.task == task);
    &found.unwrap().1
}

/// The experiment's point, averaged over worlds: on reward scores the mean score rises while the
/// forget set falls behind the initial policy; on the Advantage Model's it does not; rehearsal keeps
/// the policy nearer. Plain standardisation of the rewards does as well.
#[test]
fn hacking_and_forgetting() {
    let config = Experiment {
        seeds: 4,
        ..Experiment::default()
    };
    let measured = experiment(&config, &VARIANTS).unwrap();
    assert_eq!(measured, experiment(&config, &VARIANTS).unwrap());
    let mean = |variant: &str, task: &str, round: usize, of: fn(&Row) -> f64| -> f64 {
        let rows: Vec<f64> = (measured.iter())
            .filter(|m| m.variant == variant && m.row.task == task && m.row.round == round)
            .map(|m| of(&m.row))
            .collect();
        assert_eq!(rows.len(), 4, "{variant} {task}");
        rows.iter().sum::<f64>() / 4.0
    };
    let win = |r: &Row| r.win;
    let score = |r: &Row| r.score;
    let kl = |r: &Row| r.kl;
    for v in VARIANTS.map(|v| v.name) {
        assert!(
            (mean(v, "forget", 0, win) - 0.5).abs() < 1e-12 && mean(v, "qa", 0, kl).abs() < 1e-12
        );
    }
    assert!(mean("reward", "code", 40, score) > mean("reward", "code", 0, score) + 1.0);
    assert!(mean("reward", "forget", 40, win) < 0.5);
    assert!(mean("advantage", "forget", 40, win) > 0.52);
    assert!(mean("standardised", "forget", 40, win) > 0.5);
    for (plain, kept) in [
        ("reward", "reward + rehearsal"),
        ("advantage", "advantage + rehearsal"),
    ] {
        assert!(mean(kept, "forget", 40, kl) < mean(plain, "forget", 40, kl));
    }
    let rows: Vec<(&str, Row)> = measured.into_iter().map(|m| (m.variant, m.row)).collect();
    assert!(last(&rows, "reward", "code").kl > 0.1);
}

/// Task by task the Advantage Model's scores stay within the margin; a reward model fitted from zero
/// has no level of its own, and the true rewards differ as the tasks do.
#[test]
fn moments_by_task() {
    let tasks = world();
    for labels in [None, Some(2_000)] {
        let rows = moments(&tasks, labels, 2.5, 1).unwrap();
        assert_eq!(rows.len(), 3 * TASKS.len());
        for row in rows.iter().filter(|row| row.model == "advantage") {
            assert!(row.moments.mean.abs() < 2.5 && row.moments.spread < 2.5);
        }
        let code = rows
            .iter()
            .find(|r| r.model == "true reward" && r.task == "code")
            .unwrap();
        assert!(code.moments.mean > 2.0);
    }
}

/// More labels calibrate the reward model, and the Advantage Model only down to its bias.
#[test]
fn calibration_by_labels() {
    let mean = |labels, model: &str| -> f64 {
        let study = Labels {
            labels,
            arms: 8,
            scale: 1.5,
            margin: 2.5,
            seeds: 40,
        };
        let rows = calibration(&study).unwrap();
        assert!(
            rows.iter()
                .all(|r| r.binned <= r.error + 1e-12 && r.accuracy <= 1.0)
        );
        let own = rows.iter().filter(|r| r.model == model).map(|r| r.error);
        own.sum::<f64>() / 40.0
    };
    assert!(mean(30, "advantage") < mean(30, "reward"));
    assert!(mean(100, "advantage") > mean(100, "reward"));
    assert!(mean(10_000, "reward") < 0.015 && mean(10_000, "advantage") > 0.08);
}
