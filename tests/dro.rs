//! DRO: where its updates vanish, under one value, under a fixed one, and as its Algorithm 1 prints
//! them. Every update here is written out from the paper's equations.

use pistar::bandit::population::evaluate;
use pistar::bandit::{
    Beta, Evidence, PairLaw, Policy, Problem, Prompt, PromptEvidence, Shape, random_problem,
};
use pistar::loss::{InputKind, Objective};
use pistar::solve::dro;
use pistar::solve::minimise::smooth;
use proptest::prelude::*;

use super::common::golden::{instances, number, row, table};
use super::common::strategies::{self as any_, fit, settings, table as logits};
use super::common::{apart, distance, toy};

const REGRESSIONS: &str = "tests/regressions/dro.txt";

/// μ̄ of a prompt.
fn mean_law(prompt: &Prompt) -> Vec<f64> {
    let (p, q) = prompt.law.marginals();
    p.iter().zip(&q).map(|(p, q)| 0.5 * (p + q)).collect()
}

/// `R − τu` of a prompt.
fn regularised(prompt: &Prompt, tau: f64, log_policy: &[f64]) -> Vec<f64> {
    (0..prompt.arms())
        .map(|a| prompt.reward[a] - tau * (log_policy[a] - prompt.log_reference[a]))
        .collect()
}

/// `E_μ̄[R − τu]`.
fn value_of(prompt: &Prompt, tau: f64, log_policy: &[f64]) -> f64 {
    let law = mean_law(prompt);
    let terms = regularised(prompt, tau, log_policy);
    law.iter().zip(terms).map(|(m, t)| m * t).sum()
}

/// `E_μ̄[w ∇_θ ln π]` for weights w.
fn pushed(prompt: &Prompt, weights: &[f64], log_policy: &[f64]) -> Vec<f64> {
    let law = mean_law(prompt);
    let sum: f64 = law.iter().zip(weights).map(|(m, w)| m * w).sum();
    (0..law.len())
        .map(|a| law[a] * weights[a] - log_policy[a].exp() * sum)
        .collect()
}

/// `L(π, V)` of one prompt and its gradient with respect to the logits and V (eq. 4, 7, 8).
fn loss(prompt: &Prompt, tau: f64, logits: &[f64], value: f64) -> (f64, Vec<f64>, f64) {
    let log_policy = &Policy::softmax(&[logits.to_vec()]).log()[0].clone();
    let misses: Vec<f64> = (regularised(prompt, tau, log_policy).iter())
        .map(|t| t - value)
        .collect();
    let law = mean_law(prompt);
    let loss = law.iter().zip(&misses).map(|(m, t)| 0.5 * m * t * t).sum();
    let slope = pushed(prompt, &misses, log_policy);
    let by_value = value - value_of(prompt, tau, log_policy);
    (loss, slope.iter().map(|s| -tau * s).collect(), by_value)
}

fn size(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |m, v| v.abs().max(m))
}

fn first(problem: &Problem) -> (&Prompt, PromptEvidence) {
    let population = Evidence::population(problem);
    let share = population.of(InputKind::Singles).unwrap().prompts[0].clone();
    (&problem.prompts()[0], share)
}

/// The numeric minimiser of `L(·, V)` for one prompt.
fn argmin(problem: &Problem, value: f64, start: &[f64]) -> Policy {
    let (prompt, tau) = (&problem.prompts()[0], problem.beta());
    let f = |at: &[f64]| {
        let (loss, slope, _) = loss(prompt, tau, at, value);
        (loss, slope)
    };
    Policy::softmax(&[smooth(f, start).unwrap().point])
}

/// The problem with rewards moved so that V* is `value` for every prompt.
fn valued(problem: &Problem, value: f64) -> Problem {
    let optimum = problem.optimum();
    problem.map_prompts(|x, prompt| {
        let by = value - optimum.value[x];
        prompt.reward.iter_mut().for_each(|r| *r += by);
    })
}

fn at(problem: &Problem, tau: f64) -> Problem {
    problem.at(Beta::new("beta", tau).unwrap())
}

#[test]
fn golden() {
    for (name, instance, problem) in instances() {
        let evidence = Evidence::population(&problem);
        let limits = &instance["limits"];
        for (key, got) in [
            (
                "DRO_single_constant_V",
                dro::constant(&problem, &evidence).unwrap(),
            ),
            (
                "DRO_Algorithm1_as_printed",
                dro::algorithm_1_as_printed(&problem, &evidence).unwrap(),
            ),
        ] {
            let want = &limits[key];
            let policy = got.policy.unwrap().probabilities();
            assert!(
                distance(&policy, &table(&want["pi"])) < 1e-14,
                "{name} {key}"
            );
            assert!((got.regret.unwrap() - number(&want["regret"])).abs() < 1e-14);
            assert!(got.residual.unwrap() < 1e-15 && got.unique, "{name} {key}");
            let value = got.value.unwrap();
            assert_eq!(value.len(), problem.prompts().len());
            let wanted = row(&want["V"]);
            for (x, v) in value.iter().enumerate() {
                assert!((v - wanted[x % wanted.len()]).abs() < 1e-14, "{name} {key}");
            }
        }
        let fixed = table(&limits["DRO_fixed_V"]["pi"]);
        let test = Policy::softmax(&table(&instance["inputs"]["th"]));
        for (x, prompt) in problem.prompts().iter().enumerate() {
            let share = &evidence.of(InputKind::Singles).unwrap().prompts[x];
            let tau = problem.beta();
            let value = number(&instance["inputs"]["V"][x]);
            let part = dro::fixed_value_policy(x, prompt, share, tau, value).unwrap();
            let policy = Policy::from_log(vec![part.log_policy.unwrap()]);
            assert!(
                distance(&policy.probabilities(), &fixed[x..=x]) < 1e-13,
                "{name}"
            );
            assert!(part.unique && part.residual < 1e-14);
            let of_test = dro::value_of(prompt, share, tau, &test.log()[x]);
            let wanted = number(&instance["at_test_point"]["test_policy"]["V_pi_mu"][x]);
            assert!((of_test - wanted).abs() < 1e-14, "{name}");
        }
    }
}

proptest! {
    #![proptest_config(settings(REGRESSIONS, 24))]

    /// One value c: both updates vanish, and c is among the V*.
    #[test]
    fn one_value_is_stationary(problem in any_::full()) {
        let found = dro::constant(&problem, &Evidence::population(&problem)).unwrap();
        let (policy, tau) = (found.policy.unwrap(), problem.beta());
        let c = found.value.unwrap()[0];
        let (mut by_value, mut largest, mut scale) = (0.0, 0.0f64, 0.0f64);
        for (prompt, log) in problem.prompts().iter().zip(policy.log()) {
            let (_, slope, by) = loss(prompt, tau, log, c);
            largest = largest.max(prompt.weight * size(&slope));
            by_value += prompt.weight * by;
            scale = scale.max(size(&regularised(prompt, tau, log)) + c.abs());
        }
        prop_assert!(largest < 1e-11 * (1.0 + tau) * scale, "{largest} {scale}");
        prop_assert!(by_value.abs() < 1e-11 * (1.0 + scale), "{by_value}");
        prop_assert!((largest - found.residual.unwrap()).abs() < 1e-11 * (1.0 + tau) * scale);
        let stars = problem.optimum().value;
        let low = stars.iter().copied().fold(f64::INFINITY, f64::min);
        let high = stars.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        prop_assert!(low - 1e-9 <= c && c <= high + 1e-9, "{low} {c} {high}");
    }

    /// One value is enough where V* is the same for all prompts, and leaves a regret where it is not.
    #[test]
    fn one_value_is_right_where_the_optimum_has_one(problem in any_::full(), value in -3.0..3.0f64) {
        let level = valued(&problem, value);
        let found = dro::constant(&level, &Evidence::population(&level)).unwrap();
        prop_assert!(found.unique);
        prop_assert!(apart(found.policy.as_ref().unwrap(), &level.optimum().policy) < 1e-11);
        prop_assert!((found.value.unwrap()[0] - value).abs() < 1e-11);
        // A touch of difference, so that the flow has to find it.
        let touched = level.map_prompts(|x, p| p.reward.iter_mut().for_each(|r| *r += 1e-9 * x as f64));
        let near = dro::constant(&touched, &Evidence::population(&touched)).unwrap();
        let off = apart(&near.policy.unwrap(), &level.optimum().policy);
        prop_assert!(off < 1e-5, "{off} {}", near.method);
    }

    /// V ≤ V*: the minimiser of L(·, V) is one, whatever the start, and solves eq. 5 with e^{−V/τ}.
    #[test]
    fn below_the_optimum_one_minimum(problem in any_::mild(), under in 0.0..4.0f64, start in logits(3.0)) {
        let (prompt, share) = first(&problem);
        let tau = problem.beta();
        let value = problem.optimum().value[0] - under;
        let part = dro::fixed_value_policy(0, prompt, &share, tau, value).unwrap();
        prop_assert!(part.unique && part.note.is_none());
        let log = part.log_policy.unwrap();
        let (_, slope, _) = loss(prompt, tau, &log, value);
        prop_assert!(size(&slope) < 1e-11 * (1.0 + tau) * (1.0 + under), "{}", size(&slope));
        let update = dro::fixed_value_update(prompt, &share, tau, value, &log);
        prop_assert!(distance(&[update], &[slope.iter().map(|s| -s).collect()]) < 1e-12 * (1.0 + tau));
        let delta = value_of(prompt, tau, &log) - value;
        prop_assert!(delta > -1e-11);
        for (a, mass) in mean_law(prompt).iter().enumerate() {
            let right = prompt.log_reference[a] + (prompt.reward[a] - value - log[a].exp() / mass * delta) / tau;
            prop_assert!((log[a] - right).abs() < 1e-9, "{} {right}", log[a]);
        }
        prop_assert!(dro::equation_5(prompt, &share, tau, value, &log) < 1e-9);
        let other = argmin(&problem, value, &fit(&problem, &start)[0]);
        let off = apart(&other, &Policy::from_log(vec![log]));
        prop_assert!(off < 1e-6, "{off}");
        let minima = dro::minima(0, prompt, &share, tau, value, (6, 1)).unwrap();
        prop_assert_eq!(minima.len(), 1);
        prop_assert_eq!(minima[0].starts, 7);
    }

    /// Eq. 5, the bound (6) and the sharper one, on both sides of V*.
    #[test]
    fn errors_of_the_value_bound_those_of_the_policy(problem in any_::mild(), aside in -3.0..3.0f64) {
        let (prompt, share) = first(&problem);
        let tau = problem.beta();
        let optimum = problem.optimum();
        let value = optimum.value[0] + tau * aside;
        for minimum in dro::minima(0, prompt, &share, tau, value, (3, 2)).unwrap() {
            let log = &minimum.log_policy;
            let got = dro::value_error(prompt, &share, tau, value, log);
            let delta = value_of(prompt, tau, log) - value;
            prop_assert!((got.delta - delta).abs() < 1e-12 * (1.0 + value.abs()));
            let error = (log.iter().zip(&optimum.policy.log()[0])).fold(0.0f64, |m, (l, o)| m.max((l - o).abs()));
            prop_assert!((got.error - error).abs() < 1e-10);
            let bound = (log.iter().zip(mean_law(prompt)))
                .fold(0.0f64, |m, (l, mass)| m.max((2.0 / tau * delta * (1.0 - l.exp() / mass)).abs()));
            prop_assert!((got.bound - bound).abs() < 1e-9 * (1.0 + bound));
            prop_assert!(got.error <= got.sharper + 1e-9, "{got:?}");
            prop_assert!(got.sharper <= got.bound * (1.0 + 1e-9) + 1e-12, "{got:?}");
            prop_assert!(dro::equation_5(prompt, &share, tau, value, log) < 1e-7);
        }
    }

    /// Each minimum that is listed is one: nothing near it is lower.
    #[test]
    fn minima_are_minima(problem in any_::mild(), above in 0.1..4.0f64, aside in logits(1e-3)) {
        let (prompt, share) = first(&problem);
        let tau = problem.beta();
        let value = problem.optimum().value[0] + above;
        let minima = dro::minima(0, prompt, &share, tau, value, (8, 3)).unwrap();
        prop_assert!(minima.is_sorted_by(|a, b| a.loss <= b.loss));
        for minimum in &minima {
            let (here, slope, _) = loss(prompt, tau, &minimum.log_policy, value);
            prop_assert!((here - minimum.loss).abs() < 1e-10 * (1.0 + here));
            prop_assert!(size(&slope) < 1e-8 * (1.0 + tau) * (1.0 + above + here), "{}", size(&slope));
            let moved: Vec<f64> = (minimum.log_policy.iter().zip(&aside[0])).map(|(l, d)| l + d).collect();
            prop_assert!(loss(prompt, tau, &moved, value).0 >= here - 1e-9 * (1.0 + here));
        }
    }

    /// Algorithm 1 with τ/2 before its ℓ₂ term goes to (π*, V*) at every temperature.
    #[test]
    fn the_corrected_algorithm_is_right(problem in any_::full()) {
        let optimum = problem.optimum();
        let found = dro::algorithm_1(&problem, &Evidence::population(&problem), problem.beta()).unwrap();
        prop_assert!(found.unique, "{found:?}");
        let off = apart(&found.policy.unwrap(), &optimum.policy);
        prop_assert!(off < 1e-9, "{off}");
        prop_assert!(distance(&[found.value.unwrap()], &[optimum.value]) < 1e-9);
    }

    /// As printed it rests where μ̄(R − V − u) = πS' and V = E_μ̄[R − τu]; that is π* at τ = 1.
    #[test]
    fn the_printed_algorithm_rests(problem in any_::full(), below in 0.1..0.9f64) {
        for tau in [below, 1.0] {
            let problem = at(&problem, tau);
            let found = dro::algorithm_1_as_printed(&problem, &Evidence::population(&problem)).unwrap();
            let Some(policy) = found.policy else { prop_assert!(tau != 1.0); continue };
            for ((prompt, log), v) in problem.prompts().iter().zip(policy.log()).zip(found.value.unwrap()) {
                let weights: Vec<f64> = regularised(prompt, 1.0, log).iter().map(|t| t - v).collect();
                let scale = 1.0 + size(&weights);
                prop_assert!(size(&pushed(prompt, &weights, log)) < 1e-10 * scale);
                prop_assert!((v - value_of(prompt, tau, log)).abs() < 1e-10 * scale);
            }
            if tau == 1.0 {
                prop_assert!(found.unique);
                prop_assert!(apart(&policy, &problem.optimum().policy) < 1e-9);
            }
        }
    }

    /// V eliminated: `L(π, V^π) = ½ E Var(R − τu)`, and `L_CoPG = Var(R)/τ − (2/τ) L(π, V^π)` where both
    /// laws agree, gradients included.
    #[test]
    fn with_its_value_eliminated_it_is_copg(problem in any_::same_laws(), by in logits(2.0)) {
        let (prompt, tau) = (&problem.prompts()[0], problem.beta());
        let theta = fit(&problem, &by);
        let log = &Policy::softmax(&theta).log()[0].clone();
        let (least, slope, by_value) = loss(prompt, tau, &theta[0], value_of(prompt, tau, log));
        prop_assert!(by_value.abs() < 1e-12 * (1.0 + tau));
        let law = mean_law(prompt);
        let variance = |of: &[f64]| {
            let mean: f64 = law.iter().zip(of).map(|(m, v)| m * v).sum();
            law.iter().zip(of).map(|(m, v)| m * (v - mean).powi(2)).sum::<f64>()
        };
        let scale = 1.0 + tau + 1.0 / tau;
        prop_assert!((least - 0.5 * variance(&regularised(prompt, tau, log))).abs() < 1e-11 * scale * scale);
        let copg = evaluate(&problem, &Evidence::population(&problem), Objective::COPG, &theta).unwrap();
        // The crate minimises −L_CoPG.
        let right = (variance(&prompt.reward) - 2.0 * least) / tau;
        prop_assert!((-copg.value - right).abs() < 1e-11 * scale * scale, "{} {right}", -copg.value);
        let right: Vec<f64> = slope.iter().map(|s| 2.0 / tau * s).collect();
        prop_assert!(distance(&copg.gradient, &[right]) < 1e-10 * scale);
    }

    /// Where the laws differ, CoPG's square is two eliminated DROs and the square of their gap.
    #[test]
    fn two_laws_add_a_matching_of_means(problem in any_::mild(), by in logits(2.0)) {
        let (prompt, tau) = (&problem.prompts()[0], problem.beta());
        let theta = fit(&problem, &by);
        let f = regularised(prompt, tau, &Policy::softmax(&theta).log()[0]);
        let (first, second) = prompt.law.marginals();
        let mean = |law: &[f64]| law.iter().zip(&f).map(|(m, v)| m * v).sum::<f64>();
        let least = |law: &[f64]| {
            let one = any_::with_laws(&problem, |_, _| PairLaw::Product { first: law.to_vec(), second: law.to_vec() });
            loss(&one.prompts()[0], tau, &theta[0], mean(law)).0
        };
        let right = 2.0 * least(&first) + 2.0 * least(&second) + (mean(&first) - mean(&second)).powi(2);
        let square = evaluate(&problem, &Evidence::population(&problem), Objective::COPG_SQUARED, &theta).unwrap().value;
        prop_assert!((square - right).abs() < 1e-11 * (1.0 + right), "{square} {right}");
    }
}

proptest! {
    #![proptest_config(settings(REGRESSIONS, 12))]

    /// Nothing that is tried has a lower joint loss than the one-value limit, where it is the only one.
    #[test]
    fn one_value_is_the_joint_minimum(problem in any_::full(), by in logits(1.0)) {
        let found = dro::constant(&problem, &Evidence::population(&problem)).unwrap();
        prop_assume!(found.unique);
        let tau = problem.beta();
        let joint = |flat: &[f64]| {
            let (mut total, mut slope, mut by_c) = (0.0, Vec::new(), 0.0);
            let (c, mut rest) = (flat[flat.len() - 1], flat);
            for prompt in problem.prompts() {
                let (head, tail) = rest.split_at(prompt.arms());
                rest = tail;
                let (l, s, v) = loss(prompt, tau, head, c);
                total += prompt.weight * l;
                by_c += prompt.weight * v;
                slope.extend(s.iter().map(|s| prompt.weight * s));
            }
            slope.push(by_c);
            (total, slope)
        };
        let with = |rows: &[Vec<f64>], c: f64| [rows.concat(), vec![c]].concat();
        let (log, c) = (found.policy.as_ref().unwrap().log(), found.value.unwrap()[0]);
        let here = joint(&with(log, c)).0;
        let start: Vec<Vec<f64>> = (log.iter().zip(fit(&problem, &by)))
            .map(|(row, by)| row.iter().zip(by).map(|(l, d)| l + d).collect())
            .collect();
        let best = smooth(joint, &with(&start, c)).unwrap();
        prop_assert!(best.value >= here - 1e-9 * (1.0 + here), "{} {here}", best.value);
    }

    /// No number of the extreme problems makes a NaN, and what is said to rest does.
    #[test]
    fn extremes(problem in any_::extreme()) {
        let evidence = Evidence::population(&problem);
        let one = dro::constant(&problem, &evidence).unwrap();
        prop_assert!(one.policy.is_some() || !one.notes.is_empty());
        prop_assert!(one.policy.is_none_or(|p| p.log().iter().flatten().all(|l| !l.is_nan())));
        prop_assert!(one.residual.is_none_or(f64::is_finite));
        let printed = dro::algorithm_1_as_printed(&problem, &evidence).unwrap();
        prop_assert!(printed.policy.is_some() || !printed.notes.is_empty());
        prop_assert!(printed.policy.is_none_or(|p| p.log().iter().flatten().all(|l| !l.is_nan())));
    }
}

/// The two updates of Algorithm 1 as printed, by explicit steps, from the reference and V = 0.
fn printed_run(problem: &Problem, pace: (f64, usize)) -> (Policy, f64) {
    printed_run_from(
        problem,
        problem.prompts()[0].log_reference.clone(),
        0.0,
        pace,
    )
}

fn printed_run_from(
    problem: &Problem,
    mut theta: Vec<f64>,
    mut v: f64,
    (step, steps): (f64, usize),
) -> (Policy, f64) {
    let (prompt, tau) = (&problem.prompts()[0], problem.beta());
    for _ in 0..steps {
        let log = Policy::softmax(std::slice::from_ref(&theta)).log()[0].clone();
        let weights: Vec<f64> = (regularised(prompt, 1.0, &log).iter())
            .map(|t| t - v)
            .collect();
        let up = pushed(prompt, &weights, &log);
        let next = value_of(prompt, tau, &log);
        theta.iter_mut().zip(up).for_each(|(t, u)| *t += step * u);
        v += step * (next - v);
        if v.abs() > 1e6 {
            break;
        }
    }
    (Policy::softmax(&[theta]), v)
}

/// On the toy the printed algorithm's regret falls with |τ − 1| and from τ ≈ 1.1 on it diverges.
#[test]
fn the_printed_algorithm_on_the_toy() {
    for (tau, regret) in [(0.1, 0.440), (0.5, 0.151), (0.8, 0.042), (1.0, 0.0)] {
        let problem = at(&toy(), tau);
        let found = dro::algorithm_1_as_printed(&problem, &Evidence::population(&problem)).unwrap();
        assert!(
            (found.regret.unwrap() - regret).abs() < 6e-4,
            "{tau} {found:?}"
        );
        assert!(found.unique, "{tau}");
        let (run, v) = printed_run(&problem, (0.1, 40_000));
        assert!(apart(&run, &found.policy.unwrap()) < 1e-9, "{tau}");
        assert!((v - found.value.unwrap()[0]).abs() < 1e-9, "{tau}");
    }
    for tau in [1.2, 1.5, 2.0, 5.0] {
        let problem = at(&toy(), tau);
        let found = dro::algorithm_1_as_printed(&problem, &Evidence::population(&problem)).unwrap();
        assert!(
            found.policy.is_none() && found.value.is_none() && !found.unique,
            "{tau}"
        );
        assert!(found.residual.is_none() && found.regret.is_none());
        assert!(found.notes[0].contains("V → +∞"), "{tau} {:?}", found.notes);
        // The least sampled arm takes everything.
        assert!(found.notes[0].contains("arm 0"), "{tau} {:?}", found.notes);
        let (run, v) = printed_run(&problem, (0.05, 400_000));
        assert!(v > 1e6 && run.probabilities()[0][0] > 0.999, "{tau}: {v}");
        let right = dro::algorithm_1(&problem, &Evidence::population(&problem), tau).unwrap();
        assert!(right.regret.unwrap() < 1e-20, "{tau}");
    }
}

/// Policies far out on arm k run off where τ(1 − μ̄_k) > 1, and come back below: on the toy's first
/// arm, which has μ̄ = 0.075, at τ = 1.081. With the laws turned so that no arm is rare it is later.
#[test]
fn where_the_printed_algorithm_runs_off() {
    let far = 1e4;
    for (arm, mean) in [(0, 0.075), (1, 0.125), (2, 0.8)] {
        let least = 1.0 / (1.0 - mean);
        for tau in [least - 0.02, least + 0.02] {
            let problem = at(&toy(), tau);
            let mut theta = vec![-far; 3];
            theta[arm] = 0.0;
            let (_, v) = printed_run_from(&problem, theta, far, (0.1, 5_000));
            assert_eq!(v > far, tau > least, "{arm} {tau}: {v}");
        }
    }
    // On the toy the rest itself goes to infinity there.
    let of = |problem: &Problem| {
        dro::algorithm_1_as_printed(problem, &Evidence::population(problem)).unwrap()
    };
    let near = of(&at(&toy(), 1.08));
    assert!(near.unique && near.value.unwrap()[0] > 10.0);
    assert!(of(&at(&toy(), 1.083)).policy.is_none());
    // On other problems the reference comes to rest beside it, and the answer is not the only one.
    let mut beside = 0;
    for seed in 0..20 {
        let shape = Shape {
            prompts: 1,
            arms: 4,
            beta: 2.0,
            reward_scale: 1.0,
        };
        let found = of(&random_problem(shape, seed).unwrap());
        beside += usize::from(found.policy.is_some());
        assert!(!found.unique && !found.notes.is_empty(), "{seed} {found:?}");
    }
    assert!(beside > 0 && beside < 20, "{beside}");
}

/// Two arms alike in everything and a value far above V*: either may take the mass, at equal loss.
#[test]
fn above_the_optimum_minima_tie() {
    let problem = Problem::from_json(
        r#"{"beta": 1.0, "prompts": [{"reward": [1.0, 1.0, 0.0], "reference": [0.3, 0.3, 0.4],
            "behavior": [[0.1, 0.1, 0.8]]}]}"#,
    )
    .unwrap();
    let (prompt, share) = first(&problem);
    let value = problem.optimum().value[0] + 1.2;
    let minima = dro::minima(0, prompt, &share, 1.0, value, (24, 1)).unwrap();
    assert!(minima.len() >= 2, "{minima:?}");
    assert!((minima[0].loss - minima[1].loss).abs() < 1e-12);
    let (a, b) = (&minima[0].log_policy, &minima[1].log_policy);
    assert!((a[0] - b[1]).abs() < 1e-6 && (a[1] - b[0]).abs() < 1e-6);
    assert!((a[0] - a[1]).abs() > 0.1);
    let lowest = argmin(&problem, value, &[1.0, 0.0, 0.0]);
    assert!(loss(prompt, 1.0, &lowest.log()[0], value).0 >= minima[0].loss - 1e-12);
}

/// An arm no response shows: any V ≥ V_S fits exactly, the shown arms keep their proportions and
/// `e^{(V_S − V)/τ}` of the mass (Theorem 1 needs its supports).
#[test]
fn arms_never_shown_leave_a_family() {
    let problem = Problem::from_json(
        r#"{"beta": 0.5, "prompts": [{"reward": [1.0, 0.2, 3.0], "reference": [0.3, 0.5, 0.2],
            "behavior": [[0.4, 0.6, 0.0]]}]}"#,
    )
    .unwrap();
    let (prompt, share) = first(&problem);
    let shown: f64 = (0..2)
        .map(|a| (prompt.log_reference[a] + prompt.reward[a] / 0.5).exp())
        .sum();
    let least = 0.5 * shown.ln();
    for above in [0.2, 1.0] {
        let part = dro::fixed_value_policy(0, prompt, &share, 0.5, least + above).unwrap();
        let log = part.log_policy.unwrap();
        assert!(!part.unique);
        assert!(loss(prompt, 0.5, &log, least + above).0 < 1e-20);
        let mass = log[0].exp() + log[1].exp();
        assert!((mass - (-above / 0.5f64).exp()).abs() < 1e-9);
        let gap =
            (log[0] - log[1]) - (prompt.log_reference[0] - prompt.log_reference[1]) - 0.8 / 0.5;
        assert!(gap.abs() < 1e-9);
    }
    let one = dro::constant(&problem, &Evidence::population(&problem)).unwrap();
    assert!(
        !one.unique && one.notes[0].contains("arms {2}"),
        "{:?}",
        one.notes
    );
}

/// A prompt that no example has stays at the reference, and is not counted in the value.
#[test]
fn prompts_without_examples() {
    let problem = Problem::from_json(
        r#"{"beta": 0.5, "prompts": [
            {"weight": 1.0, "reward": [2.5, 2.0, 1.0], "behavior": [[0.1, 0.2, 0.7]]},
            {"weight": 0.0, "reward": [9.0, 0.0], "behavior": [[0.5, 0.5]]}]}"#,
    )
    .unwrap();
    let evidence = Evidence::population(&problem);
    let one = dro::constant(&problem, &evidence).unwrap();
    let optimum = problem.optimum();
    assert!((one.value.as_ref().unwrap()[0] - optimum.value[0]).abs() < 1e-13);
    let policy = one.policy.unwrap();
    assert_eq!(policy.log()[1], problem.prompts()[1].log_reference);
    assert!(!one.unique);
    let printed = dro::algorithm_1_as_printed(&problem, &evidence).unwrap();
    assert_eq!(
        printed.policy.unwrap().log()[1],
        problem.prompts()[1].log_reference
    );
}

#[test]
fn refusals() {
    let problem = toy();
    let evidence = Evidence::population(&problem);
    for lambda in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let error = dro::algorithm_1(&problem, &evidence, lambda).unwrap_err();
        assert!(error.to_string().contains("lambda"), "{error}");
    }
}
