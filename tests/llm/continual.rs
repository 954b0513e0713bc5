//! `pistar continual`: sequences of tasks, by every method.

use std::fs;

use candle_core::{DType, Device};
use pistar::continual::{Keeps, Method};
use pistar::llm::model::decoder::Decoder;
use serde_json::Value;

use crate::place::Place;
use crate::train::weights;

/// A file of two tasks whose data are others, and how they are trained.
pub fn tasks(place: &Place, train: &str) {
    place.data("first.jsonl", 8, 11);
    place.data("second.jsonl", 8, 12);
    place.data("held.jsonl", 5, 13);
    let task = |name: &str| {
        format!(
            "[[task]]\nname = \"{name}\"\ndata = \"{name}.jsonl\"\nheld_out = \"held.jsonl\"\nscore = [\"length:words\"]\n\
             accuracy = {{ between = {{ low = 0, high = 6 }} }}\n"
        )
    };
    let [first, second] = ["first", "second"].map(task);
    let text = format!(
        "[train]\nbatch = 3\nlr = 1e-2\nschedule = \"constant\"\ncheckpoint_every = 2\n{train}\n\
         [train.numbers]\nbeta = 0.4\n{first}{second}"
    );
    fs::write(place.at("tasks.toml"), text).unwrap();
}

fn args<'a>(method: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let all = "--tasks tasks.toml --model model --replay 0.5 --replay-batch 3 --max-new-tokens 6 --no-figure --out";
    let mut all: Vec<&str> = ["continual", method]
        .into_iter()
        .chain(all.split(' '))
        .collect();
    all.push(out);
    all.extend(more);
    all
}

fn learn(place: &Place, method: &str, out: &str, more: &[&str]) {
    let output = place.run(&args(method, out, more));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{method} {more:?}: {said}");
}

fn refused(place: &Place, method: &str, out: &str, more: &[&str]) -> String {
    let output = place.run(&args(method, out, more));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{method} {more:?}: {said}");
    said
}

/// Weights after a task.
fn after(place: &Place, out: &str, task: &str, objective: &str) -> Vec<f64> {
    let model = place.at(&format!("{out}/tasks/{task}/{objective}/model"));
    let model = Decoder::load(model, DType::F64, &Device::Cpu).unwrap();
    weights(model.parameters())
}

fn apart(a: &[f64], b: &[f64]) -> f64 {
    let each = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    each.fold(0.0, f64::max)
}

/// Rows of a table as text.
fn table(place: &Place, file: &str) -> Vec<Vec<String>> {
    let text = place.read(file);
    let lines = text.lines().skip(1);
    lines
        .map(|line| line.split(',').map(String::from).collect())
        .collect()
}

#[test]
fn every_method_learns_the_tasks_and_its_metrics_are_those_of_its_accuracies() {
    let place = Place::new(4);
    tasks(
        &place,
        "steps = 4\n[stages.ppo]\nmax_new_tokens = 6\nbeta = 0.1\n",
    );
    for method in Method::ALL {
        let name = method.name;
        // A loss of random weights is high, and still.
        let more: &[&str] = if method.keeps == Keeps::Plateaus {
            &[
                "--plateau-mean",
                "99",
                "--plateau-variance",
                "99",
                "--plateau-window",
                "2",
            ]
        } else {
            &[]
        };
        learn(&place, name, name, more);
        let rows = table(&place, &format!("{name}/accuracy.csv"));
        assert_eq!(rows.len(), 6, "{name}");
        let at = |learning: &str, task: &str| -> f64 {
            let row = rows.iter().find(|r| r[0] == learning && r[3] == task);
            row.unwrap()[4].parse().unwrap()
        };
        let metrics = table(&place, &format!("{name}/metrics.csv"));
        let number = |row: usize, column: usize| -> f64 { metrics[row][column].parse().unwrap() };
        let (a11, a21, a22) = (at("1", "first"), at("2", "first"), at("2", "second"));
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{name}: {a} {b}");
        close(number(0, 2), a11);
        close(number(1, 2), (a21 + a22) / 2.0);
        close(number(1, 3), (a11 + (a21 + a22) / 2.0) / 2.0);
        close(number(1, 4), a21 - a11);
        close(number(1, 5), a11 - a21);
        assert_eq!(metrics[0][4..], ["", ""], "{name}");
    }
    // Before the second task nothing is kept: those of one objective are the same.
    let first = |out: &str, objective: &str| after(&place, out, "1-first", objective);
    let sft = first("sft", "sft");
    for other in ["all", "l2", "ewc", "mas", "agem", "lwf", "der++"] {
        let other = match other {
            "all" => "sft-all".to_string(),
            other => format!("sft+{other}"),
        };
        assert_eq!(first(&other, "sft"), sft, "{other}");
    }
    let copr = first("copr", "copr-sft");
    for other in ["copr-no-constraints", "copr-lambda-1", "copr-replay-fit"] {
        assert_eq!(first(other, "copr-sft"), copr, "{other}");
    }
    // After it, none are.
    let sft: Vec<(&str, Vec<f64>)> = (Method::ALL.iter())
        .filter(|m| m.objectives() == Method::SFT.objectives())
        .map(|m| (m.name, after(&place, m.name, "2-second", "sft")))
        .collect();
    assert!(sft.len() > 8);
    for (i, (a, x)) in sft.iter().enumerate() {
        for (b, y) in &sft[..i] {
            // A step that raises no loss of what is kept is not turned.
            let same = [*a, *b].contains(&Method::SFT_AGEM.name);
            assert!(same || apart(x, y) > 1e-7, "{a} {b}");
        }
    }
}

/// Methods at strength 0, or without replay, are plain training.
#[test]
fn without_what_a_method_adds_it_is_sft() {
    let place = Place::new(4);
    tasks(&place, "steps = 3");
    learn(&place, "sft", "sft", &[]);
    let wanted = after(&place, "sft", "2-second", "sft");
    for (name, flag) in [
        ("sft+l2", "--pull=0"),
        ("sft+ewc", "--pull=0"),
        ("sft+mas", "--pull=0"),
        ("sft+lwf", "--distillation=0"),
    ] {
        learn(&place, name, name, &[flag]);
        let found = after(&place, name, "2-second", "sft");
        assert!(apart(&found, &wanted) == 0.0, "{name}");
    }
    for name in ["sft+agem", "sft+der++"] {
        learn(&place, name, name, &["--replay", "0"]);
        assert_eq!(after(&place, name, "2-second", "sft"), wanted, "{name}");
    }
    learn(&place, "copr", "copr", &["--replay", "0"]);
    learn(&place, "copr-no-constraints", "none", &[]);
    let model = |out: &str| after(&place, out, "2-second", "copr-sft");
    assert_eq!(model("copr"), model("none"));
}

/// λ ≡ 1: a threshold has no gradient, so that constraints are replay of weight 1, to the byte.
#[test]
fn copr_whose_multipliers_are_held_at_1_is_replay() {
    let place = Place::new(4);
    tasks(&place, "steps = 4");
    learn(&place, "copr", "held", &["--multiplier-rate", "0"]);
    learn(&place, "copr-lambda-1", "replay", &[]);
    learn(&place, "copr", "copr", &["--multiplier-rate", "1"]);
    let second = |out: &str| after(&place, out, "2-second", "copr-sft");
    assert_eq!(second("held"), second("replay"));
    assert!(apart(&second("copr"), &second("replay")) > 1e-6);
    // Thresholds move the multipliers alone: without them these are others, where they move.
    learn(
        &place,
        "copr-replay-fit",
        "fit",
        &["--multiplier-rate", "0"],
    );
    assert_eq!(second("fit"), second("replay"));
    learn(
        &place,
        "copr-replay-fit",
        "moving",
        &["--multiplier-rate", "1"],
    );
    assert!(apart(&second("moving"), &second("copr")) > 1e-6);
    let row = &place.rows("held/tasks/2-second/copr-sft")[0];
    assert_eq!(row["first/multiplier"], 1.0);
    assert!(row["first/constraint"].is_number());
}

#[test]
fn what_was_stopped_goes_on_and_what_is_another_is_refused() {
    let place = Place::new(4);
    tasks(&place, "steps = 3");
    learn(&place, "copr", "a", &[]);
    let said = refused(&place, "copr", "a", &[]);
    assert!(said.contains("there is a sequence in it already"), "{said}");
    learn(&place, "copr", "a", &["--resume"]);
    for (more, why) in [
        (&["--replay", "0.25"][..], "replay: 0.5 then, 0.25 now"),
        (&["--multiplier-rate", "1"], "multiplier_rate"),
        (&["--set", "lr=1"], "set"),
        (&["--seed", "1"], "seed: 0 then, 1 now"),
    ] {
        let said = refused(&place, "copr", "a", &[&["--resume"], more].concat());
        assert!(said.contains(why), "{more:?}: {said}");
    }
    let said = refused(&place, "dpo+er", "a", &["--resume"]);
    assert!(said.contains("method"), "{said}");
    let old = place.read("second.jsonl");
    place.data("second.jsonl", 8, 99);
    let said = refused(&place, "copr", "a", &["--resume"]);
    assert!(said.contains("second/data"), "{said}");
    fs::write(place.at("second.jsonl"), old).unwrap();
    let before = place.lasting("a");
    learn(&place, "copr", "a", &["--resume"]);
    assert!(place.lasting("a") == before);
    learn(&place, "sft", "a", &["--overwrite"]);
    fs::create_dir(place.at("other")).unwrap();
    fs::write(place.at("other/notes.txt"), "mine").unwrap();
    let said = refused(&place, "sft", "other", &["--overwrite"]);
    assert!(said.contains("there is something else in it"), "{said}");
    assert_eq!(place.read("other/notes.txt"), "mine");
}

/// What is kept may be more than a step looks at: the reference has numbers of all of it, and so has a threshold. What SPIN's
/// opponent writes may be empty.
#[test]
fn what_is_kept_may_be_many_batches() {
    let place = Place::new(4);
    tasks(&place, "steps = 9");
    for method in ["dpo+er", "spin+er", "copr"] {
        learn(&place, method, method, &["--replay=1", "--replay-batch=1"]);
    }
}

#[test]
fn a_policy_writes_what_a_task_with_prompts_ranks() {
    let place = Place::new(4);
    tasks(&place, "steps = 2");
    let text = place.read("tasks.toml");
    let text = text.replacen(
        "data = \"first.jsonl\"",
        "prompts = \"first.jsonl\"\nreward = [\"length:words\"]",
        1,
    );
    fs::write(place.at("tasks.toml"), text).unwrap();
    learn(&place, "copr", "a", &[]);
    let mut seen = 0;
    for line in place.read("a/tasks/1-first/ranked.jsonl").lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let scores: Vec<f64> = serde_json::from_value(row["scores"].clone()).unwrap();
        assert!(
            scores.windows(2).all(|w| w[0] < w[1]) && scores.len() > 1,
            "{line}"
        );
        for (text, score) in row["completions"].as_array().unwrap().iter().zip(scores) {
            let words = text.as_str().unwrap().split_whitespace().count();
            assert_eq!(words as f64, score, "{line}");
        }
        seen += 1;
    }
    assert!(seen > 0);
}

#[test]
fn what_cannot_be_learned_is_refused() {
    let place = Place::new(4);
    tasks(&place, "steps = 2");
    for (method, more, why) in [
        ("cobr", &[][..], "`cobr` is not known"),
        ("copr", &["--replay", "1.5"], "replay: it is 1.5"),
        ("sft+ewc", &["--pull=-1"], "pull: it is -1"),
        (
            "copr",
            &["--multiplier-cap", "0"],
            "multiplier cap: it is 0",
        ),
        ("copr", &["--multiplier-start", "2000"], "above the cap"),
        ("copr", &["--multiplier-decay", "1"], "multiplier_decay"),
        (
            "sft+lwf",
            &["--teacher-temperature", "0"],
            "teacher_temperature",
        ),
        ("sft+tfcl", &["--plateau-window", "0"], "plateau_window"),
        ("copr", &["--set", "model=x"], "every task has its own"),
        ("copr", &["--set", "stepz=1"], "unknown field"),
        ("copr", &["--tasks", "none.toml"], "none.toml"),
        ("copr", &["--model", "none"], "none"),
    ] {
        let said = refused(&place, method, "out", more);
        assert!(said.contains(why), "{method} {more:?}: {said}");
        assert!(!place.at("out").exists(), "{method} {more:?}");
    }
    let text = place.read("tasks.toml");
    for (from, to, why) in [
        ("high = 6", "high = -6", "low below high"),
        (
            "score = [\"length:words\"]",
            "score = [\"lenght\"]",
            "lenght",
        ),
        (
            "data = \"first.jsonl\"",
            "data = \"none.jsonl\"",
            "none.jsonl",
        ),
        (
            "accuracy = { between = { low = 0, high = 6 } }",
            "",
            "an accuracy is from 0 to 1",
        ),
    ] {
        fs::write(place.at("tasks.toml"), text.replacen(from, to, 1)).unwrap();
        let said = refused(&place, "sft", "refused", &[]);
        assert!(said.contains(why), "{to}: {said}");
    }
}
