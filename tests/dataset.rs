//! Datasets and files: round trips, the laws that draws follow, and what the parsers say of bad
//! input.

use std::io::Cursor;

use pistar::bandit::{Dataset, Problem, Record};
use proptest::prelude::*;

use super::common::strategies::{self as any_, settings};
use super::common::toy;

const REGRESSIONS: &str = "tests/regressions/dataset.txt";

proptest! {
    #![proptest_config(settings(REGRESSIONS, 32))]

    /// A problem written to JSON is the problem that is read back, excluded arms included.
    #[test]
    fn problems_survive_their_file(problem in any_::any_kind()) {
        let again = Problem::from_json(&problem.to_json()).unwrap();
        prop_assert_eq!(problem.beta(), again.beta());
        for (a, b) in problem.prompts().iter().zip(again.prompts()) {
            prop_assert_eq!(&a.reward, &b.reward);
            prop_assert_eq!((a.kept(), a.given_arms()), (b.kept(), b.given_arms()));
            // Probabilities are normalised again on the way in.
            for (a, b) in a.log_reference.iter().zip(&b.log_reference) {
                prop_assert!((a - b).abs() < 1e-14);
            }
            for y in 0..a.arms() {
                for z in 0..a.arms() {
                    prop_assert!((a.law.probability(y, z) - b.law.probability(y, z)).abs() < 1e-15);
                }
            }
        }
    }

    /// A dataset written is the dataset read back.
    #[test]
    fn datasets_survive_their_file(problem in any_::any_kind(), seed in any::<u64>()) {
        for data in [
            Dataset::pairs(&problem, 20, seed, 0),
            Dataset::preferences(&problem, 20, seed, 0),
            Dataset::singles(&problem, 20, seed, 0),
        ] {
            let mut file = Vec::new();
            data.write(&mut file, &problem).unwrap();
            prop_assert_eq!(&data, &Dataset::read(Cursor::new(file), "data", &problem).unwrap());
        }
    }
}

const DRAWS: usize = 20_000;

/// Pearson's statistic of counts against probabilities, less what chance leaves below it in all
/// but about 1 of 1e6 samples (mean d, sd √2d: five of them and a tail). The seeds are fixed.
fn fits(counts: &[f64], law: &[f64]) {
    let total: f64 = counts.iter().sum();
    let mut statistic = 0.0;
    for (&n, &p) in counts.iter().zip(law) {
        if p == 0.0 {
            assert_eq!(n, 0.0, "an outcome of probability 0 was drawn");
        } else {
            statistic += (n - total * p).powi(2) / (total * p);
        }
    }
    let free = law.iter().filter(|&&p| p > 0.0).count() as f64 - 1.0;
    let most = free + 5.0 * (2.0 * free).sqrt() + 12.0;
    assert!(
        statistic < most,
        "chi-square {statistic} with {free} degrees of freedom"
    );
}

fn two_prompts() -> Problem {
    let file = r#"{"beta": 0.5, "prompts": [
        {"weight": 0.3, "reward": [1.0, 0.0, -1.0], "behavior": [[0.2, 0.3, 0.5], [0.6, 0.4, 0.0]]},
        {"weight": 0.7, "reward": [0.5, 2.0, 9.0], "reference": [0.5, 0.5, 0.0],
         "pairs": [[0.1, 0.6, 0.0], [0.3, 0.0, 0.0], [0.0, 0.0, 0.0]]}]}"#;
    Problem::from_json(file).unwrap()
}

/// Pairs, and who wins them, come as often as ρ, the pair law and Bradley–Terry say.
#[test]
fn drawn_pairs_follow_their_law() {
    let problem = two_prompts();
    let data = Dataset::preferences(&problem, DRAWS, 1, 0);
    let unlabelled = Dataset::pairs(&problem, DRAWS, 1, 0);
    let (mut counts, mut law) = (vec![0.0; 2 * 3 * 3 * 2], vec![0.0; 2 * 3 * 3 * 2]);
    for (record, plain) in data.records().iter().zip(unlabelled.records()) {
        let &Record::Pair {
            prompt,
            first,
            second,
            label: Some(label),
        } = record
        else {
            panic!("a labelled pair")
        };
        let label_free = Record::Pair {
            prompt,
            first,
            second,
            label: None,
        };
        assert_eq!(*plain, label_free, "labels are drawn for the same pairs");
        counts[((prompt * 3 + first as usize) * 3 + second as usize) * 2 + label as usize] += 1.0;
    }
    for (x, prompt) in problem.prompts().iter().enumerate() {
        for y in 0..prompt.arms() {
            for z in 0..prompt.arms() {
                let p = prompt.weight * prompt.law.probability(y, z);
                let wins = 1.0 / (1.0 + (prompt.reward[z] - prompt.reward[y]).exp());
                law[((x * 3 + y) * 3 + z) * 2] = p * (1.0 - wins);
                law[((x * 3 + y) * 3 + z) * 2 + 1] = p * wins;
            }
        }
    }
    fits(&counts, &law);
}

/// Single responses follow the mean of the two laws and carry their rewards.
#[test]
fn drawn_singles_follow_the_mean_law() {
    let problem = two_prompts();
    let mut counts = vec![0.0; 6];
    for record in Dataset::singles(&problem, DRAWS, 2, 0).records() {
        let &Record::Single {
            prompt,
            arm,
            reward,
        } = record
        else {
            panic!("a single response")
        };
        assert_eq!(reward, problem.prompts()[prompt].reward[arm as usize]);
        counts[prompt * 3 + arm as usize] += 1.0;
    }
    // Prompt 0: (μ₁ + μ₂)/2; prompt 1: the marginals (.7, .3) and (.4, .6).
    let law = [0.4, 0.35, 0.25].map(|p| 0.3 * p);
    fits(
        &counts,
        &[law[0], law[1], law[2], 0.7 * 0.55, 0.7 * 0.45, 0.0],
    );
}

/// A ranking of all arms follows Plackett–Luce: the best first with e^R, then among the rest.
#[test]
fn drawn_rankings_follow_plackett_luce() {
    let problem = toy();
    let reward = &problem.prompts()[0].reward;
    let orders = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];
    let mut counts = [0.0; 6];
    for record in Dataset::rankings(&problem, DRAWS, 3, 3, 0)
        .unwrap()
        .records()
    {
        let Record::Ranking { ranking, .. } = record else {
            panic!("a ranking")
        };
        let at = orders
            .iter()
            .position(|order| ranking == order)
            .expect("three distinct arms");
        counts[at] += 1.0;
    }
    let e = |a: u32| reward[a as usize].exp();
    // Worst first, so the best is last.
    let law = orders.map(|[c, b, a]| e(a) / (e(a) + e(b) + e(c)) * e(b) / (e(b) + e(c)));
    fits(&counts, &law);
}

/// Each kind of bad problem or dataset is refused, and the message names the place.
#[test]
fn bad_files_are_refused_by_place() {
    let with = |beta: &str, prompt: &str| format!("{{\"beta\": {beta}, \"prompts\": [{prompt}]}}");
    let law = r#""behavior": [[0.5, 0.5]]"#;
    let good = format!("{{\"reward\": [1, 2], {law}}}");
    let cases = [
        (with("0", &good), "problem: beta"),
        (with("-1", &good), "problem: beta"),
        (with("1", ""), "prompts: it is empty"),
        (
            with(
                "1",
                &format!("{good}, {{\"weight\": 1, \"reward\": [1, 2], {law}}}"),
            ),
            "1 of 2 prompts have a weight",
        ),
        (
            with(
                "1",
                &format!("{{\"weight\": 0.5, \"reward\": [1, 2], {law}}}"),
            ),
            "the probabilities sum to 0.5",
        ),
        (
            with("1", &format!("{{\"reward\": [], {law}}}")),
            "prompts[0].reward",
        ),
        (
            with("1", r#"{"reward": [1, 2]}"#),
            "prompts[0].behavior: it is missing",
        ),
        (
            with("1", r#"{"reward": [1, 2], "behavior": []}"#),
            "there are 0 laws",
        ),
        (
            with(
                "1",
                r#"{"reward": [1, 2], "behavior": [[1, 0], [1, 0], [1, 0]]}"#,
            ),
            "there are 3 laws",
        ),
        (
            with(
                "1",
                &format!("{good}, {{\"reward\": [1, 2], \"behavior\": [[0.5, 0.5], [1]]}}"),
            ),
            "prompts[1].behavior[1]",
        ),
        (
            with("1", r#"{"reward": [1, 2], "behavior": [[0.5, 0.4]]}"#),
            "prompts[0].behavior[0]: the probabilities sum to 0.9",
        ),
        (
            with("1", r#"{"reward": [1, 2], "behavior": [[1.5, -0.5]]}"#),
            "prompts[0].behavior[0][1]: -0.5",
        ),
        (
            with(
                "1",
                &format!("{{\"reward\": [1, 2], \"reference\": [1], {law}}}"),
            ),
            "prompts[0].reference",
        ),
        (
            with(
                "1",
                &format!("{{\"reward\": [1, 2], \"reference\": [1, 0], {law}}}"),
            ),
            "prompts[0].behavior: arm 1 has mass",
        ),
        (
            with("1", r#"{"reward": [1, 2], "pairs": [[1, 0]]}"#),
            "prompts[0].pairs",
        ),
        (
            with("1", r#"{"reward": [1, 2], "pairs": [[1, 0], [1, 0]]}"#),
            "prompts[0].pairs: the probabilities sum to 2",
        ),
        (
            with(
                "1",
                r#"{"reward": [1, 2], "reference": [1, 0], "pairs": [[0.5, 0.5], [0, 0]]}"#,
            ),
            "arm 1 has mass",
        ),
        (
            with(
                "1",
                &format!("{{\"reward\": [1, 2], \"pairs\": [[1, 0], [0, 0]], {law}}}"),
            ),
            "both `behavior` and `pairs`",
        ),
        (
            with(
                "1",
                &format!("{{\"reward\": [1, 2], \"refrence\": [1, 0], {law}}}"),
            ),
            "refrence",
        ),
        (with("\"x\"", &good), "line 1"),
        ("{\"beta\": 1".into(), "ends too early"),
        ("beta = [".into(), "TOML"),
    ];
    for (text, place) in cases {
        let message = Problem::from_json(&text).expect_err(&text).to_string();
        assert!(message.contains(place), "{text}: {message}");
    }
    let problem = two_prompts();
    let lines = [
        ("{", "log:2"),
        (
            r#"{"prompt": 2, "first": 0, "second": 1}"#,
            "log:2: prompt: there is no prompt 2",
        ),
        (
            r#"{"prompt": 0, "first": 0, "second": 3}"#,
            "log:2: second: there is no arm 3",
        ),
        (
            r#"{"prompt": 1, "first": 2, "second": 0}"#,
            "log:2: first: arm 2 has reference probability 0",
        ),
        (
            r#"{"prompt": 0, "first": 0, "second": 1, "label": 1.5}"#,
            "log:2: label",
        ),
        (
            r#"{"prompt": 0, "first": 0}"#,
            "log:2: the fields do not make one example",
        ),
        (r#"{"prompt": 0, "arm": 0}"#, "log:2: the fields"),
        (r#"{"prompt": 0, "ranking": [0, 0]}"#, "log:2: ranking"),
        (r#"{"prompt": 0, "ranking": [0]}"#, "log:2: ranking"),
        (
            r#"{"prompt": 0, "ranking": [0, 7]}"#,
            "log:2: ranking: there is no arm 7",
        ),
        (
            r#"{"prompt": 0, "arm": 0, "reward": 1, "extra": 1}"#,
            "extra",
        ),
    ];
    for (line, place) in lines {
        let text = format!("{{\"prompt\": 0, \"arm\": 0, \"reward\": 1}}\n{line}\n");
        let message = Dataset::read(Cursor::new(text), "log", &problem)
            .expect_err(line)
            .to_string();
        assert!(message.contains(place), "{line}: {message}");
    }
    let message = Dataset::read(Cursor::new("\n"), "log", &problem)
        .unwrap_err()
        .to_string();
    assert!(message.contains("log: it holds no example"), "{message}");
}

/// An error of the whole file names no field, one of a field names it.
#[test]
fn json_errors_name_the_field() {
    let error = |text: &str| Problem::parse(text, "p.json").unwrap_err().to_string();
    let inner =
        error(r#"{"beta": 1, "prompts": [{"reward": [1, "x"], "behavior": [[0.5, 0.5]]}]}"#);
    assert!(
        inner.starts_with("p.json: prompts[0].reward[1]: invalid type"),
        "{inner}"
    );
    assert!(inner.contains("expected a number"), "{inner}");
    let outer = error(r#"{"beta": 1}"#);
    assert!(
        outer.starts_with("p.json: missing field `prompts`"),
        "{outer}"
    );
    let cut = error(r#"{"beta": 1, "prompts": [{"reward": [1"#);
    assert!(cut.contains("the JSON ends too early"), "{cut}");
}
