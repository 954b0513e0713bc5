//! What a dataset comes to, number by number, and that every expected update derived on paper is
//! the gradient of the loss, on any evidence.

use std::io::Cursor;

use pistar::bandit::population::evaluate;
use pistar::bandit::{Comparisons, Dataset, Edge, Evidence, Problem, PromptEvidence, Threshold};
use pistar::loss::{InputKind, Objective};
use pistar::solve::update;
use proptest::prelude::*;

use super::common::distance;
use super::common::feed;
use super::common::strategies::{any_kind, fit, settings, table};

fn problem() -> Problem {
    Problem::from_json(
        r#"{"beta": 1.0, "prompts": [
            {"weight": 0.5, "reward": [1.0, 2.0, 3.0, 9.0], "reference": [0.2, 0.3, 0.5, 0.0],
             "behavior": [[0.2, 0.3, 0.5, 0.0]]},
            {"weight": 0.25, "reward": [0.0, 0.5], "behavior": [[0.5, 0.5]]},
            {"weight": 0.25, "reward": [0.0, 0.5], "behavior": [[0.5, 0.5]]}]}"#,
    )
    .unwrap()
}

fn read(lines: &str) -> Evidence {
    let problem = problem();
    Evidence::from_dataset(
        &problem,
        &Dataset::read(Cursor::new(lines), "log", &problem).unwrap(),
    )
}

/// What objectives of a kind see of a prompt.
fn share(evidence: &Evidence, kind: InputKind, prompt: usize) -> PromptEvidence {
    evidence.of(kind).unwrap().prompts[prompt].clone()
}

fn edges(evidence: &Evidence, prompt: usize) -> (Vec<Edge>, bool) {
    match &share(evidence, InputKind::LabelledPairs, prompt).comparisons {
        Some(Comparisons::Listed {
            edges,
            bradley_terry,
        }) => (edges.clone(), *bradley_terry),
        other => panic!("{other:?}"),
    }
}

fn close(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-15, "{a} {b}");
}

/// Pairs count once each, in either order; an unlabelled one is split by Bradley–Terry.
#[test]
fn pairs_are_counted() {
    let evidence = read(
        "{\"prompt\": 0, \"first\": 2, \"second\": 0, \"label\": true}\n\
         {\"prompt\": 0, \"first\": 0, \"second\": 2, \"label\": true}\n\
         {\"prompt\": 0, \"first\": 0, \"second\": 2, \"label\": 0.25}\n\
         {\"prompt\": 0, \"first\": 1, \"second\": 1}\n\
         {\"prompt\": 1, \"first\": 1, \"second\": 0}\n",
    );
    let (found, bradley_terry) = edges(&evidence, 0);
    assert!(!bradley_terry);
    assert_eq!(
        found.iter().map(|e| (e.a, e.b)).collect::<Vec<_>>(),
        [(0, 2), (1, 1)]
    );
    close(found[0].wins, (1.0 + 0.25) / 4.0);
    close(found[0].losses, (1.0 + 0.75) / 4.0);
    close(found[0].weight(), 0.75);
    close(found[1].weight(), 0.25);
    for kind in [
        InputKind::LabelledPairs,
        InputKind::Groups,
        InputKind::Singles,
    ] {
        close(share(&evidence, kind, 0).mass, 4.0 / 5.0);
    }
    // Of 8 responses 3 show arm 0, 2 arm 1 and 3 arm 2; the mass is 2.
    let single = share(&evidence, InputKind::Singles, 0);
    assert_eq!(single.responses, [0.75, 0.5, 0.75]);
    assert_eq!(single.mean_law(), [0.375, 0.25, 0.375]);
    assert_eq!(single.reward, [1.0, 2.0, 3.0]);
    let (found, bradley_terry) = edges(&evidence, 1);
    assert!(bradley_terry);
    close(found[0].losses, 1.0 / (1.0 + (-0.5f64).exp()));
    // A prompt that was never logged has no mass and no comparisons.
    let nothing = share(&evidence, InputKind::LabelledPairs, 2);
    assert_eq!(nothing.mass, 0.0);
    assert!(nothing.comparisons.is_none());
    assert_eq!(
        share(&evidence, InputKind::Singles, 2).responses,
        [0.0, 0.0]
    );
}

/// Single responses carry their rewards, whose mean is what is seen of an arm.
#[test]
fn single_responses_are_averaged() {
    let evidence = read(
        "{\"prompt\": 0, \"arm\": 0, \"reward\": 5.0}\n\
         {\"prompt\": 0, \"arm\": 0, \"reward\": 2.0}\n\
         {\"prompt\": 0, \"arm\": 0, \"reward\": 2.0}\n\
         {\"prompt\": 0, \"arm\": 2, \"reward\": -1.0}\n",
    );
    let single = share(&evidence, InputKind::Singles, 0);
    assert_eq!(single.reward, [3.0, 2.0, -1.0]);
    assert_eq!(single.responses, [1.5, 0.0, 0.5]);
    assert_eq!(single.mass, 1.0);
    // Each reward of an arm once, 0 and −0 being one.
    assert_eq!(
        single.shown(),
        [(0, 2.0, 0.5), (0, 5.0, 0.25), (2, -1.0, 0.25)]
    );
    let zeros = read(
        "{\"prompt\": 0, \"arm\": 0, \"reward\": 0.0}\n{\"prompt\": 0, \"arm\": 0, \"reward\": -0.0}\n",
    );
    assert_eq!(
        share(&zeros, InputKind::Singles, 0).shown(),
        [(0, 0.0, 1.0)]
    );
    // Each is rated by its own reward: above 2.4 is one of the three of arm 0.
    assert_eq!(
        single.pulls(Threshold::given(2.4)),
        [0.25 - 0.5, 0.0, -0.25]
    );
    for kind in [
        InputKind::ScoredPairs,
        InputKind::LabelledPairs,
        InputKind::Groups,
        InputKind::Lists,
    ] {
        let error = evidence.of(kind).unwrap_err().to_string();
        assert!(error.contains("it has no example of"), "{error}");
    }
}

/// A ranking of three counts as its three pairs, the later arm winning.
#[test]
fn rankings_count_as_their_pairs() {
    let evidence = read("{\"prompt\": 0, \"ranking\": [1, 2, 0]}\n");
    let (found, bradley_terry) = edges(&evidence, 0);
    assert!(!bradley_terry);
    let wins: Vec<_> = found.iter().map(|e| (e.a, e.b, e.wins, e.losses)).collect();
    let third = 1.0 / 3.0;
    assert_eq!(
        wins,
        [(0, 1, third, 0.0), (0, 2, third, 0.0), (1, 2, 0.0, third)]
    );
    let single = share(&evidence, InputKind::Rated, 0);
    assert!(
        single
            .responses
            .iter()
            .all(|m| (m - 2.0 / 3.0).abs() < 1e-15)
    );
    assert_eq!(single.mass, 1.0);
    let list = share(&evidence, InputKind::Lists, 0);
    assert_eq!((list.lists, list.mass), (vec![(vec![1, 2, 0], 1.0)], 1.0));
}

#[test]
fn logits_must_fit_the_problem() {
    let problem = problem();
    let read = |text: &str| {
        problem
            .parse_logits(text, "logits.json")
            .map_err(|e| e.to_string())
    };
    // The number of the excluded arm is dropped.
    let good = read(r#"{"logits": [[1, 2, 3, 4], [5, 6], [7, 8]]}"#).unwrap();
    assert_eq!(good, [vec![1.0, 2.0, 3.0], vec![5.0, 6.0], vec![7.0, 8.0]]);
    let few = read(r#"{"logits": [[1, 2, 3, 4], [5, 6]]}"#).unwrap_err();
    assert!(
        few.contains("logits.json: logits: there are 2 lists and the problem has 3"),
        "{few}"
    );
    let short = read(r#"{"logits": [[1, 2, 3, 4], [5], [7, 8]]}"#).unwrap_err();
    assert!(
        short.contains("logits[1]: it has 1 numbers and the prompt 2 arms"),
        "{short}"
    );
}

/// The update in closed form is the gradient of the loss, wherever it is evaluated.
fn updates_agree(problem: &Problem, evidence: &Evidence, logits: &[Vec<f64>]) {
    for objective in Objective::ALL {
        // Data of single responses has no pairs, and so on.
        if evidence.of(objective.spec().inputs).is_err() {
            continue;
        }
        let got = evaluate(problem, evidence, objective, logits).unwrap();
        let held = got.value_at.as_deref();
        let expected = update::expected(objective, problem, evidence, logits, held).unwrap();
        let derived = expected.table;
        if let Some(of_value) = got.value_gradient {
            let scale = 1.0 + of_value.iter().fold(0.0, |m: f64, g| m.max(g.abs()));
            let apart = distance(&[of_value], &[expected.held]);
            assert!(apart < 1e-12 * scale, "{objective:?}");
        }
        let scale = 1.0
            + derived
                .iter()
                .flatten()
                .fold(0.0, |m: f64, g| m.max(g.abs()));
        assert!(
            distance(&got.gradient, &derived) < 1e-12 * scale,
            "{objective:?}"
        );
    }
}

proptest! {
    #![proptest_config(settings("tests/regressions/evidence.txt", 48))]

    #[test]
    fn updates_are_the_gradients_of_the_losses(problem in any_kind(), logits in table(3.0), seed in 0u64..1000) {
        let logits = fit(&problem, &logits);
        updates_agree(&problem, &Evidence::population(&problem), &logits);
        for data in [
            Dataset::preferences(&problem, 12, seed, 0),
            Dataset::pairs(&problem, 12, seed, 0),
            Dataset::singles(&problem, 12, seed, 0),
        ] {
            updates_agree(&problem, &Evidence::from_dataset(&problem, &data), &logits);
        }
        // A law of a single arm has no rankings.
        if let Ok(data) = Dataset::rankings(&problem, 6, 3, seed, 0) {
            updates_agree(&problem, &Evidence::from_dataset(&problem, &data), &logits);
        }
    }
}

#[test]
fn tables_of_another_shape_are_refused() {
    let problem = problem();
    let population = Evidence::population(&problem);
    let ask = |evidence: &Evidence, logits: &[Vec<f64>]| {
        evaluate(&problem, evidence, Objective::COPG, logits)
            .unwrap_err()
            .to_string()
    };
    let rows = ask(&population, &[vec![0.0; 3]]);
    assert!(rows.starts_with("logits: it has 1 rows; give 3"), "{rows}");
    let long = ask(&population, &[vec![0.0; 3], vec![0.0; 3], vec![0.0; 2]]);
    assert!(
        long.starts_with("logits[1]: it has 3 numbers and the prompt 2 arms"),
        "{long}"
    );
    let one = Evidence::population(&super::common::toy());
    let shares = ask(&one, &[vec![0.0; 3], vec![0.0; 2], vec![0.0; 2]]);
    assert!(shares.starts_with("evidence: it has 1 rows"), "{shares}");
}

/// Visiting all pairs stops at its cap, not before and not for listed pairs.
#[test]
fn pairs_are_visited_up_to_the_cap() {
    use pistar::bandit::population::{PAIR_CAP, evaluate_with};

    use pistar::bandit::{Shape, random_problem};
    use pistar::loss::Batch;
    let reached = |arms: usize, evidence: &dyn Fn(&Problem) -> Evidence, objective| -> String {
        let shape = Shape {
            prompts: 1,
            arms,
            beta: 1.0,
            reward_scale: 1.0,
        };
        let problem = random_problem(shape, 0).unwrap();
        let evidence = evidence(&problem);
        // The engine refuses its first batch, so nothing is really visited.
        let refuse = |batch: &Batch| {
            assert!(!batch.is_empty() && batch.len() <= 4096);
            Err(pistar::Error::invalid("engine", "reached", "stop"))
        };
        let logits = [vec![0.0; arms]];
        evaluate_with(
            &problem,
            &evidence,
            &feed(objective, &problem),
            &logits,
            refuse,
        )
        .unwrap_err()
        .to_string()
    };
    let population = Evidence::population;
    let few = |problem: &Problem| {
        Evidence::from_dataset(problem, &Dataset::preferences(problem, 9, 0, 0))
    };
    assert!(Batch::default().is_empty());
    for objective in [Objective::DPO, Objective::COPG, Objective::RLOO] {
        assert!(reached(PAIR_CAP, &population, objective).starts_with("engine: reached"));
        let refused = reached(PAIR_CAP + 1, &population, objective);
        assert!(
            refused.contains("limited to 20000 arms and prompt 0 has 20001"),
            "{refused}"
        );
    }
    assert!(reached(PAIR_CAP + 1, &few, Objective::DPO).starts_with("engine: reached"));
    assert!(reached(PAIR_CAP + 1, &few, Objective::RLOO).starts_with("engine: reached"));
    assert!(reached(PAIR_CAP + 1, &population, Objective::PG_ZERO).starts_with("engine: reached"));
}

#[test]
fn random_problems_refuse_nonsense() {
    use pistar::bandit::{Shape, random_problem};
    let good = Shape {
        prompts: 2,
        arms: 3,
        beta: 1.0,
        reward_scale: 1.0,
    };
    assert_eq!(random_problem(good, 1).unwrap().prompts().len(), 2);
    for bad in [
        Shape { prompts: 0, ..good },
        Shape { arms: 0, ..good },
        Shape {
            arms: usize::MAX,
            ..good
        },
        Shape { beta: 0.0, ..good },
        Shape {
            reward_scale: 0.0,
            ..good
        },
        Shape {
            reward_scale: -1.0,
            ..good
        },
        Shape {
            reward_scale: f64::INFINITY,
            ..good
        },
        Shape {
            reward_scale: f64::NAN,
            ..good
        },
    ] {
        assert!(random_problem(bad, 1).is_err(), "{bad:?}");
    }
}

/// A prompt that is never drawn may be unrankable.
#[test]
fn rankings_need_two_arms_where_they_are_drawn() {
    let problem = |weights: [f64; 2]| {
        let file = serde_json::json!({"beta": 1.0, "prompts": [
            {"weight": weights[0], "reward": [1, 0], "behavior": [[0.5, 0.5]]},
            {"weight": weights[1], "reward": [1, 0], "behavior": [[1.0, 0.0]]}]});
        Problem::from_json(&file.to_string()).unwrap()
    };
    assert!(Dataset::rankings(&problem([1.0, 0.0]), 5, 2, 0, 0).is_ok());
    let error = Dataset::rankings(&problem([0.5, 0.5]), 5, 2, 0, 0)
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("prompts[1]: its laws show fewer than two arms"),
        "{error}"
    );
}

/// A ranking has as many arms as asked for, or all that the laws show.
#[test]
fn rankings_are_as_long_as_asked() {
    let file =
        r#"{"beta": 1, "prompts": [{"reward": [1, 0, 2, 3], "behavior": [[0.3, 0.3, 0.4, 0]]}]}"#;
    let problem = Problem::from_json(file).unwrap();
    for (length, want) in [(2, 2), (3, 3), (4, 3)] {
        for record in Dataset::rankings(&problem, 20, length, 0, 0)
            .unwrap()
            .records()
        {
            match record {
                pistar::bandit::Record::Ranking { ranking, .. } => assert_eq!(ranking.len(), want),
                other => panic!("{other:?}"),
            }
        }
    }
}

/// Groups of a population are two independent responses of the mean law.
#[test]
fn groups_are_pairs_of_the_mean_law() {
    let population = Evidence::population(&super::common::toy());
    let groups = share(&population, InputKind::Groups, 0);
    let mean = [0.075, 0.125, 0.8];
    for e in groups.compared().edges(&[0.0; 3]) {
        let (a, b) = (e.a as usize, e.b as usize);
        let twice = if a == b { 1.0 } else { 2.0 };
        close(e.weight(), twice * mean[a] * mean[b]);
    }
    // Logged, a group is what was logged together: a pair is one, a ranking of three its three pairs.
    let evidence = read(
        "{\"prompt\": 0, \"first\": 0, \"second\": 1}\n\
         {\"prompt\": 0, \"ranking\": [1, 2, 0]}\n\
         {\"prompt\": 1, \"first\": 0, \"second\": 1}\n\
         {\"prompt\": 1, \"arm\": 0, \"reward\": 3}\n",
    );
    let [groups, pairs] = [InputKind::Groups, InputKind::ScoredPairs]
        .map(|kind| [0, 1].map(|x| share(&evidence, kind, x).mass));
    close(groups[0], 2.0 / 3.0);
    close(groups[1], 1.0 / 3.0);
    close(pairs[0], 4.0 / 5.0);
    close(pairs[1], 1.0 / 5.0);
    let weights: Vec<f64> = (share(&evidence, InputKind::Groups, 0).compared())
        .edges(&[])
        .iter()
        .map(Edge::weight)
        .collect();
    for (have, want) in weights.iter().zip([2.0 / 3.0, 1.0 / 6.0, 1.0 / 6.0]) {
        close(*have, want);
    }
    let responses = [0, 1].map(|x| share(&evidence, InputKind::Singles, x).mass);
    close(responses[0], 5.0 / 8.0);
    close(responses[1], 3.0 / 8.0);
    // Rewards 1, 2, 2, 3, 1 and 0, 0.5, 3.
    close(
        evidence.of(InputKind::Rated).unwrap().threshold().at,
        12.5 / 8.0,
    );
    close(
        share(&evidence, InputKind::Rated, 0).threshold().at,
        9.0 / 5.0,
    );
}

/// A mean of rewards is rounded; a reward that should be the mean ties with it, and is not above.
#[test]
fn a_tie_with_the_mean_is_a_tie() {
    for scale in [1.0, 0.1, 1e-9, 1e30] {
        for offset in [0.0, 7.0] {
            let line = |arm: usize, r: f64| {
                format!(
                    "{{\"prompt\": 0, \"arm\": {arm}, \"reward\": {:e}}}\n",
                    scale * (r + offset)
                )
            };
            let text = line(0, 1.0) + &line(1, 2.0) + &line(2, 3.0) + &line(1, 2.0);
            let problem = super::common::toy();
            let data = Dataset::read(text.as_bytes(), "log", &problem).unwrap();
            let evidence = Evidence::from_dataset(&problem, &data);
            let view = evidence.of(InputKind::Rated).unwrap();
            let share = &view.prompts[0];
            assert_eq!(
                share.pulls(view.threshold()),
                [-0.25, -0.5, 0.25],
                "{scale} {offset}"
            );
            assert_eq!(share.threshold(), view.threshold());
            // A given number is taken as it is.
            let given = Threshold::given(scale * (2.0 + offset) * (1.0 - 1e-15));
            assert_eq!(share.pulls(given), [-0.25, 0.5, 0.25], "{scale} {offset}");
        }
    }
}

/// A problem that data are solved for may lack rewards and laws; what would need them is refused by
/// name, and nothing is said of regret.
#[test]
fn data_replace_rewards_and_laws() {
    let file = r#"{"beta": 0.5, "prompts": [{"reference": [0.2, 0.3, 0.5]}]}"#;
    let strict = Problem::parse(file, "p.json").unwrap_err().to_string();
    assert!(
        strict.contains("p.json: prompts[0].reward: it is missing"),
        "{strict}"
    );
    let problem = Problem::parse_logged(file, "p.json").unwrap();
    assert!(!problem.knows_rewards() && !problem.prompts()[0].law.is_known());
    let again = Problem::parse_logged(&problem.to_json(), "again").unwrap();
    assert!(!again.knows_rewards() && !again.prompts()[0].law.is_known());
    let solve = |objective: Objective, text: &str| {
        let data = Dataset::read(text.as_bytes(), "log", &problem).unwrap();
        pistar::solve::fixed_point(
            objective,
            &problem,
            &Evidence::from_dataset(&problem, &data),
        )
    };
    let (labelled, plain) = (
        "{\"prompt\": 0, \"first\": 0, \"second\": 1, \"label\": 0.75}\n\
         {\"prompt\": 0, \"first\": 1, \"second\": 2, \"label\": 0.5}\n",
        "{\"prompt\": 0, \"first\": 0, \"second\": 1}\n",
    );
    let scored = "{\"prompt\": 0, \"arm\": 0, \"reward\": 1}\n{\"prompt\": 0, \"arm\": 1, \"reward\": 0}\n\
                  {\"prompt\": 0, \"arm\": 2, \"reward\": 0}\n";
    // ln odds of 3 and of 1, over β.
    let dpo = solve(Objective::DPO, labelled).unwrap();
    let log = dpo.policy.unwrap().log()[0].clone();
    close(
        (log[0] - log[1] - (0.2f64 / 0.3).ln()) / (3f64.ln() / 0.5),
        1.0,
    );
    close(log[1] - log[2], (0.3f64 / 0.5).ln());
    assert!(dpo.regret.is_none());
    for objective in [
        Objective::DRO_V,
        Objective::PG_VALUE,
        Objective::PG_SOFT_VALUE,
        Objective::KTO,
    ] {
        let found = solve(objective, scored).unwrap();
        assert!(
            found.policy.is_some() && found.regret.is_none(),
            "{objective:?}"
        );
    }
    for (objective, text, says) in [
        (Objective::DPO, plain, "it has unlabelled pairs"),
        (Objective::COPG, plain, "it has responses without rewards"),
        (
            Objective::COPG,
            labelled,
            "it has responses without rewards",
        ),
        (
            Objective::RLOO,
            labelled,
            "it has responses without rewards",
        ),
        (Objective::KTO, plain, "it has responses without rewards"),
        (
            Objective::DPO,
            scored,
            "it has no example of labelled pairs",
        ),
    ] {
        let error = solve(objective, text).unwrap_err().to_string();
        assert!(error.contains(says), "{objective:?}: {error}");
    }
    // A baseline over all arms needs the reward of one that was never logged.
    let two =
        "{\"prompt\": 0, \"arm\": 0, \"reward\": 1}\n{\"prompt\": 0, \"arm\": 1, \"reward\": 0}\n";
    let error = solve(Objective::PG_VALUE, two).unwrap_err().to_string();
    assert!(
        error.contains("arm 2 was never logged with a reward"),
        "{error}"
    );
    assert!(solve(Objective::PG_ZERO, two).is_ok());
    // There is no population.
    for (objective, says) in [
        (Objective::DPO, "behavior"),
        (Objective::PG_ZERO, "behavior"),
        (Objective::COPR, "ranking"),
    ] {
        let population = Evidence::population(&problem);
        let error = pistar::solve::fixed_point(objective, &problem, &population)
            .unwrap_err()
            .to_string();
        assert!(error.contains(&format!("prompts[0].{says}")), "{error}");
    }
    let lawful = r#"{"beta": 0.5, "prompts": [{"behavior": [[0.2, 0.3, 0.5]]}]}"#;
    let lawful = Problem::parse_logged(lawful, "p.json").unwrap();
    assert_eq!(lawful.prompts()[0].arms(), 3);
    let population = Evidence::population(&lawful);
    for objective in [Objective::DPO, Objective::COPG, Objective::KTO] {
        let error = pistar::solve::fixed_point(objective, &lawful, &population)
            .unwrap_err()
            .to_string();
        assert!(error.contains("prompts[0].reward"), "{error}");
    }
    for (file, says) in [
        (
            r#"{"beta": 1, "prompts": [{}]}"#,
            "nothing says how many arms it has",
        ),
        (
            r#"{"beta": 1, "prompts": [{"reference": []}]}"#,
            "nothing says how many arms it has",
        ),
        (
            r#"{"beta": 1, "prompts": [{"reward": []}]}"#,
            "the prompt has no arm",
        ),
        (
            r#"{"beta": 1, "prompts": [{"reference": [0.5, 0.5], "behavior": [[0.2, 0.3, 0.5]]}]}"#,
            "it has 3 arms and the prompt 2",
        ),
    ] {
        let error = Problem::parse_logged(file, "p").unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}
