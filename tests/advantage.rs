//! The Advantage Model: its optimum, its estimators, its calibration.

use pistar::bandit::population::evaluate;
use pistar::bandit::{Dataset, Evidence, Problem, Prompt};
use pistar::loss::{InputKind, Objective};
use pistar::solve::advantage::{self, Form, estimator, fixed_point};
use pistar::solve::{FixedPoint, calibration};
use proptest::prelude::*;

use super::common::golden::{instances, number, row, table};
use super::common::strategies::{self as any_, settings};
use super::common::{distance, toy};

const REGRESSIONS: &str = "tests/regressions/advantage.txt";
const FORMS: [Form; 3] = [Form::SelfPairs, Form::Distinct, Form::Centred];

#[test]
fn golden_tables_regrets_values_and_gradients() {
    let forms = [
        (Form::SelfPairs, "AM_self"),
        (Form::Distinct, "AM_noself"),
        (Form::Centred, "AM_centred"),
    ];
    for (_, instance, problem) in instances() {
        let margin = problem.margin().unwrap();
        let population = Evidence::population(&problem);
        for (form, key) in forms {
            let want = &instance["limits"][key];
            let got = fixed_point(&problem, &population, margin, form).unwrap();
            let off = distance(got.table.as_ref().unwrap(), &table(&want["a"]));
            assert!(off < 1e-12, "{key}: {off}");
            let regret = number(&want["regret_if_used_as_reward"]);
            assert!((got.regret.unwrap() - regret).abs() < 1e-12, "{key}");
            assert!(got.unique && got.residual.unwrap() < 1e-15, "{got:?}");
            let at = &instance["at_test_point"][key];
            if form == Form::Centred {
                continue;
            }
            let mut value = 0.0;
            for (x, (prompt, share)) in problem
                .prompts()
                .iter()
                .zip(&population.of(InputKind::LabelledPairs).unwrap().prompts)
                .enumerate()
            {
                let scores = row(&instance["inputs"]["A"][x]);
                let (part, gradient) =
                    advantage::loss(prompt, share, margin, form, &scores).unwrap();
                value += share.mass * part;
                let want = row(&at["grad"][x]);
                let gradient: Vec<f64> = gradient.iter().map(|g| share.mass * g).collect();
                assert!(distance(&[gradient], &[want]) < 1e-15, "{key}");
            }
            assert!((value - number(&at["value"])).abs() < 1e-14, "{key}");
        }
    }
}

fn softplus(z: f64) -> f64 {
    z.max(0.0) + (-z.abs()).exp().ln_1p()
}

fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

/// Eq. 6 as it reads, on the pairs (y, y′) of one prompt, with its gradient by the product rule.
fn eq6(prompt: &Prompt, margin: f64, form: Form, a: &[f64]) -> (f64, Vec<f64>) {
    let (mut value, mut gradient) = (0.0, vec![0.0; a.len()]);
    for y in 0..a.len() {
        for z in 0..a.len() {
            let mass = prompt.law.probability(y, z);
            if mass == 0.0 || (form == Form::Distinct && y == z) {
                continue;
            }
            let p = sigmoid(prompt.reward[y] - prompt.reward[z]);
            for (w, l, q) in [(y, z, mass * p), (z, y, mass * (1.0 - p))] {
                value += q
                    * (softplus(a[l] - a[w]) + softplus(a[w] - margin) + softplus(-margin - a[l]));
                let ranking = q * sigmoid(a[l] - a[w]);
                gradient[w] += q * sigmoid(a[w] - margin) - ranking;
                gradient[l] += ranking - q * sigmoid(-margin - a[l]);
            }
        }
    }
    (value, gradient)
}

fn compared(prompt: &Prompt, form: Form, arm: usize) -> bool {
    (0..prompt.arms())
        .any(|b| (form != Form::Distinct || b != arm) && any_::weight(prompt, arm, b) > 0.0)
}

/// A law with every arm in it, for centring.
fn centred(problem: &Problem, weights: &[Vec<f64>]) -> Problem {
    problem.map_prompts(|x, prompt| {
        let e: Vec<f64> = weights[x][..prompt.arms()]
            .iter()
            .map(|w| w.exp())
            .collect();
        let sum: f64 = e.iter().sum();
        prompt.centre = Some(e.iter().map(|e| e / sum).collect());
    })
}

fn table_of(found: &FixedPoint) -> Vec<Vec<f64>> {
    found.table.clone().unwrap()
}

proptest! {
    #![proptest_config(settings(REGRESSIONS, 64))]

    /// Where the expected update vanishes, for every arm that is compared; the others stay at 0 and
    /// are said to be free. The loss is no lower elsewhere, and the scores are within the margin.
    #[test]
    fn the_gradient_of_eq6_vanishes_within_the_margin(
        problem in any_::any_kind(), margin in 0.05..20.0f64, elsewhere in any_::table(3.0),
        own in any::<bool>(),
    ) {
        let form = if own { Form::SelfPairs } else { Form::Distinct };
        let found = fixed_point(&problem, &Evidence::population(&problem), margin, form).unwrap();
        let elsewhere = any_::fit(&problem, &elsewhere);
        let mut free = false;
        for ((prompt, a), other) in problem.prompts().iter().zip(table_of(&found)).zip(&elsewhere) {
            let (value, gradient) = eq6(prompt, margin, form, &a);
            prop_assert!(gradient.iter().all(|g| g.abs() < 1e-14), "{gradient:?}");
            prop_assert!(value <= eq6(prompt, margin, form, other).0 + 1e-14);
            prop_assert!(a.iter().all(|a| a.abs() < margin), "{a:?} {margin}");
            for arm in (0..prompt.arms()).filter(|&arm| !compared(prompt, form, arm)) {
                prop_assert_eq!(a[arm], 0.0);
                free = true;
            }
        }
        prop_assert_eq!(found.unique, !free);
        prop_assert!(found.residual.unwrap() < 1e-14);
        // The policy is the optimum of the same problem with these scores as rewards.
        let table = table_of(&found);
        let rewarded = problem.map_prompts(|x, prompt| prompt.reward = table[x].clone());
        let want = rewarded.optimum().policy;
        prop_assert!(super::common::apart(found.policy.as_ref().unwrap(), &want) < 1e-14);
    }

    /// Centred: the condition holds, and the gradient is a multiple of the law.
    #[test]
    fn the_centred_form_is_stationary_on_its_hyperplane(
        problem in any_::any_kind(), margin in 0.05..20.0f64, weights in any_::table(2.0),
    ) {
        let problem = centred(&problem, &weights);
        let population = Evidence::population(&problem);
        let found = fixed_point(&problem, &population, margin, Form::Centred).unwrap();
        for (prompt, a) in problem.prompts().iter().zip(table_of(&found)) {
            let c = prompt.centre();
            let mean: f64 = c.iter().zip(&a).map(|(c, a)| c * a).sum();
            let size = a.iter().fold(1.0, |m: f64, a| m.max(a.abs()));
            prop_assert!(mean.abs() < 1e-13 * size, "{mean}");
            let (_, gradient) = eq6(prompt, margin, Form::Centred, &a);
            let along = |v: &[f64]| -> f64 { c.iter().zip(v).map(|(c, v)| c * v).sum() };
            let multiplier = along(&gradient) / along(&c);
            for (g, c) in gradient.iter().zip(&c) {
                prop_assert!((g - multiplier * c).abs() < 1e-13, "{gradient:?} {c:?}");
            }
        }
    }

    /// The answer on labelled data does not depend on the order or the kind of listing, and the
    /// exact optimum also exists where a reward model's does not.
    #[test]
    fn a_dataset_has_a_finite_optimum_whatever_its_labels(
        problem in any_::mild(), clashes in any_::clashes(3), margin in 0.1..10.0f64,
    ) {
        let arms = problem.prompts()[0].arms();
        prop_assume!((0..arms).any(|a| (0..arms).any(|b| a != b && clashes[a][b] > 0)));
        let data = any_::labelled(&problem, &clashes[..arms].iter().map(|r| r[..arms].to_vec()).collect::<Vec<_>>());
        let evidence = Evidence::from_dataset(&problem, &data);
        let found = fixed_point(&problem, &evidence, margin, Form::SelfPairs).unwrap();
        let a = &table_of(&found)[0];
        let total: f64 = (0..arms).flat_map(|i| (0..arms).filter(move |&j| j != i).map(move |j| (i, j)))
            .map(|(i, j)| f64::from(clashes[i][j])).sum();
        let mut gradient = vec![0.0; arms];
        for i in 0..arms {
            for j in (0..arms).filter(|&j| j != i) {
                let q = f64::from(clashes[i][j]) / total;
                gradient[i] += q * (sigmoid(a[i] - margin) - sigmoid(a[j] - a[i]));
                gradient[j] += q * (sigmoid(a[j] - a[i]) - sigmoid(-margin - a[j]));
            }
        }
        prop_assert!(gradient.iter().all(|g| g.abs() < 1e-14), "{gradient:?}");
        prop_assert!(a.iter().all(|a| a.abs() < margin));
    }

    /// Temperatures 1e-3 to 1e3, rewards to ±1e4, laws to 1e-300, margins 1e-3 to 1e4: all finite, no
    /// pull left, within the margin.
    #[test]
    fn extremes_stay_finite(problem in any_::extreme(), log in -3.0..4.0f64) {
        let margin = 10f64.powf(log);
        let population = Evidence::population(&problem);
        for form in FORMS {
            let found = fixed_point(&problem, &population, margin, form).unwrap();
            // Centred, scores may have to be so large that the pulls at them are lost beside the others.
            let Some(table) = &found.table else {
                prop_assert!(form == Form::Centred && found.policy.is_none() && !found.notes.is_empty(), "{found:?}");
                continue;
            };
            for (prompt, a) in problem.prompts().iter().zip(table) {
                prop_assert!(a.iter().all(|a| a.is_finite()), "{form:?} {a:?}");
                if form != Form::Centred {
                    let (_, gradient) = eq6(prompt, margin, form, a);
                    prop_assert!(gradient.iter().all(|g| g.abs() < 1e-13), "{form:?} {a:?} {gradient:?}");
                    prop_assert!(a.iter().all(|a| a.abs() < margin * (1.0 + 1e-12)), "{form:?} {a:?} {margin} {prompt:?}");
                }
            }
            prop_assert!(found.regret.unwrap() >= 0.0 && found.policy.unwrap().log()[0].iter().all(|l| l.is_finite()));
        }
    }
}

/// One prompt of two arms, uniform laws.
fn two(gap: f64) -> Problem {
    let file = format!(
        r#"{{"beta": 1, "prompts": [{{"reward": [{gap}, 0], "behavior": [[0.5, 0.5]]}}]}}"#
    );
    Problem::from_json(&file).unwrap()
}

/// Certain labels, two arms, no self pairs: the winner's pulls balance where x₂ − x₁ = x₁ − m, so the
/// scores are ±m/3, also where every pull is far below the smallest number.
#[test]
fn certain_labels_settle_at_a_third_of_the_margin() {
    for margin in [1e-3, 0.1, 1.0, 2.5, 30.0, 700.0, 1e3, 1e4] {
        let problem = two(1e4);
        let population = Evidence::population(&problem);
        let found = fixed_point(&problem, &population, margin, Form::Distinct).unwrap();
        let want = vec![vec![margin / 3.0, -margin / 3.0]];
        let off = distance(found.table.as_ref().unwrap(), &want);
        assert!(off < 1e-12 * margin, "{margin}: {:?}", found.table);
        assert!(found.unique, "{found:?}");
    }
}

/// As the margin grows the scores tend to the reward up to a constant, and that constant is where
/// the rare pulls of the bound balance: Σ W σ(a + c − m) = Σ L σ(−a − c − m).
#[test]
fn a_wide_margin_recovers_the_reward_and_fixes_its_level() {
    let problem = toy();
    let population = Evidence::population(&problem);
    let reward = &problem.prompts()[0].reward;
    let (mut win, mut lose) = ([0.0; 3], [0.0; 3]);
    let law = &problem.prompts()[0].law;
    for y in 0..3 {
        for z in 0..3 {
            let (mass, p) = (law.probability(y, z), sigmoid(reward[y] - reward[z]));
            win[y] += mass * p;
            lose[z] += mass * p;
            win[z] += mass * (1.0 - p);
            lose[y] += mass * (1.0 - p);
        }
    }
    let sum = |mass: &[f64; 3], sign: f64| -> f64 {
        mass.iter()
            .zip(reward)
            .map(|(m, r)| m * (sign * r).exp())
            .sum()
    };
    let level = 0.5 * (sum(&lose, -1.0) / sum(&win, 1.0)).ln();
    for margin in [40.0, 100.0, 1e3, 1e4] {
        let found = fixed_point(&problem, &population, margin, Form::SelfPairs).unwrap();
        let want: Vec<f64> = reward.iter().map(|r| r + level).collect();
        assert!(
            distance(found.table.as_ref().unwrap(), &[want]) < 1e-11,
            "{margin}: {found:?}"
        );
        assert!(found.unique && found.regret.unwrap() < 1e-20);
    }
}

/// Two groups of arms, each noisy within and never losing to the other: the groups' places are
/// balanced by pulls e⁻¹⁰⁰ and smaller.
#[test]
fn groups_far_apart_balance_too() {
    let file = r#"{"beta": 1, "prompts": [{"reward": [5000.5, 5000, 0.25, 0],
                   "behavior": [[0.25, 0.25, 0.25, 0.25]]}]}"#;
    let problem = Problem::from_json(file).unwrap();
    let population = Evidence::population(&problem);
    let found = fixed_point(&problem, &population, 300.0, Form::Distinct).unwrap();
    let a = &found.table.as_ref().unwrap()[0];
    // Up: each of four pairs e^{−gap}/16·2; down: wins e^{a − m}; to leading order a third each way.
    assert!(
        (a[0] - a[1] - 0.5).abs() < 1e-12 && (a[2] - a[3] - 0.25).abs() < 1e-12,
        "{a:?}"
    );
    assert!(
        (a[0] - 100.0).abs() < 2.0 && (a[2] + 100.0).abs() < 2.0,
        "{a:?}"
    );
    // The pulls between the groups and from the margin balance relative to their own size.
    let (mut up, mut down) = (0.0, 0.0);
    for i in 0..2 {
        for j in 2..4 {
            up += 0.125 * (a[j] - a[i]).exp();
        }
        let b = sigmoid(0.5);
        let (p, q) = if i == 0 { (b, 1.0 - b) } else { (1.0 - b, b) };
        down += (0.25 + 0.125 * p) * (a[i] - 300.0).exp();
        up += 0.125 * q * (-a[i] - 300.0).exp();
    }
    assert!((up / down - 1.0).abs() < 1e-10, "{up} {down}");
}

/// The bound needs the table free: centred it can fail (5-digit numbers of a wider search).
#[test]
fn centring_can_break_the_bound() {
    let file = r#"{"beta": 1, "prompts": [{"reward": [2.19, 1.53, -6.19],
                   "behavior": [[0.005, 0.99, 0.005], [0.005, 0.005, 0.99]]}]}"#;
    let problem = Problem::from_json(file).unwrap();
    let problem = problem.map_prompts(|_, p| p.centre = Some(vec![0.143, 0.855, 0.002]));
    let population = Evidence::population(&problem);
    let found = fixed_point(&problem, &population, 2.5, Form::Centred).unwrap();
    let a = &found.table.unwrap()[0];
    assert!(
        distance(std::slice::from_ref(a), &[vec![-3.133, 0.528, -0.995]]) < 0.01,
        "{a:?}"
    );
    let free = fixed_point(&problem, &population, 2.5, Form::SelfPairs).unwrap();
    assert!(free.table.unwrap()[0].iter().all(|a| a.abs() < 2.5));
}

#[test]
fn caps_and_refusals() {
    let big = pistar::bandit::random_problem(
        pistar::bandit::Shape {
            prompts: 1,
            arms: 2001,
            beta: 1.0,
            reward_scale: 1.0,
        },
        1,
    )
    .unwrap();
    let error = fixed_point(&big, &Evidence::population(&big), 2.5, Form::Distinct).unwrap_err();
    assert!(
        error.to_string().contains("limited to 2000 arms"),
        "{error}"
    );
    let problem = toy();
    let population = Evidence::population(&problem);
    for margin in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(
            fixed_point(&problem, &population, margin, Form::Centred).is_err(),
            "{margin}"
        );
    }
    let singles = Evidence::from_dataset(&problem, &Dataset::singles(&problem, 10, 1, 0));
    let error = fixed_point(&problem, &singles, 2.5, Form::SelfPairs).unwrap_err();
    assert!(
        error.to_string().contains("no example of labelled pairs"),
        "{error}"
    );
}

/// Many arms: the same Newton, a few steps.
#[test]
fn many_arms() {
    let shape = pistar::bandit::Shape {
        prompts: 1,
        arms: 300,
        beta: 0.5,
        reward_scale: 1.0,
    };
    let problem = pistar::bandit::random_problem(shape, 3).unwrap();
    let population = Evidence::population(&problem);
    for form in FORMS {
        let found = fixed_point(&problem, &population, 2.5, form).unwrap();
        assert!(
            found.unique && found.residual.unwrap() < 1e-16,
            "{form:?} {:?}",
            found.residual
        );
    }
}

/// Laws over the arms of one prompt, all positive.
fn law(weights: &[f64]) -> Vec<f64> {
    let e: Vec<f64> = weights.iter().map(|w| w.exp()).collect();
    let sum: f64 = e.iter().sum();
    e.iter().map(|e| e / sum).collect()
}

proptest! {
    #![proptest_config(settings(REGRESSIONS, 64))]

    /// Eq. 8 as it must read: its mean over all draws, enumerated, is eq. 5's advantage, and as printed
    /// with on-policy proposals it is the advantage shrunk by 1 − K/N.
    #[test]
    fn the_estimate_is_unbiased_as_it_must_read(
        reward in prop::collection::vec(-3.0..3.0f64, 3),
        weights in prop::collection::vec(prop::collection::vec(-2.0..2.0f64, 3), 3),
        extra in 0u32..3,
    ) {
        let current = law(&weights[0]);
        let proposals = [law(&weights[1]), law(&weights[2])];
        let n = f64::from(2 + extra);
        let mut mean = vec![0.0; 3];
        for first in 0..3 {
            for second in 0..3 {
                let chance = proposals[0][first] * proposals[1][second];
                let one = estimator::estimate(&reward, &current, &proposals, &[first, second], n);
                mean.iter_mut().zip(&one).for_each(|(m, a)| *m += chance * a);
            }
        }
        let want: Vec<f64> = (0..3)
            .map(|y| reward[y] - (0..3).map(|z| current[z] * reward[z]).sum::<f64>())
            .collect();
        prop_assert!(distance(&[mean], std::slice::from_ref(&want)) < 1e-13);
        let exact = estimator::expected_estimate(&reward, &current, &proposals, n);
        prop_assert!(distance(&[exact], std::slice::from_ref(&want)) < 1e-13);
        let on = vec![current.clone(); 2];
        let printed = estimator::printed_estimate(&reward, &current, &on, n);
        let shrunk: Vec<f64> = want.iter().map(|a| (1.0 - 2.0 / n) * a).collect();
        prop_assert!(distance(&[printed], &[shrunk]) < 1e-13);
    }

    /// A reward model that has the true rewards, at any level, is calibrated: no exact error, no error
    /// in any bin, and its bins hold all pairs. An exact error is never below a binned one.
    #[test]
    fn calibration_is_what_it_says(problem in any_::any_kind(), table in any_::table(4.0), level in -5.0..5.0f64) {
        let truth: Vec<Vec<f64>> = (problem.prompts().iter())
            .map(|p| p.reward.iter().map(|r| r + level).collect())
            .collect();
        prop_assert!(calibration::error(&problem, &truth).unwrap() < 1e-15);
        let table = any_::fit(&problem, &table);
        let compares = problem.prompts().iter().any(|p| {
            (0..p.arms()).any(|a| (0..a).any(|b| any_::weight(p, a, b) > 0.0))
        });
        prop_assume!(compares);
        for scores in [&truth, &table] {
            let bins = calibration::diagram(&problem, scores, 10).unwrap();
            prop_assert!((bins.iter().map(|b| b.mass).sum::<f64>() - 1.0).abs() < 1e-12);
            for (i, bin) in bins.iter().enumerate().filter(|(_, b)| b.mass > 0.0) {
                let edge = 0.5 + 0.05 * i as f64;
                prop_assert!(bin.confidence > edge - 1e-12 && bin.confidence < edge + 0.05 + 1e-12);
                prop_assert!(scores != &truth || (bin.accuracy - bin.confidence).abs() < 1e-12);
            }
            let exact = calibration::error(&problem, scores).unwrap();
            prop_assert!(calibration::binned_error(&bins) <= exact + 1e-12);
        }
        // The plain definition.
        let (mut sum, mut mass) = (0.0, 0.0);
        for (prompt, a) in problem.prompts().iter().zip(&table) {
            for y in 0..prompt.arms() {
                for z in (0..prompt.arms()).filter(|&z| z != y) {
                    let w = prompt.weight * prompt.law.probability(y, z);
                    mass += w;
                    sum += w * (sigmoid(a[y] - a[z]) - sigmoid(prompt.reward[y] - prompt.reward[z])).abs();
                }
            }
        }
        prop_assert!((calibration::error(&problem, &table).unwrap() - sum / mass).abs() < 1e-12);
    }

    /// Unlike a reward model's, the optimum moves if all scores are moved.
    #[test]
    fn the_level_matters(problem in any_::mild(), margin in 0.5..5.0f64, shift in 0.05..1.0f64) {
        let found = fixed_point(&problem, &Evidence::population(&problem), margin, Form::SelfPairs).unwrap();
        let a = &table_of(&found)[0];
        let prompt = &problem.prompts()[0];
        let at = |shift: f64| {
            let moved: Vec<f64> = a.iter().map(|a| a + shift).collect();
            eq6(prompt, margin, Form::SelfPairs, &moved).0
        };
        prop_assert!(at(shift) > at(0.0) && at(-shift) > at(0.0));
    }

    /// Under uniform laws a better response never has the lower score.
    #[test]
    fn uniform_laws_keep_the_order(problem in any_::full(), margin in 0.05..20.0f64) {
        let even = any_::with_laws(&problem, |_, prompt| {
            let law = vec![1.0 / prompt.arms() as f64; prompt.arms()];
            pistar::bandit::PairLaw::Product { first: law.clone(), second: law }
        });
        for form in [Form::SelfPairs, Form::Distinct] {
            let found = fixed_point(&even, &Evidence::population(&even), margin, form).unwrap();
            for (prompt, a) in even.prompts().iter().zip(table_of(&found)) {
                for i in 0..a.len() {
                    for j in 0..a.len() {
                        let tied = (prompt.reward[i] - prompt.reward[j]).abs() < 1e-9;
                        prop_assert!(tied || (prompt.reward[i] > prompt.reward[j]) == (a[i] > a[j]));
                    }
                }
            }
        }
    }

    /// The penalised reward model is where ranking pulls and penalty balance, of mean zero.
    #[test]
    fn the_ridge_estimate_balances(problem in any_::full(), log in -4.0..1.0f64) {
        let penalty = 10f64.powf(log);
        let found = advantage::ridge_reward_model(&problem, &Evidence::population(&problem), penalty).unwrap();
        for (prompt, r) in problem.prompts().iter().zip(table_of(&found)) {
            prop_assert!(r.iter().sum::<f64>().abs() < 1e-9);
            for y in 0..r.len() {
                let pull: f64 = (0..r.len()).filter(|&z| z != y)
                    .map(|z| any_::weight(prompt, y, z)
                        * (sigmoid(r[y] - r[z]) - sigmoid(prompt.reward[y] - prompt.reward[z])))
                    .sum();
                prop_assert!((pull + penalty * r[y]).abs() < 1e-13);
            }
        }
    }
}

/// The toy's population error at three margins (theory: .0914, .0125, 9e-5).
#[test]
fn the_toys_calibration() {
    let problem = toy();
    let population = Evidence::population(&problem);
    for (margin, want, tolerance) in [(2.5, 0.0914, 5e-5), (5.0, 0.0125, 5e-5), (10.0, 9e-5, 5e-6)]
    {
        let found = fixed_point(&problem, &population, margin, Form::SelfPairs).unwrap();
        let error = calibration::error(&problem, &table_of(&found)).unwrap();
        assert!((error - want).abs() < tolerance, "{margin}: {error}");
    }
    assert!(calibration::error(&problem, &[vec![0.0; 2]]).is_err());
    assert!(calibration::error(&problem, &[]).is_err());
    assert!(calibration::diagram(&problem, &[vec![0.0; 3]], 0).is_err());
}

/// An arm that no pair has stays free; centred, the free arms take up what centres the others, which
/// do not feel the constraint.
#[test]
fn arms_never_compared_are_free() {
    let file = r#"{"beta": 1, "prompts": [{"reward": [1, 0, 3, 2],
                   "behavior": [[0.5, 0.5, 0, 0]]}]}"#;
    let problem = Problem::from_json(file).unwrap();
    let problem = problem.map_prompts(|_, p| p.centre = Some(vec![0.4, 0.3, 0.2, 0.1]));
    let problem = problem.with_margin(2.5).unwrap();
    let population = Evidence::population(&problem);
    let free = fixed_point(&problem, &population, 2.5, Form::SelfPairs).unwrap();
    let a = table_of(&free).remove(0);
    assert_eq!((a[2], a[3], free.unique), (0.0, 0.0, false));
    assert!(
        free.notes[0].contains("scores are free: {2, 3}"),
        "{:?}",
        free.notes
    );
    let centred = fixed_point(&problem, &population, 2.5, Form::Centred).unwrap();
    let c = table_of(&centred).remove(0);
    assert_eq!(a[..2], c[..2]);
    assert!((0.4 * c[0] + 0.3 * c[1] + 0.2 * c[2] + 0.1 * c[3]).abs() < 1e-15);
    // As gradient flow from scores of 0 shares it out.
    let mut t = vec![vec![0.0; 4]];
    for _ in 0..4000 {
        let at = evaluate(
            &problem,
            &population,
            Objective::ADVANTAGE_MODEL_CENTRED,
            &t,
        )
        .unwrap();
        (t[0].iter_mut().zip(&at.gradient[0])).for_each(|(t, g)| *t -= 0.5 * g);
    }
    let mean = 0.4 * t[0][0] + 0.3 * t[0][1] + 0.2 * t[0][2] + 0.1 * t[0][3];
    for (t, c) in t[0].iter().zip(&c) {
        assert!((t - mean - c).abs() < 1e-9, "{t} {mean} {c}");
    }
    // One alone is what the mean leaves it.
    let problem = problem.map_prompts(|_, p| {
        p.law = pistar::bandit::PairLaw::Product {
            first: vec![0.5, 0.3, 0.2, 0.0],
            second: vec![0.5, 0.3, 0.2, 0.0],
        };
    });
    let one = fixed_point(
        &problem,
        &Evidence::population(&problem),
        2.5,
        Form::Centred,
    )
    .unwrap();
    let c = table_of(&one).remove(0);
    assert!(one.unique && (0.4 * c[0] + 0.3 * c[1] + 0.2 * c[2] + 0.1 * c[3]).abs() < 1e-15);
}

/// Eq. 5 by hand: the weighted mean is over what the proposal may draw.
#[test]
fn importance_weights_by_hand() {
    let (reward, current) = ([1.0, -2.0, 4.0], [0.5, 0.3, 0.2]);
    let full = estimator::importance(&reward, &current, &[0.1, 0.1, 0.8]);
    let mean = 0.5 - 0.6 + 0.8;
    assert!(distance(&[full], &[vec![1.0 - mean, -2.0 - mean, 4.0 - mean]]) < 1e-15);
    let missed = estimator::importance(&reward, &current, &[0.5, 0.5, 0.0]);
    let seen = 0.5 - 0.6;
    assert!(distance(&[missed], &[vec![1.0 - seen, -2.0 - seen, 4.0 - seen]]) < 1e-15);
}
