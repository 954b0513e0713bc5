//! What is read and written: one door for all files, and numbers and lines that stay short.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::time::{Duration, Instant};

use pistar::bandit::{Dataset, Evidence, Problem, RANKED_PAIRS_CAP};
use pistar::file::write_whole;
use pistar::loss::{Given, Objective};
use pistar::sim::folder::{Folder, Manifest};
use pistar::solve::{FLOWS_CAP, fixed_point};
use serde_json::json;

use super::cli::Place;
use super::common::toy;

const MARK: &str = "\u{feff}";
const LOG: &str = "{\"prompt\": 0, \"first\": 2, \"second\": 1, \"label\": 1}\n\
                   {\"prompt\": 0, \"first\": 0, \"second\": 1, \"label\": 0}\n";
const SCORES: &str = "{\"task\": \"a\", \"seed\": 0, \"score\": 0.5}\n\
                      {\"task\": \"a\", \"seed\": 1, \"score\": 0.7}\n";
const LOGITS: &str = "{\"logits\": [[0.3, -0.2, 0.1]]}\n";

/// The commands that read a file `name`, by the kind of file.
fn readers(name: &str) -> BTreeMap<&'static str, Vec<&str>> {
    BTreeMap::from([
        ("problem", vec!["solve", name, "--objective=ipo"]),
        (
            "log",
            vec!["solve", "toy.json", "--objective=ipo", "--data", name],
        ),
        ("scores", vec!["aggregate", name]),
        (
            "logits",
            vec!["loss", "toy.json", "--objective=dpo", "--logits", name],
        ),
    ])
}

fn said(place: &Place, args: &[&str]) -> String {
    let output = place.run(args, "");
    assert_eq!(output.status.code(), Some(2), "{args:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_byte_order_mark_changes_nothing_at_any_door() {
    let place = Place::new();
    let (toy, toml) = (place.read("toy.json"), place.read("toy.toml"));
    let readers = readers("file");
    for (kind, text) in [
        ("problem", toy.as_str()),
        ("problem", &toml),
        ("log", LOG),
        ("scores", SCORES),
        ("logits", LOGITS),
    ] {
        place.write("file", text);
        let plain = place.ok(&readers[kind]);
        place.write("file", format!("{MARK}{text}"));
        assert_eq!(place.ok(&readers[kind]), plain, "{kind}");
    }
}

#[test]
fn bytes_that_are_no_text_are_named_at_every_door() {
    let place = Place::new();
    for (kind, args) in readers("file") {
        place.write("file", b"{\"a\": 1}\n{\"b\": \"\xff\"}");
        let said = said(&place, &args);
        // Where lines are read one by one, the first is wrong before the second is reached.
        let by_line = ["log", "scores"].contains(&kind);
        assert!(
            by_line || said.contains("byte 17 (on line 2) is not UTF-8"),
            "{kind}: {said}"
        );
    }
    place.write("log", [LOG.as_bytes(), b"{\"prompt\": \xff}"].concat());
    let said = said(&place, &["solve", "toy.json", "--data", "log"]);
    assert!(
        said.contains("log:3: byte 12 of the line is not UTF-8"),
        "{said}"
    );
}

#[test]
fn a_key_twice_is_refused_at_every_door_and_depth() {
    let place = Place::new();
    let prompt = r#"{"reward": [1, 2], "behavior": [[0.5, 0.5]], "reward": [3, 4]}"#;
    for (kind, text, says) in [
        (
            "problem",
            format!(r#"{{"beta": 1, "prompts": [{prompt}]}}"#),
            "reward",
        ),
        (
            "log",
            LOG.replace("\"label\"", "\"first\": 1, \"label\""),
            "first",
        ),
        (
            "scores",
            SCORES.replace("\"seed\"", "\"task\": 1, \"seed\""),
            "task",
        ),
        // Where nobody looks, too.
        (
            "scores",
            SCORES.replace("\"seed\"", "\"x\": [{\"y\": 1, \"y\": 2}], \"seed\""),
            "y",
        ),
        ("logits", LOGITS.replace('}', ", \"logits\": []}"), "logits"),
    ] {
        place.write("file", &text);
        let said = said(&place, &readers("file")[kind]);
        let named = [
            format!("`{says}` is there twice"),
            format!("duplicate field `{says}`"),
        ];
        assert!(named.iter().any(|n| said.contains(n)), "{kind}: {said}");
        assert!(said.contains("file"), "{said}");
    }
    place.write(
        "manifest.json",
        r#"{"sim": "coverage", "sim": "coverage", "config": {}}"#,
    );
    let error = Manifest::read(&place.at("")).unwrap_err().to_string();
    assert!(error.contains("duplicate field `sim`"), "{error}");
}

/// Nobody who gives a long line, value or name is given all of it back.
#[test]
fn errors_are_short_whatever_they_are_about() {
    let place = Place::new();
    let (long, list) = ("x".repeat(50_000), "1, ".repeat(20_000));
    for (kind, text) in [
        ("problem", format!("beta = 1\nx = [{list} = ]")),
        ("problem", format!("beta = \"{long}\"\n")),
        ("problem", format!("{long} = 1\n")),
        ("problem", format!("{{\"beta\": \"{long}\"}}")),
        ("problem", format!("{{\"{long}\": 1}}")),
        ("log", format!("{{\"prompt\": \"{long}\"}}")),
        ("scores", SCORES.replace("0.5", &format!("\"{long}\""))),
        ("logits", format!("{{\"logits\": \"{long}\"}}")),
        ("logits", format!("{{\"logits\": [[1]], \"{long}\": 1}}")),
    ] {
        place.write("file", &text);
        let said = said(&place, &readers("file")[kind]);
        assert!(said.len() < 4000, "{kind}: {} bytes", said.len());
        assert!(said.contains("file"), "{said}");
    }
}

#[test]
fn numbers_for_people_have_no_rows_of_zeros() {
    let place = Place::new();
    let zeros = "0".repeat(20);
    let problem = |beta: &str, reward: &str| {
        format!(
            r#"{{"beta": {beta}, "prompts": [{{"reward": [{reward}, 1], "behavior": [[0.5, 0.5]]}}]}}"#
        )
    };
    for (beta, reward) in [
        ("1e-99", "2"),
        ("1e99", "2"),
        ("1", "1e99"),
        ("1e-9", "1e9"),
    ] {
        place.write("file", problem(beta, reward));
        place.write("logits", r#"{"logits": [[1, 0]]}"#);
        for args in [
            vec!["solve", "file", "--objective=ipo,dro-v,copg"],
            vec![
                "loss",
                "file",
                "--objective=copg-squared",
                "--logits=logits",
            ],
        ] {
            let text = place.ok(&args);
            assert!(!text.contains(&zeros), "{beta} {reward}: {text}");
        }
    }
    for (beta, reward) in [
        ("1e-300", "2"),
        ("1e300", "2"),
        ("1", "1e300"),
        ("1", "-1e300"),
    ] {
        place.write("file", problem(beta, reward));
        let said = said(&place, &["solve", "file"]);
        assert!(said.contains("e300") || said.contains("e-300"), "{said}");
        assert!(!said.contains(&zeros), "{said}");
    }
    for args in [
        vec!["solve", "toy.json", "--beta=1e300"],
        vec!["sim", "copg-toy", "--lr=-1e-300"],
        vec!["problem", "random", "--reward-scale=-1e300"],
        vec!["aggregate", "toy.json", "--level=1e300"],
    ] {
        let said = said(&place, &args);
        assert!(said.contains("e300") || said.contains("e-300"), "{said}");
        assert!(!said.contains(&zeros), "{args:?}: {said}");
    }
}

#[test]
fn absurd_numbers_are_refused_where_they_enter() {
    let place = Place::new();
    let toy = place.read("toy.json");
    for (kind, text) in [
        ("problem", toy.replace("2.5, 2.0", "1.7e308, 2.0")),
        (
            "problem",
            toy.replace("\"value\": 1.7", "\"value\": -1.7e308"),
        ),
        (
            "problem",
            toy.replace("\"margin\": 2.5", "\"margin\": 1.7e308"),
        ),
        (
            "log",
            "{\"prompt\": 0, \"arm\": 1, \"reward\": 1.7e308}".into(),
        ),
        (
            "log",
            "{\"prompt\": 0, \"first\": 1, \"second\": 0, \"rewards\": [1, -1.7e308]}".into(),
        ),
        ("scores", SCORES.replace("0.7", "1.7e308")),
        ("scores", SCORES.replace("0.7", "-1.1e100")),
        ("logits", LOGITS.replace("-0.2", "1.7e308")),
    ] {
        place.write("file", &text);
        let said = said(&place, &readers("file")[kind]);
        assert!(
            said.contains("1e100") && said.contains("file"),
            "{kind}: {said}"
        );
        assert!(!said.contains("inf") && !said.contains("NaN"), "{said}");
    }
}

/// Large inputs are read in a time that grows with their size, not with its square: at the sizes here a
/// quadratic path takes minutes.
#[test]
fn large_inputs_are_read_fast() {
    let limit = Duration::from_secs(20);
    let k = 300_000;
    let begun = Instant::now();
    let text = json!({"beta": 0.5, "prompts": [{
        "reward": (0..k).map(|i| i % 17).collect::<Vec<_>>(),
        "behavior": [vec![1.0 / f64::from(k); k as usize]],
        "ranking": (0..k).rev().collect::<Vec<_>>(),
    }]});
    let problem = Problem::from_json(&text.to_string()).unwrap();
    assert_eq!(
        problem.prompts()[0].ranking.as_ref().map(Vec::len),
        Some(k as usize)
    );
    let mut twice = text;
    twice["prompts"][0]["ranking"][0] = json!(0);
    let error = Problem::from_json(&twice.to_string())
        .unwrap_err()
        .to_string();
    assert!(error.contains("arm 0 is there twice"), "{error}");
    assert!(begun.elapsed() < limit, "a ranking: {:?}", begun.elapsed());

    // Long lists drawn without replacement.
    let begun = Instant::now();
    let data = Dataset::rankings(&problem, 2, 100_000, 0, 0).unwrap();
    assert_eq!(data.records().len(), 2);
    assert!(
        begun.elapsed() < limit,
        "drawn lists: {:?}",
        begun.elapsed()
    );

    // What they count as is not made; it is refused by name.
    let mut lines = Vec::new();
    data.write(&mut lines, &problem).unwrap();
    let begun = Instant::now();
    let error = Dataset::read(Cursor::new(lines), "log", &problem)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(&RANKED_PAIRS_CAP.to_string()) && error.contains("log:1"),
        "{error}"
    );
    assert!(
        begun.elapsed() < limit,
        "a ranked log: {:?}",
        begun.elapsed()
    );

    // Every two of 3000 runs are compared, 50 times.
    let place = Place::new();
    let rows: String = (0..6000)
        .map(|i| {
            let row = json!({"algorithm": i % 2, "task": 0, "seed": i / 2, "score": i * 37 % 101});
            format!("{row}\n")
        })
        .collect();
    place.write("scores", rows);
    let begun = Instant::now();
    place.ok(&["aggregate", "scores", "--resamples=50"]);
    assert!(begun.elapsed() < limit, "runs: {:?}", begun.elapsed());
    let rows: String = (0..101)
        .map(|i| {
            format!(
                "{}\n",
                json!({"algorithm": i, "task": 0, "seed": 0, "score": i})
            )
        })
        .collect();
    place.write("scores", rows);
    let said = said(&place, &["aggregate", "scores"]);
    assert!(
        said.contains("101 algorithms") && said.contains("at most 100"),
        "{said}"
    );
}

/// All objectives end, or are refused by name, on many arms and on many prompts.
#[test]
fn every_objective_ends_or_is_refused_by_name() {
    let limit = Duration::from_secs(60);
    let arms = 60_000;
    let wide = json!({"beta": 0.5, "margin": 2.5, "prompts": [{
        "reward": (0..arms).map(|i| f64::from(i % 101) / 50.0).collect::<Vec<_>>(),
        "behavior": [vec![1.0 / f64::from(arms); arms as usize]],
        "ranking": (0..arms).collect::<Vec<_>>(), "value": 1.0,
    }]});
    let prompt = json!({"reward": [1, 2, 0.5], "behavior": [[0.2, 0.5, 0.3]], "value": 9.0,
        "ranking": [2, 0, 1]});
    let prompts = FLOWS_CAP + 1;
    let many = json!({"beta": 0.5, "margin": 2.5, "prompts": vec![prompt; prompts]});
    for (problem, refused) in [
        (
            wide,
            &[
                "kto",
                "kto-per-prompt",
                "dpo",
                "ipo",
                "slic",
                "pg-value",
                "dro-algorithm-1",
            ][..],
        ),
        (many, &["pg-value", "dro-fixed", "dro-algorithm-1"]),
    ] {
        let problem = Problem::from_json(&problem.to_string()).unwrap();
        let evidence = Evidence::population(&problem);
        let mut found = Vec::new();
        let problem = problem.with_numbers(&Given::new().with("baseline", 0.0));
        for objective in Objective::ALL {
            let begun = Instant::now();
            if let Err(error) = fixed_point(objective, &problem, &evidence) {
                let error = error.to_string();
                assert!(
                    error.contains("is limited to"),
                    "{}: {error}",
                    objective.name()
                );
                found.push(objective.name());
            }
            assert!(
                begun.elapsed() < limit,
                "{}: {:?}",
                objective.name(),
                begun.elapsed()
            );
        }
        for name in refused {
            assert!(found.contains(name), "{name} is not refused: {found:?}");
        }
    }
}

#[test]
fn the_law_of_pairs_is_one_table() {
    let text = r#"{"beta": 1, "prompts": [{"reward": [1, 2, 3], "reference": [0.5, 0, 0.5],
        "pairs": [[0.1, 0, 0.2], [0, 0, 0], [0.3, 0, 0.4]]}, {"reward": [1, 2],
        "behavior": [[0.1, 0.9], [0.4, 0.6]]}]}"#;
    for prompt in Problem::from_json(text).unwrap().prompts() {
        let (k, table) = (prompt.arms(), prompt.law.table());
        for y in 0..k {
            for z in 0..k {
                assert_eq!(table[y * k + z], prompt.law.probability(y, z));
            }
        }
        assert!((table.iter().sum::<f64>() - 1.0).abs() < 1e-15);
    }
}

#[test]
fn a_run_that_did_not_end_is_not_taken_for_one_that_did() {
    let place = Place::new();
    let dir = place.at("run");
    let mut folder =
        Folder::create(&dir, "coverage", json!({}), 1, "objective,regret", false).unwrap();
    folder
        .append(&["dpo,0.5".into(), "ipo,0.25".into()])
        .unwrap();
    let error = Manifest::ended(&dir).unwrap_err().to_string();
    for word in [
        "manifest.json: status",
        "`running`",
        "coverage",
        "2 are there",
    ] {
        assert!(error.contains(word), "{error}");
    }
    folder.finish(None).unwrap();
    Manifest::ended(&dir).unwrap();
    // Tables without a manifest are nobody's run; a broken manifest is an error.
    Manifest::ended(&place.at("")).unwrap();
    write_whole(&dir.join("manifest.json"), b"{").unwrap();
    assert!(Manifest::ended(&dir).is_err());
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 2);
}

#[cfg(feature = "plot")]
#[test]
fn a_figure_of_half_a_run_is_drawn_only_if_asked_for() {
    let place = Place::new();
    place.ok(&[
        "sim",
        "dro-value-error",
        "--samples=2",
        "--out=run",
        "--no-figure",
    ]);
    let manifest = place.read("run/manifest.json");
    place.write(
        "run/manifest.json",
        manifest.replace("\"complete\"", "\"running\""),
    );
    let said = said(&place, &["figure", "dro-value-error", "--from=run"]);
    for word in [
        "run/manifest.json",
        "did not end",
        "--partial",
        "pistar sim dro-value-error",
    ] {
        assert!(said.contains(word), "{said}");
    }
    assert!(!place.at("run/dro-value-error.png").exists());
    place.ok(&["figure", "dro-value-error", "--from=run", "--partial"]);
    assert!(place.at("run/dro-value-error.png").exists());
}

#[test]
fn a_toy_is_still_a_toy() {
    // The door gives back what was given: the file of a problem reads as the problem.
    let again = Problem::parse(&format!("{MARK}{}", toy().to_json()), "toy").unwrap();
    assert_eq!(again.to_json(), toy().to_json());
}
