//! DPO and the Bradley–Terry reward model: π* on the population, the Bradley–Terry estimate on a
//! dataset, and what separable labels do.

use std::io::Cursor;

use pistar::bandit::population::policy_of;
use pistar::bandit::{Dataset, Evidence, Policy, Problem, Record};
use pistar::loss::Objective;
use pistar::solve::{FixedPoint, Rest, fixed_point};
use proptest::prelude::*;

use super::common::feed;
use super::common::numeric::{flow, minimiser};
use super::common::strategies::{self as any_, connected, settings};
use super::common::{apart, distance, gradient_size};

const REGRESSIONS: &str = "tests/regressions/preference.txt";

/// Scores over β reach some hundreds, and log-probabilities carry their rounding.
const EXACT: f64 = 1e-11;

fn solve(objective: Objective, problem: &Problem, evidence: &Evidence) -> FixedPoint {
    fixed_point(objective, problem, evidence).unwrap()
}

/// The scores whose optimal policy this is.
fn scores(problem: &Problem, policy: &Policy) -> Vec<Vec<f64>> {
    (policy.log().iter().zip(problem.prompts()))
        .map(|(log, prompt)| {
            let u = log.iter().zip(&prompt.log_reference).map(|(l, r)| l - r);
            u.map(|u| problem.beta() * u).collect()
        })
        .collect()
}

/// The estimate is exact to rounding. (Its Newton steps must not end when the loss, rather than
/// the gradient, stops changing: that is half the digits.)
#[test]
fn the_estimate_is_exact_to_rounding() {
    let file = r#"{"beta": 1, "prompts": [{"reward": [0, 0, 0, 0, 0],
                   "behavior": [[0.2, 0.2, 0.2, 0.2, 0.2]]}]}"#;
    let problem = Problem::from_json(file).unwrap();
    let wins = [
        vec![0, 2, 1, 1, 0],
        vec![2, 0, 4, 3, 0],
        vec![2, 1, 0, 4, 0],
        vec![0, 0, 0, 0, 3],
        vec![0, 0, 0, 3, 0],
    ];
    let evidence = Evidence::from_dataset(&problem, &any_::labelled(&problem, &wins));
    let residual = solve(Objective::DPO, &problem, &evidence).residual.unwrap();
    assert!(residual < 1e-15, "{residual}");
}

/// A long gradient flow from the reference approaches what the solver says of separable labels:
/// 0 and 1 beat each other 3 : 1 and both always beat 2.
#[test]
fn separable_labels_drive_the_losers_out() {
    let file = r#"{"beta": 0.5, "prompts": [{"reward": [0, 0, 0], "reference": [0.2, 0.3, 0.5],
                   "behavior": [[0.3, 0.3, 0.4]]}]}"#;
    let problem = Problem::from_json(file).unwrap();
    let wins = [vec![0, 3, 2], vec![1, 0, 2], vec![0, 0, 0]];
    let evidence = Evidence::from_dataset(&problem, &any_::labelled(&problem, &wins));
    let found = solve(Objective::DPO, &problem, &evidence);
    assert!(found.unique && found.rest == Rest::Boundary);
    assert!(found.residual.unwrap() < 1e-14, "{found:?}");
    assert!(
        found.notes[0].contains("no other arm ever beats one of {0, 1}"),
        "{:?}",
        found.notes
    );
    let limit = found.policy.unwrap();
    // Odds .2 : .3 of the reference, times 3^{1/β} = 9.
    let odds = 9.0 * 0.2 / 0.3;
    let want = [odds / (1.0 + odds), 1.0 / (1.0 + odds), 0.0];
    assert!(distance(&limit.probabilities(), &[want.to_vec()]) < 1e-12);
    // The margin grows like ln t, so the loser's pull on the others fades like 1/t: 1e-4 here.
    let start = problem.reference();
    let end = flow(
        &problem,
        &evidence,
        Objective::DPO,
        start.log(),
        (2.0, 0.0, 5_000),
    );
    let off = apart(&Policy::softmax(&end), &limit);
    assert!(off < 5e-4, "{off}");
}

proptest! {
    #![proptest_config(settings(REGRESSIONS, 64))]

    /// Population: no gradient at the answer, which is π* iff every graph is connected.
    #[test]
    fn the_population_optimum(problem in any_::any_kind()) {
        let population = Evidence::population(&problem);
        let found = solve(Objective::DPO, &problem, &population);
        let policy = found.policy.unwrap();
        let size = gradient_size(&problem, &population, Objective::DPO, policy.log());
        prop_assert!(size < EXACT, "{size}");
        prop_assert_eq!(found.unique, connected(&problem));
        if found.unique {
            prop_assert!(apart(&policy, &problem.optimum().policy) < EXACT);
        }
        let rewards: Vec<Vec<f64>> = problem.prompts().iter().map(|p| p.reward.clone()).collect();
        let size = gradient_size(&problem, &population, Objective::REWARD_MODEL, &rewards);
        prop_assert!(size < 1e-14, "the true rewards are a reward model's optimum: {size}");
        let trained = policy_of(&problem, &feed(Objective::REWARD_MODEL, &problem), &rewards);
        prop_assert!(apart(&trained, &problem.optimum().policy) < EXACT);
    }

    /// The reward model's optimal policy is DPO's, on the population and on a dataset.
    #[test]
    fn a_reward_model_is_dpo(problem in any_::mild(), clashes in any_::clashes(3)) {
        let wins = any_::returned(&clashes, problem.prompts()[0].arms());
        let data = Evidence::from_dataset(&problem, &any_::labelled(&problem, &wins));
        for evidence in [Evidence::population(&problem), data] {
            let dpo = solve(Objective::DPO, &problem, &evidence).policy.unwrap();
            let model = solve(Objective::REWARD_MODEL, &problem, &evidence).policy.unwrap();
            prop_assert!(apart(&dpo, &model) < EXACT);
            let table = scores(&problem, &model);
            let size = gradient_size(&problem, &evidence, Objective::REWARD_MODEL, &table);
            prop_assert!(size < 1e-10, "{size}");
        }
    }

    /// A dataset where every arm beats its way to every other: stationary, unique, and where a
    /// minimiser that knows nothing of the algebra ends (to half the digits).
    #[test]
    fn the_estimate_is_the_minimiser(problem in any_::mild(), clashes in any_::clashes(3)) {
        let wins = any_::returned(&clashes, problem.prompts()[0].arms());
        let evidence = Evidence::from_dataset(&problem, &any_::labelled(&problem, &wins));
        let found = solve(Objective::DPO, &problem, &evidence);
        prop_assert!(found.unique);
        let policy = found.policy.unwrap();
        let size = gradient_size(&problem, &evidence, Objective::DPO, policy.log());
        prop_assert!(size < 1e-10, "{size}");
        // Over scores, where the curvature does not depend on β.
        let start = [vec![0.0; problem.prompts()[0].arms()]];
        let table = minimiser(&problem, &evidence, Objective::REWARD_MODEL, &start);
        let want = scores(&problem, &policy);
        for (a, b) in table[0].iter().zip(&want[0]) {
            prop_assert!(((a - table[0][0]) - (b - want[0][0])).abs() < 1e-5);
        }
    }

    /// Where some arms are never beaten by the rest, the rest ends at exactly 0, and the others
    /// stand as in their own comparisons.
    #[test]
    fn the_dominant_arms_share_all_mass(problem in any_::mild(), clashes in any_::clashes(3)) {
        let k = problem.prompts()[0].arms();
        let top = k.div_ceil(2);
        let wins = any_::returned(&clashes, k);
        let own: Vec<Vec<u32>> = (0..k)
            .map(|a| (0..k).map(|b| if a < top && b < top { wins[a][b] } else { 0 }).collect())
            .collect();
        // The losers' own comparisons say nothing, as long as they never beat the top.
        let all: Vec<Vec<u32>> = (0..k)
            .map(|a| (0..k).map(|b| if a < top || b >= top { wins[a][b] } else { 0 }).collect())
            .collect();
        let evidence = Evidence::from_dataset(&problem, &any_::labelled(&problem, &all));
        let found = solve(Objective::DPO, &problem, &evidence);
        let limit = found.policy.unwrap();
        prop_assert_eq!(found.rest, Rest::Boundary);
        prop_assert!(limit.probabilities()[0][top..].iter().all(|&p| p == 0.0));
        prop_assert!(found.regret.unwrap().is_finite());
        if top > 1 {
            let own = Evidence::from_dataset(&problem, &any_::labelled(&problem, &own));
            let alone = solve(Objective::DPO, &problem, &own).policy.unwrap();
            for a in 1..top {
                let gap = |p: &Policy| p.log()[0][a] - p.log()[0][0];
                prop_assert!((gap(&limit) - gap(&alone)).abs() < 1e-9);
            }
        }
    }

    /// Which response is written first says nothing: swap the pair and flip its label.
    #[test]
    fn order_in_a_pair_is_immaterial(problem in any_::full(), seed in any::<u64>()) {
        let data = Dataset::preferences(&problem, 40, seed, 0);
        let mut swapped = String::new();
        for record in data.records() {
            let Record::Pair { prompt, first, second, label: Some(label) } = record else {
                panic!("a labelled pair: {record:?}");
            };
            let flipped = 1.0 - label;
            swapped += &format!(
                "{{\"prompt\": {prompt}, \"first\": {second}, \"second\": {first}, \"label\": {flipped}}}\n"
            );
        }
        let swapped = Dataset::read(Cursor::new(swapped), "swapped", &problem).unwrap();
        same_answers(&problem, &data, &swapped)?;
    }

    /// Examples are weights: a dataset twice over is the dataset.
    #[test]
    fn duplicates_are_weights(problem in any_::full(), seed in any::<u64>()) {
        let data = Dataset::preferences(&problem, 40, seed, 0);
        let mut once = Vec::new();
        data.write(&mut once, &problem).unwrap();
        let twice = Dataset::read(Cursor::new([once.clone(), once].concat()), "twice", &problem).unwrap();
        prop_assert_eq!(twice.records().len(), 80);
        same_answers(&problem, &data, &twice)?;
    }

    /// A label of ¾ is three wins and a loss.
    #[test]
    fn a_soft_label_is_a_share_of_wins(problem in any_::mild(), n in 1..4usize) {
        let k = problem.prompts()[0].arms();
        let (mut soft, mut hard) = (String::new(), String::new());
        for a in 1..k {
            let pair = |label: &str| {
                format!("{{\"prompt\": 0, \"first\": {a}, \"second\": {}, \"label\": {label}}}\n", a - 1)
            };
            soft += &pair("0.75").repeat(4 * n);
            hard += &(pair("true").repeat(3 * n) + &pair("false").repeat(n));
        }
        let [soft, hard] =
            [soft, hard].map(|text| Dataset::read(Cursor::new(text), "labels", &problem).unwrap());
        same_answers(&problem, &soft, &hard)?;
    }
}

/// Every objective on labelled pairs says the same of both datasets.
fn same_answers(problem: &Problem, a: &Dataset, b: &Dataset) -> Result<(), TestCaseError> {
    for objective in [
        Objective::DPO,
        Objective::REWARD_MODEL,
        Objective::IPO,
        Objective::SLIC,
    ] {
        let [a, b] =
            [a, b].map(|data| solve(objective, problem, &Evidence::from_dataset(problem, data)));
        prop_assert_eq!(a.unique, b.unique, "{}", objective.name());
        prop_assert_eq!(&a.notes, &b.notes);
        match (a.policy, b.policy) {
            (Some(a), Some(b)) => {
                let off = apart(&a, &b);
                prop_assert!(off < 1e-9, "{}: {off}", objective.name());
            }
            (a, b) => prop_assert_eq!(a.is_none(), b.is_none()),
        }
    }
    Ok(())
}

/// One component whose labels are separable takes all mass, whatever else was never compared.
#[test]
fn an_unseen_arm_does_not_hide_the_limit() {
    let problem = super::common::toy();
    let lines = "{\"prompt\": 0, \"first\": 0, \"second\": 1, \"label\": true}\n";
    let data = Dataset::read(std::io::Cursor::new(lines), "log", &problem).unwrap();
    let found = fixed_point(
        Objective::DPO,
        &problem,
        &Evidence::from_dataset(&problem, &data),
    )
    .unwrap();
    assert_eq!(found.policy.unwrap().probabilities()[0], [1.0, 0.0, 0.0]);
    assert!(
        found.unique && found.notes[0].contains("{0}"),
        "{:?}",
        found.notes
    );
    // Two such components race each other.
    let problem = Problem::from_json(
        r#"{"beta": 1, "prompts": [{"reward": [0, 0, 0, 0], "behavior": [[0.25, 0.25, 0.25, 0.25]]}]}"#,
    )
    .unwrap();
    let lines = "{\"prompt\": 0, \"first\": 0, \"second\": 1, \"label\": true}\n\
                 {\"prompt\": 0, \"first\": 2, \"second\": 3, \"label\": true}\n";
    let data = Dataset::read(std::io::Cursor::new(lines), "log", &problem).unwrap();
    let found = fixed_point(
        Objective::DPO,
        &problem,
        &Evidence::from_dataset(&problem, &data),
    )
    .unwrap();
    // Each ends at half of ln t, so the reference's odds stay.
    assert_eq!(
        found.policy.unwrap().probabilities()[0],
        [0.5, 0.0, 0.5, 0.0]
    );
    assert!(
        !found.unique && found.rest == Rest::Boundary,
        "{:?}",
        found.notes
    );
}

/// Scores under gradient flow of the sample loss from zero, `ṡ = −∇ Σ wins·softplus(s_loser −
/// s_winner)`, at t = e^`end`: Runge and Kutta's steps in ln t.
fn scores_late(wins: &[Vec<u32>], arms: usize, end: f64, h: f64) -> Vec<f64> {
    let force = |tau: f64, s: &[f64]| -> Vec<f64> {
        let mut f = vec![0.0; arms];
        for a in 0..arms {
            for b in 0..arms {
                let pull = f64::from(wins[a][b]) * (tau - (1.0 + (s[a] - s[b]).exp()).ln()).exp();
                f[a] += pull;
                f[b] -= pull;
            }
        }
        f
    };
    let mut s = vec![0.0; arms];
    let mut tau = -16.0;
    while tau < end {
        let add =
            |by: f64, k: &[f64]| -> Vec<f64> { s.iter().zip(k).map(|(s, k)| s + by * k).collect() };
        let k1 = force(tau, &s);
        let k2 = force(tau + h / 2.0, &add(h / 2.0, &k1));
        let k3 = force(tau + h / 2.0, &add(h / 2.0, &k2));
        let k4 = force(tau + h, &add(h, &k3));
        s = (0..arms)
            .map(|a| s[a] + h / 6.0 * (k1[a] + 2.0 * k2[a] + 2.0 * k3[a] + k4[a]))
            .collect();
        tau += h;
    }
    s
}

/// Two arms that nobody beats and that each beat a third keep the odds of their wins.
#[test]
fn undominated_arms_keep_the_odds_of_their_wins() {
    let file = r#"{"beta": 0.5, "prompts": [{"reward": [0, 0, 0], "reference": [0.2, 0.5, 0.3],
                   "behavior": [[0.3, 0.3, 0.4]]}]}"#;
    let problem = Problem::from_json(file).unwrap();
    let wins = [vec![0, 0, 5], vec![0, 0, 2], vec![0, 0, 0]];
    let evidence = Evidence::from_dataset(&problem, &any_::labelled(&problem, &wins));
    let found = solve(Objective::DPO, &problem, &evidence);
    assert!(found.unique && found.rest == Rest::Boundary, "{found:?}");
    let policy = found.policy.unwrap();
    let odds = policy.log()[0][0] - policy.log()[0][1];
    let want = (0.2f64 / 0.5).ln() + (5.0f64 / 2.0).ln() / 0.5;
    assert!((odds - want).abs() < 1e-12, "{odds} {want}");
    assert_eq!(policy.log()[0][2], f64::NEG_INFINITY);
    assert!(
        found.notes[0].contains("nothing compares {0} {1}"),
        "{:?}",
        found.notes
    );
    assert!(!found.notes[0].contains("the start moves them"));
}

/// A group of arms that beat each other races as one: its size counts, and inside it its own estimate
/// stands.
#[test]
fn a_group_races_as_one() {
    let file = r#"{"beta": 1, "prompts": [{"reward": [0, 0, 0, 0], "behavior": [[0.25, 0.25, 0.25, 0.25]]}]}"#;
    let problem = Problem::from_json(file).unwrap();
    let wins = [
        vec![0, 3, 0, 2],
        vec![1, 0, 0, 1],
        vec![0, 0, 0, 2],
        vec![0; 4],
    ];
    let evidence = Evidence::from_dataset(&problem, &any_::labelled(&problem, &wins));
    let found = solve(Objective::DPO, &problem, &evidence);
    let row = found.policy.unwrap().log()[0].clone();
    assert!((row[0] - row[1] - 3f64.ln()).abs() < 1e-12, "{row:?}");
    // ŵ = ¼, ¼ and −¾; the pulls are 2e^{−s_0} + e^{−s_1} = ½ of the group and 2e^{−s_2} = ¼.
    let inner = 3f64.ln() / 2.0;
    let group = ((2.0 * (-inner).exp() + inner.exp()) / 0.5).ln();
    let want = inner + group - 8f64.ln();
    assert!((row[0] - row[2] - want).abs() < 1e-12, "{row:?} {want}");
    // The flow is on its way there, as t^{−1/4}.
    let off = |end: f64| {
        let late = scores_late(&wins, 4, end, 4e-4);
        (late[0] - late[2] - want).abs()
    };
    assert!(off(8.0) < 0.5 * off(4.0), "{} {}", off(4.0), off(8.0));
    assert!(found.unique && row[3] == f64::NEG_INFINITY, "{row:?}");
}

/// Where a margin bears nothing of the balance the others drift apart for ever: no limit is shown.
#[test]
fn margins_that_drift_are_no_limit() {
    let file = r#"{"beta": 1, "prompts": [{"reward": [0, 0, 0, 0], "behavior": [[0.25, 0.25, 0.25, 0.25]]}]}"#;
    let problem = Problem::from_json(file).unwrap();
    // 0 beats 2 and 3, 1 beats 3.
    let wins = [vec![0, 0, 1, 1], vec![0, 0, 0, 1], vec![0; 4], vec![0; 4]];
    let evidence = Evidence::from_dataset(&problem, &any_::labelled(&problem, &wins));
    let found = solve(Objective::DPO, &problem, &evidence);
    assert!(
        found.policy.is_none() && found.rest == Rest::None,
        "{found:?}"
    );
    assert!(found.notes[0].contains("ln ln t"), "{:?}", found.notes);
    let gap = |end: f64| {
        let s = scores_late(&wins, 4, end, 0.02);
        s[0] - s[1]
    };
    assert!(
        gap(400.0) > gap(100.0) + 0.5,
        "{} {}",
        gap(100.0),
        gap(400.0)
    );
}

proptest! {
    #![proptest_config(settings("tests/regressions/runoff.txt", 24))]

    /// Labels without a cycle: where the flow of the sample loss is going at t = e^200.
    #[test]
    fn runoffs_end_where_the_flow_does(clashes in any_::clashes(3), arms in 3usize..6, beta in 0.5..2.0f64) {
        let reference: Vec<f64> = (0..arms).map(|a| (a + 1) as f64 * 2.0 / (arms * (arms + 1)) as f64).collect();
        let law = vec![1.0 / arms as f64; arms];
        let file = serde_json::json!({"beta": beta, "prompts": [{"reward": vec![0.0; arms],
            "reference": reference, "behavior": [law]}]});
        let problem = Problem::from_json(&file.to_string()).unwrap();
        let wins: Vec<Vec<u32>> = (0..arms)
            .map(|a| (0..arms).map(|b| if b > a { clashes[a][b] } else { 0 }).collect())
            .collect();
        prop_assume!(wins.iter().flatten().any(|&w| w > 0));
        let evidence = Evidence::from_dataset(&problem, &any_::labelled(&problem, &wins));
        let found = solve(Objective::DPO, &problem, &evidence);
        let [early, late] = [150.0, 200.0].map(|end| scores_late(&wins, arms, end, 0.02));
        let speed: Vec<f64> = early.iter().zip(&late).map(|(a, b)| (b - a) / 50.0).collect();
        let fastest = speed.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let tops: Vec<usize> = (0..arms).filter(|&a| speed[a] > fastest - 1e-3).collect();
        let Some(policy) = found.policy else {
            return Ok(());
        };
        let row = &policy.log()[0];
        for a in 0..arms {
            prop_assert_eq!(row[a] > f64::NEG_INFINITY, tops.contains(&a), "{:?} {:?}", speed, row);
        }
        for &a in &tops {
            let odds = |x: usize| row[x] - reference[x].ln() - late[x] / beta;
            prop_assert!((odds(a) - odds(tops[0])).abs() < 1e-2 / beta, "{:?} {:?} {:?}", late, row, found.notes);
        }
    }
}

/// Comparisons among the losers say nothing about where the winners rest.
#[test]
fn losers_among_themselves_do_not_count() {
    let file = r#"{"beta": 0.5, "prompts": [{"reward": [0, 0, 0, 0],
                   "behavior": [[0.25, 0.25, 0.25, 0.25]]}]}"#;
    let problem = Problem::from_json(file).unwrap();
    let wins = [
        vec![0, 3, 2, 1],
        vec![1, 0, 0, 1],
        vec![0, 0, 0, 5],
        vec![0, 0, 2, 0],
    ];
    let evidence = Evidence::from_dataset(&problem, &any_::labelled(&problem, &wins));
    let found = solve(Objective::DPO, &problem, &evidence);
    assert!(found.residual.unwrap() < 1e-14, "{found:?}");
    let policy = found.policy.unwrap();
    // Of the winners, three to one: a gap of ln 3 / β.
    let gap = policy.log()[0][0] - policy.log()[0][1];
    assert!((gap - 3f64.ln() / 0.5).abs() < 1e-12, "{gap}");
    assert_eq!(policy.probabilities()[0][2..], [0.0, 0.0]);
}
