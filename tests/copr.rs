//! COPR: sampling distributions, where the fit goes with and without the likelihood term, the bound
//! on what partial rankings leave open, and the multipliers.

use nalgebra::DMatrix;
use pistar::bandit::{Policy, Problem, Prompt, kl};
use pistar::error::Result;
use pistar::solve::Part;
use pistar::solve::copr::{
    Divergence, Moment, Motion, Multipliers, Target, blow_up_time, compromise, curve, fixed_point,
    linear_advantage, linear_advantages, lower_bound, motion, ranking_gradient, restrict,
    sampling_distribution, slope, with_likelihood,
};
use pistar::solve::minimise::smooth;
use proptest::collection::vec;
use proptest::prelude::*;

use super::common::golden::{instances, number, table};
use super::common::strategies::{self as any_, positive, settings};
use super::common::{distance, toy};

const REGRESSIONS: &str = "tests/regressions/copr.txt";
const BOTH: [Divergence; 2] = [Divergence::Reverse, Divergence::Forward];

/// A problem and, for each prompt, a ranking of some of its arms in random order.
fn ranked() -> impl Strategy<Value = (Problem, Vec<Vec<u32>>)> {
    let keys = vec((vec(0.0..1.0f64, any_::ARMS), 0.0..1.0f64), any_::PROMPTS);
    (any_::full(), keys).prop_map(|(problem, keys)| {
        let rankings = (problem.prompts().iter().zip(&keys))
            .map(|(prompt, (key, share))| ranking(prompt, key, *share))
            .collect();
        (problem, rankings)
    })
}

fn ranking(prompt: &Prompt, key: &[f64], share: f64) -> Vec<u32> {
    let mut arms: Vec<u32> = (0..prompt.arms() as u32).collect();
    arms.sort_by(|&a, &b| key[a as usize].total_cmp(&key[b as usize]));
    arms.truncate(1 + (share * prompt.arms() as f64) as usize);
    arms
}

/// All prompts with their rankings and targets.
fn each(problem: &Problem, rankings: &[Vec<u32>]) -> Vec<(Prompt, Vec<u32>, Target)> {
    (problem.prompts().iter().zip(rankings))
        .map(|(p, r)| {
            let target = Target::ranked(p, r, problem.beta()).unwrap();
            (p.clone(), r.clone(), target)
        })
        .collect()
}

fn log_policy(found: Result<Part>) -> Vec<f64> {
    found.unwrap().log_policy.unwrap()
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |m, v| v.abs().max(m))
}

fn exp(log: &[f64]) -> Vec<f64> {
    log.iter().map(|l| l.exp()).collect()
}

fn logs(p: &[f64]) -> Vec<f64> {
    p.iter().map(|p| p.ln()).collect()
}

fn softmax(logits: &[f64]) -> Vec<f64> {
    Policy::softmax(&[logits.to_vec()]).log()[0].clone()
}

/// The independent numbers: P*, P_θ, losses and gradients at a policy, limits, the bound.
#[test]
fn golden() {
    for (name, instance, problem) in instances() {
        let rankings: Vec<Vec<u32>> = (problem.prompts().iter())
            .map(|p| p.ranking.clone().unwrap())
            .collect();
        let parts = each(&problem, &rankings);

        let at = Policy::softmax(&table(&instance["inputs"]["th"]));
        let want = &instance["at_test_point"];
        let p_star: Vec<Vec<f64>> = parts.iter().map(|(_, _, t)| exp(&t.log)).collect();
        assert!(
            distance(&p_star, &table(&want["COPR_P_star"])) < 1e-14,
            "{name}"
        );
        let p_theta: Vec<Vec<f64>> = (parts.iter().zip(at.log()))
            .map(|((_, _, t), log)| exp(&restrict(log, &t.arms)))
            .collect();
        assert!(
            distance(&p_theta, &table(&want["COPR_P_theta"])) < 1e-14,
            "{name}"
        );
        for (which, key) in [
            (Divergence::Reverse, "COPR_fit_reverse_eq7"),
            (Divergence::Forward, "COPR_fit_forward_code_sum"),
        ] {
            let mut value = 0.0;
            let mut gradient = Vec::new();
            for ((prompt, _, target), log) in parts.iter().zip(at.log()) {
                value += prompt.weight * target.divergence(log, which);
                let each = target.gradient(log, which);
                gradient.push(each.iter().map(|g| prompt.weight * g).collect());
            }
            assert!(
                (value - number(&want[key]["value"])).abs() < 1e-13,
                "{name} {key}"
            );
            assert!(
                distance(&gradient, &table(&want[key]["grad"])) < 1e-13,
                "{name} {key}"
            );
        }
        for case in want["COPR_bound_eq24"].as_array().unwrap() {
            let bound = lower_bound(number(&case["p"]), number(&case["gamma"])).unwrap();
            assert!((bound - number(&case["value"])).abs() < 1e-14, "{case}");
        }

        for (key, sft) in [
            ("COPR_fit_flow_from_ref", false),
            ("COPR_fit_plus_sft", true),
        ] {
            let want = &instance["limits"][key];
            if want.is_null() {
                assert!(sft && name != "copg_toy", "{name} {key}");
                continue;
            }
            let got = Policy::from_log(
                (parts.iter())
                    .map(|(p, r, _)| log_policy(fixed_point(p, r, problem.beta(), sft)))
                    .collect(),
            );
            assert!(
                distance(&got.probabilities(), &table(&want["pi"])) < 1e-12,
                "{name} {key}"
            );
            let regret = problem.regret(&got);
            assert!(
                (regret - number(&want["regret"])).abs() < 1e-12,
                "{name} {key}"
            );
        }
    }
}

/// Range ±(J − 1)/J in steps of 2/J, so 0 for one response and ±½ for two.
#[test]
fn linear_advantages_are_an_arithmetic_progression() {
    assert_eq!(linear_advantage(1, 1), 0.0);
    assert_eq!(
        (linear_advantage(1, 2), linear_advantage(2, 2)),
        (-0.5, 0.5)
    );
    for len in 1..9usize {
        let all: Vec<f64> = (1..=len).map(|j| linear_advantage(j, len)).collect();
        let end = (len as f64 - 1.0) / len as f64;
        assert!((all[0] + end).abs() < 1e-15 && (all[len - 1] - end).abs() < 1e-15);
        for pair in all.windows(2) {
            assert!((pair[1] - pair[0] - 2.0 / len as f64).abs() < 1e-15);
        }
        let rewards: Vec<f64> = (0..len).map(|j| (j as f64).exp()).collect();
        assert_eq!(linear_advantages(&rewards), all);
    }
    assert_eq!(
        linear_advantages(&[3.0, 1.0, 3.0, 2.0]),
        [0.5, -0.75, 0.5, -0.25]
    );
    assert_eq!(linear_advantages(&[7.0; 3]), [0.0; 3]);
    assert!(linear_advantages(&[]).is_empty());
}

/// The mean advantage is zero under the uniform law on Y; under P* or the reference it is not.
#[test]
fn advantages_are_centred_under_uniform_only() {
    let problem = toy();
    let target = Target::ranked(&problem.prompts()[0], &[2, 1, 0], problem.beta()).unwrap();
    let advantage: Vec<f64> = (1..=3).map(|j| linear_advantage(j, 3)).collect();
    assert!(advantage.iter().sum::<f64>().abs() < 1e-15);
    let mean: f64 = target
        .log
        .iter()
        .zip(&advantage)
        .map(|(l, a)| l.exp() * a)
        .sum();
    assert!(mean > 0.4, "{mean}");
}

/// All families of subsets of up to four responses: equal sampling distributions on each set of a
/// family leave one policy exactly where the family, as a hypergraph, is connected. The linear system
/// "ln(π_θ/π*) is constant on every set" is solved by rank, which knows nothing of hypergraphs.
#[test]
fn proposition_1_needs_a_connected_family() {
    for n in 2..=4usize {
        let sets: Vec<Vec<usize>> = (0u32..1 << n)
            .map(|bits| (0..n).filter(|&a| bits >> a & 1 == 1).collect())
            .filter(|set: &Vec<usize>| set.len() > 1)
            .collect();
        for family in 0u32..1 << sets.len() {
            let chosen: Vec<&Vec<usize>> = (sets.iter().enumerate())
                .filter(|(i, _)| family >> i & 1 == 1)
                .map(|(_, set)| set)
                .collect();
            let rows: Vec<(usize, usize)> = (chosen.iter())
                .flat_map(|set| set.windows(2).map(|pair| (pair[0], pair[1])))
                .collect();
            let mut system = DMatrix::zeros(rows.len().max(1), n);
            for (i, &(a, b)) in rows.iter().enumerate() {
                (system[(i, a)], system[(i, b)]) = (1.0, -1.0);
            }
            // Constants are always free and the sum of probabilities fixes them.
            let determined = system.rank(1e-9) == n - 1;
            assert_eq!(determined, connected(n, &chosen), "{chosen:?}");
        }
        // The statement's family: every proper subset of more than one response.
        let proper: Vec<&Vec<usize>> = sets.iter().filter(|set| set.len() < n).collect();
        assert_eq!(connected(n, &proper), n >= 3, "{n}");
    }
}

fn connected(n: usize, family: &[&Vec<usize>]) -> bool {
    let mut reached = vec![false; n];
    reached[0] = true;
    for _ in 0..n {
        for set in family {
            if set.iter().any(|&a| reached[a]) {
                set.iter().for_each(|&a| reached[a] = true);
            }
        }
    }
    reached.iter().all(|&r| r)
}

/// The multiplier passes any bound at about 1/(α λ₀ J) steps, and stops at its cap.
#[test]
fn a_violated_constraint_blows_its_multiplier_up_in_finite_time() {
    let (rate, start, violation) = (1e-3, 1.0, 0.5);
    assert_eq!(blow_up_time(rate, start, violation), Some(2000.0));
    assert_eq!(blow_up_time(rate, start, 0.0), None);
    let mut free = Multipliers::new(1, start, rate, 1e300).unwrap();
    let mut capped = Multipliers::new(1, start, rate, 50.0).unwrap();
    let mut passed = None;
    for step in 1..=3000 {
        free.ascend(&[violation]);
        capped.ascend(&[violation]);
        if passed.is_none() && free.values()[0] > 1e6 {
            passed = Some(step);
        }
        // λ of the continuous time, while it has one.
        if step <= 1800 {
            let exact = start / (1.0 - f64::from(step) / 2000.0);
            assert!((free.values()[0] / exact - 1.0).abs() < 0.02, "{step}");
        }
    }
    assert_eq!(passed, Some(2005));
    assert!((capped.values()[0] - 50.0).abs() < 1e-12);
    // A constraint that is met lets the multiplier fall, never to zero.
    for _ in 0..1000 {
        capped.ascend(&[-1.0]);
    }
    assert!(capped.values()[0] > 0.0 && capped.values()[0] < 1.0);
    assert!((Multipliers::new(3, 2.0, 0.1, 9.0).unwrap().normaliser() - 7.0).abs() < 1e-12);
}

#[test]
fn bad_rankings_and_multipliers_are_refused() {
    let problem = toy();
    for ranking in [&[][..], &[0, 1, 0], &[0, 3]] {
        let error = fixed_point(&problem.prompts()[0], ranking, 0.5, false).unwrap_err();
        assert!(error.to_string().starts_with("ranking"), "{error}");
    }
    let reference = &problem.prompts()[0].log_reference;
    assert!(Target::new(reference, vec![0, 1], &[0.0], 0.5).is_err());
    for (start, rate, cap) in [(0.0, 1.0, 1.0), (1.0, f64::NAN, 1.0), (2.0, 1.0, 1.0)] {
        assert!(Multipliers::new(1, start, rate, cap).is_err());
    }
    for (p, gamma) in [
        (0.0, 1.0),
        (1.0, 1.0),
        (0.5, 2.1),
        (0.5, -0.1),
        (f64::NAN, 1.0),
    ] {
        assert!(lower_bound(p, gamma).is_err(), "{p} {gamma}");
    }
}

/// The bound at its ends, at γ = 1, and its shape: convex, with the slope as stated.
#[test]
fn the_bound_has_the_shape_of_figure_4() {
    for p in [0.05, 0.1, 0.5, 0.7, 0.95] {
        let curve = curve(p, 101).unwrap();
        assert!((curve[0].1 + (1.0 - p).ln()).abs() < 1e-12);
        assert!((curve[100].1 + p.ln()).abs() < 1e-12);
        assert!(lower_bound(p, 1.0).unwrap().abs() < 1e-15);
        for w in curve.windows(3) {
            assert!(w[0].1 + w[2].1 > 2.0 * w[1].1, "{p}");
        }
        for &(gamma, _) in &curve[1..100] {
            let h = 1e-5;
            let bound = |gamma| lower_bound(p, gamma).unwrap();
            let numeric = (bound(gamma + h) - bound(gamma - h)) / (2.0 * h);
            assert!(
                (slope(p, gamma).unwrap() - numeric).abs() < 1e-5,
                "{p} {gamma}"
            );
        }
        assert_eq!(slope(p, 0.0).unwrap(), f64::NEG_INFINITY);
    }
}

/// With a partial ranking and the likelihood term γ only rises, to 1/p; with the fit alone it stops
/// where the start has put it, on the closed form.
#[test]
fn gamma_over_time() {
    let problem = Problem::from_json(
        r#"{"beta": 0.5, "prompts": [{"reward": [0.3, 1.0, -0.4, 0.8],
            "reference": [0.1, 0.2, 0.3, 0.4], "behavior": [[0.25, 0.25, 0.25, 0.25]],
            "ranking": [2, 0, 1]}]}"#,
    )
    .unwrap();
    let prompt = &problem.prompts()[0];
    let ranking = prompt.ranking.as_ref().unwrap();
    let target = Target::ranked(prompt, ranking, 0.5).unwrap();
    let p = target.mass(&prompt.optimum(0.5).1);
    let run = |likelihood, divergence, steps| {
        let how = Motion {
            divergence,
            likelihood,
            step: 0.25,
            steps,
        };
        motion(&prompt.log_reference, &target, p, how)
    };
    let fit = log_policy(fixed_point(prompt, ranking, 0.5, false));
    for which in BOTH {
        let moments = run(0.0, which, 2000);
        let last = moments.last().unwrap();
        assert!(distance(&[exp(&last.log_policy)], &[exp(&fit)]) < 1e-10);
        assert!((last.gamma - target.mass(&fit) / p).abs() < 1e-10);
        assert!((last.gamma - 1.0).abs() > 0.1 && last.divergence < 1e-15);
        assert!(
            moments
                .windows(2)
                .all(|w| w[1].divergence <= w[0].divergence)
        );
    }
    let moments = run(1.0, Divergence::Reverse, 8000);
    assert!(moments.windows(2).all(|w| w[1].gamma > w[0].gamma));
    let last = moments.last().unwrap();
    // The one arm off Y falls by its own probability, and the three logits of Y rise together by a
    // third of it, so it goes as 1/((1 + 1/3) t).
    let constant = last.time * (1.0 - last.mass) * 4.0 / 3.0;
    assert!((constant - 1.0).abs() < 0.01, "{constant}");
    let end = log_policy(fixed_point(prompt, ranking, 0.5, true));
    assert!((last.gamma * p - 1.0).abs() < 1e-3);
    assert!(distance(&[exp(&last.log_policy)], &[exp(&end)]) < 1e-3);
}

/// A.3: at equal rewards the accumulated gradient is linear in the rank, and one step of 2/J gives
/// the linear advantage; more steps bend it.
#[test]
fn ranking_losses_start_linear_in_the_rank() {
    for len in 1..8usize {
        let first = ranking_gradient(&vec![0.7; len]);
        for (j, g) in first.iter().enumerate() {
            assert!((-g - (2.0 * (j + 1) as f64 - len as f64 - 1.0) / 2.0).abs() < 1e-14);
            let stepped = -g * 2.0 / len as f64;
            assert!((stepped - linear_advantage(j + 1, len)).abs() < 1e-14);
        }
    }
    let mut rewards = vec![0.0; 5];
    for _ in 0..200 {
        let gradient = ranking_gradient(&rewards);
        rewards
            .iter_mut()
            .zip(gradient)
            .for_each(|(r, g)| *r -= 0.05 * g);
    }
    assert!(
        (rewards[3] / rewards[4] - 0.462).abs() < 1e-3,
        "{rewards:?}"
    );
}

proptest! {
    #![proptest_config(settings(REGRESSIONS, 48))]

    /// Equal rewards share an advantage, the order is kept, the plain mean is zero.
    #[test]
    fn ties_share_the_mean_of_their_ranks(rewards in vec(0..4i32, 1..9)) {
        let rewards: Vec<f64> = rewards.iter().map(|&r| f64::from(r)).collect();
        let adv = linear_advantages(&rewards);
        prop_assert!(adv.iter().sum::<f64>().abs() < 1e-13);
        for a in 0..adv.len() {
            let below = rewards.iter().filter(|&&r| r < rewards[a]).count() as f64;
            let same = rewards.iter().filter(|&&r| r == rewards[a]).count() as f64;
            let (len, rank) = (adv.len() as f64, below + (same + 1.0) / 2.0);
            prop_assert!((adv[a] - (2.0 * rank - len - 1.0) / len).abs() < 1e-14);
        }
    }

    /// Def. 1: with the reward as advantage P* is π* conditioned on Y; a constant changes nothing.
    #[test]
    fn the_sampling_distribution_is_the_optimum_conditioned((problem, rankings) in ranked(), shift in -50.0..50.0f64) {
        for (prompt, ranking) in problem.prompts().iter().zip(&rankings) {
            let arms: Vec<usize> = ranking.iter().map(|&a| a as usize).collect();
            let reward: Vec<f64> = arms.iter().map(|&a| prompt.reward[a]).collect();
            let moved: Vec<f64> = reward.iter().map(|r| r + shift).collect();
            let on_y: Vec<f64> = arms.iter().map(|&a| prompt.log_reference[a]).collect();
            let got = exp(&sampling_distribution(&on_y, &reward, problem.beta()));
            let want = exp(&restrict(&prompt.optimum(problem.beta()).1, &arms));
            prop_assert!(distance(std::slice::from_ref(&got), &[want]) < 1e-13);
            let invariant = exp(&sampling_distribution(&on_y, &moved, problem.beta()));
            prop_assert!(distance(std::slice::from_ref(&got), &[invariant]) < 1e-12);
            prop_assert!((got.iter().sum::<f64>() - 1.0).abs() < 1e-14);
        }
    }

    /// Gradients are those of the divergences, and sum to zero.
    #[test]
    fn gradients_are_the_differences_of_the_losses((problem, rankings) in ranked(), at in any_::table(2.0)) {
        let logits = any_::fit(&problem, &at);
        for ((_, _, target), theta) in each(&problem, &rankings).iter().zip(&logits) {
            for which in BOTH {
                for likelihood in [0.0, 1.0] {
                    let loss = |theta: &[f64]| {
                        let log = softmax(theta);
                        target.divergence(&log, which) - likelihood * log[target.top()]
                    };
                    let gradient = target.gradient_with_likelihood(&softmax(theta), which, likelihood);
                    prop_assert!(gradient.iter().sum::<f64>().abs() < 1e-12);
                    for a in 0..theta.len() {
                        let h = 1e-5;
                        let mut moved = theta.clone();
                        moved[a] += h;
                        let up = loss(&moved);
                        moved[a] -= 2.0 * h;
                        let numeric = (up - loss(&moved)) / (2.0 * h);
                        prop_assert!((gradient[a] - numeric).abs() < 1e-6 * (1.0 + up.abs()), "{} {numeric}", gradient[a]);
                    }
                }
            }
        }
    }

    /// The fit: both gradients vanish; odds off Y are the reference's; the logits of Y kept their sum
    /// relative to them. Unique iff Y is everything.
    #[test]
    fn the_fit_vanishes_where_it_ends((problem, rankings) in ranked()) {
        for (prompt, ranking, target) in each(&problem, &rankings) {
            let found = fixed_point(&prompt, &ranking, problem.beta(), false).unwrap();
            prop_assert!(found.residual < 1e-12);
            prop_assert_eq!(found.unique, ranking.len() == prompt.arms());
            prop_assert_eq!(found.note.is_none(), found.unique);
            let log = found.log_policy.unwrap();
            for which in BOTH {
                prop_assert!(largest(&target.gradient(&log, which)) < 1e-12);
                prop_assert!(target.divergence(&log, which) < 1e-12);
            }
            let u: Vec<f64> = log.iter().zip(&prompt.log_reference).map(|(l, r)| l - r).collect();
            let off: Vec<usize> = (0..u.len()).filter(|a| !target.arms.contains(a)).collect();
            if let Some(&first) = off.first() {
                prop_assert!(off.iter().all(|&a| (u[a] - u[first]).abs() < 1e-11));
                let sum: f64 = target.arms.iter().map(|&a| u[a] - u[first]).sum();
                prop_assert!(sum.abs() < 1e-9 / problem.beta());
            }
        }
    }

    /// Fit and likelihood: the gradient vanishes, all mass is on Y, the answer solves the equation of
    /// its derivation, lies below every other policy tried, and P* is not it.
    #[test]
    fn the_likelihood_term_over_corrects((problem, rankings) in ranked(), at in any_::table(4.0)) {
        let logits = any_::fit(&problem, &at);
        for ((prompt, ranking, target), theta) in each(&problem, &rankings).into_iter().zip(&logits) {
            let found = fixed_point(&prompt, &ranking, problem.beta(), true).unwrap();
            prop_assert!(found.residual < 1e-12 && found.unique);
            let log = found.log_policy.unwrap();
            prop_assert!(largest(&target.gradient_with_likelihood(&log, Divergence::Reverse, 1.0)) < 1e-12);
            prop_assert!((target.mass(&log) - 1.0).abs() < 1e-13);
            let loss = |log: &[f64]| target.divergence(log, Divergence::Reverse) - log[target.top()];
            prop_assert!(loss(&softmax(theta)) >= loss(&log) - 1e-12);
            let len = ranking.len();
            if len == 1 {
                prop_assert!(log[target.top()].abs() < 1e-15);
                continue;
            }
            let on_y = restrict(&log, &target.arms);
            let c = on_y[0] - target.log[0];
            for (got, star) in on_y.iter().zip(&target.log).take(len - 1) {
                prop_assert!((got - star - c).abs() < 1e-10);
            }
            let off_top: f64 = target.log[..len - 1].iter().map(|l| l.exp()).sum();
            let best = (-(c.exp() * off_top)).ln_1p();
            let left = c.exp() * off_top * c + best.exp() * (best - target.log[len - 1]);
            prop_assert!((left - (1.0 + c)).abs() < 1e-9 * (1.0 + c.abs()), "{left} {c}");
            prop_assert!(c < 0.0);
            prop_assert!(on_y[len - 1] > target.log[len - 1]);
        }
    }

    /// Any weight and either divergence: the numeric minimiser agrees.
    #[test]
    fn the_weighted_likelihood_has_a_closed_form(p in positive(4, 3.0), weight in 0.0..3.0f64) {
        let target = Target { arms: vec![0, 1, 2, 3], log: logs(&p) };
        for which in BOTH {
            let got = with_likelihood(&target.log, which, weight);
            let loss = |theta: &[f64]| {
                let log = softmax(theta);
                let value = target.divergence(&log, which) - weight * log[3];
                (value, target.gradient_with_likelihood(&log, which, weight))
            };
            let numeric = softmax(&smooth(loss, &[0.0; 4]).unwrap().point);
            prop_assert!(distance(&[exp(&got)], &[exp(&numeric)]) < 1e-7, "{which:?}");
            prop_assert!(largest(&target.gradient_with_likelihood(&got, which, weight)) < 1e-13);
        }
    }

    /// Several targets on one prompt: the geometric mixture in reverse, the arithmetic forward, each
    /// the numeric minimiser of its own sum and of no other; λ acts as a temperature.
    #[test]
    fn conflicting_targets_tell_the_divergences_apart(p in positive(4, 3.0), q in positive(4, 3.0), lambda in 0.1..5.0f64) {
        let (p, q) = (logs(&p), logs(&q));
        let parts = [(lambda, &p[..]), (1.0, &q[..])];
        let targets = [&p, &q].map(|log| Target { arms: (0..4).collect(), log: log.clone() });
        for which in BOTH {
            let gradient = |log: &[f64]| -> Vec<f64> {
                let (a, b) = (targets[0].gradient(log, which), targets[1].gradient(log, which));
                a.iter().zip(b).map(|(a, b)| lambda * a + b).collect()
            };
            let value = |log: &[f64]| {
                lambda * targets[0].divergence(log, which) + targets[1].divergence(log, which)
            };
            let got = compromise(&parts, which);
            prop_assert!(largest(&gradient(&got)) < 1e-12 * (1.0 + lambda));
            let numeric = smooth(|t| (value(&softmax(t)), gradient(&softmax(t))), &[0.0; 4]).unwrap();
            prop_assert!(distance(&[exp(&got)], &[exp(&softmax(&numeric.point))]) < 1e-6);
        }
        let [geometric, arithmetic] = BOTH.map(|which| exp(&compromise(&parts, which)));
        for a in 0..4 {
            let mean = (lambda * p[a].exp() + q[a].exp()) / (lambda + 1.0);
            prop_assert!((arithmetic[a] - mean).abs() < 1e-14);
        }
        if distance(std::slice::from_ref(&p), std::slice::from_ref(&q)) > 0.5 {
            prop_assert!(distance(&[geometric], &[arithmetic]) > 1e-6);
        }
        let (beta, advantage) = (0.7, [-0.75, -0.25, 0.25, 0.75]);
        let newer = sampling_distribution(&p, &advantage, beta);
        let tempered = sampling_distribution(&p, &advantage, beta * (1.0 + lambda));
        let got = compromise(&[(lambda, &p), (1.0, &newer)], Divergence::Reverse);
        prop_assert!(distance(&[exp(&got)], &[exp(&tempered)]) < 1e-13);
    }

    /// Eq. 24: below the divergence for every policy that is γπ* on Y, and reached exactly where it is
    /// proportional to π* off Y too.
    #[test]
    fn the_bound_is_a_bound(optimum in positive(5, 3.0), off in positive(5, 3.0), size in 1..5usize, t in 0.001..0.999f64) {
        let p: f64 = optimum[..size].iter().sum();
        let gamma = t / p;
        let rest: f64 = off[size..].iter().sum();
        let policy: Vec<f64> = (0..5)
            .map(|a| if a < size { gamma * optimum[a] } else { (1.0 - gamma * p) * off[a] / rest })
            .collect();
        let (bound, target) = (lower_bound(p, gamma).unwrap(), logs(&optimum));
        prop_assert!(kl(&logs(&policy), &target) >= bound - 1e-12);
        let proportional: Vec<f64> = (0..5)
            .map(|a| optimum[a] * if a < size { gamma } else { (1.0 - gamma * p) / (1.0 - p) })
            .collect();
        prop_assert!((kl(&logs(&proportional), &target) - bound).abs() < 1e-12);
        let shape = |p: &[f64]| -> Vec<f64> { p[size..].iter().map(|v| v / p[size..].iter().sum::<f64>()).collect() };
        if distance(&[shape(&off)], &[shape(&optimum)]) > 0.01 {
            prop_assert!(kl(&logs(&policy), &target) > bound);
        }
    }

    /// Nothing overflows at temperatures, rewards and references of any size.
    #[test]
    fn extreme_problems_stay_finite(problem in any_::extreme(), share in 0.0..1.0f64) {
        for prompt in problem.prompts() {
            let ranking = ranking(prompt, &prompt.reward, share);
            for sft in [false, true] {
                let found = fixed_point(prompt, &ranking, problem.beta(), sft).unwrap();
                let log = found.log_policy.unwrap();
                prop_assert!(log.iter().all(|l| !l.is_nan() && *l <= 1e-12), "{log:?}");
                prop_assert!((exp(&log).iter().sum::<f64>() - 1.0).abs() < 1e-9);
                prop_assert!(found.residual < 1e-9, "{}", found.residual);
            }
        }
    }
}

/// Moments follow the flow: their slope is the negated gradient, and the divergence they carry is
/// the one they are named after.
#[test]
fn moments_follow_the_gradient() {
    let toy = toy();
    let prompt = &toy.prompts()[0];
    let target = Target::ranked(prompt, &[2, 0], toy.beta()).unwrap();
    for divergence in [Divergence::Reverse, Divergence::Forward] {
        let (step, likelihood) = (1e-3, 0.7);
        let how = Motion {
            divergence,
            likelihood,
            step,
            steps: 400,
        };
        let moments = motion(&[-0.3, -1.8, -2.4], &target, 0.8, how);
        assert_eq!(moments.len(), 401);
        for window in moments.windows(3).step_by(40) {
            let [before, here, after] = window else {
                unreachable!()
            };
            let gradient =
                target.gradient_with_likelihood(&here.log_policy, divergence, likelihood);
            // Log-odds against arm 1, so that the normaliser does not count.
            for a in [0, 2] {
                let odds = |m: &Moment| m.log_policy[a] - m.log_policy[1];
                let slope = (odds(after) - odds(before)) / (2.0 * step);
                assert!((slope + gradient[a] - gradient[1]).abs() < 1e-6);
            }
            assert!((after.time - here.time - step).abs() < 1e-12);
            assert!((here.gamma - target.mass(&here.log_policy) / 0.8).abs() < 1e-15);
            let apart = here.divergence - target.divergence(&here.log_policy, divergence);
            assert!(apart.abs() < 1e-15);
        }
    }
}
