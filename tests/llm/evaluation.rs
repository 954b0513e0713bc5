//! Evaluation inside training: what it says, and what it must not change.

use std::fs;

use pistar::llm::text::data::{Form, RowRules, Source};
use pistar::llm::text::objective::TextObjective;
use pistar::llm::text::tokenizer::Tokenizer;
use pistar::loss::Objective;
use serde_json::Value;

use crate::place::Place;
use crate::runs::needed;

const SHORT: [&str; 12] = [
    "--model",
    "model",
    "--data",
    "data.jsonl",
    "--steps",
    "4",
    "--batch",
    "3",
    "--lr",
    "1e-2",
    "--checkpoint-every",
    "2",
];

fn is_evaluation(row: &Value) -> bool {
    row.get("eval_loss").is_some()
}

fn number(row: &Value, name: &str) -> f64 {
    row[name]
        .as_f64()
        .unwrap_or_else(|| panic!("{name}: {row}"))
}

#[test]
fn before_the_first_step_it_is_what_training_on_all_of_it_says() {
    let place = Place::new(9);
    place.data("held.jsonl", 9, 2);
    let held = SHORT.map(|word| {
        if word == "data.jsonl" {
            "held.jsonl"
        } else {
            word
        }
    });
    for name in TextObjective::names() {
        let start =
            |short: &[&'static str]| [&[name], short, needed(name), &["--dtype", "f64"]].concat();
        // All rows in one step; evaluated in threes, which must not matter.
        let (one, run) = (format!("one/{name}"), format!("run/{name}"));
        let more = ["--batch", "9", "--steps", "1", "--out", &one];
        place.train(&[&start(&held)[..], &more].concat());
        let more = [
            "--eval-data",
            "held.jsonl",
            "--eval-every",
            "3",
            "--eval-on-start",
            "--out",
            &run,
        ];
        place.train(&[&start(&SHORT)[..], &more].concat());
        let trained = place.rows(&one).remove(0);
        let rows = place.rows(&run);
        let found: Vec<&Value> = rows.iter().filter(|r| is_evaluation(r)).collect();
        let steps: Vec<u64> = found.iter().map(|r| r["step"].as_u64().unwrap()).collect();
        assert_eq!(steps, [0, 3, 4], "{name}");
        // z₀ is estimated from the batch that there is.
        let batchwise = [
            "grad_norm",
            "learning_rate",
            "kl",
            "value/grad_norm",
            "value/learning_rate",
        ];
        for (metric, value) in trained.as_object().unwrap() {
            let told = found[0].get(format!("eval_{metric}"));
            let of_run = ["step", "epoch", "num_tokens"].contains(&metric.as_str());
            if of_run || batchwise.contains(&metric.as_str()) || name == "kto" {
                continue;
            }
            let (value, told) = (value.as_f64().unwrap(), told.unwrap().as_f64().unwrap());
            assert!(
                (value - told).abs() <= 1e-12 * value.abs().max(1.0),
                "{name} {metric}: {value} {told}"
            );
        }
        let keys = |row: &Value| row.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(found[0]), keys(found[2]), "{name}");
    }
}

#[test]
fn held_out_rows_are_not_trained_on_and_evaluation_changes_nothing() {
    let place = Place::new(12);
    let all = |more: &[&'static str]| [&["dpo"], &SHORT[..], more].concat();
    place.train(&all(&[
        "--eval-rows",
        "5",
        "--eval-seed",
        "4",
        "--eval-every",
        "2",
        "--out",
        "held",
    ]));
    let share = [
        "--eval-share",
        "0.4",
        "--eval-seed",
        "4",
        "--eval-every",
        "1",
        "--out",
        "share",
    ];
    place.train(&all(&share));
    let manifest: Value = serde_json::from_str(&place.read("held/manifest.json")).unwrap();
    assert_eq!(
        (&manifest["examples"], &manifest["eval_examples"]),
        (&7.into(), &5.into())
    );
    // However often it is evaluated.
    assert_eq!(place.files("held/model"), place.files("share/model"));
    let training = |run: &str| -> Vec<Value> {
        place
            .rows(run)
            .into_iter()
            .filter(|r| !is_evaluation(r))
            .collect()
    };
    assert_eq!(training("held"), training("share"));

    // The same rows as two files: the same numbers.
    let tokenizer = Tokenizer::load(place.at("model")).unwrap();
    let source = Source::open(
        &place.at("data.jsonl"),
        Form::from(Objective::DPO),
        tokenizer.into(),
        64,
        RowRules::default(),
    )
    .unwrap();
    let [trained, held] = pistar::llm::train::Rows::split(&source, 5, 4).unwrap();
    let text = place.read("data.jsonl");
    let lines: Vec<&str> = text.lines().collect();
    for (name, rows) in [("trained.jsonl", trained), ("held.jsonl", held)] {
        use pistar::llm::train::Examples;
        let every: Vec<u32> = (0..rows.count() as u32).collect();
        let rows = rows.at(&every).unwrap();
        let text: Vec<String> = rows
            .iter()
            .map(|e| format!("{}\n", lines[e.row as usize]))
            .collect();
        fs::write(place.at(name), text.concat()).unwrap();
    }
    let files = [
        "--data",
        "trained.jsonl",
        "--eval-data",
        "held.jsonl",
        "--eval-every",
        "2",
    ];
    place.train(&all(&[&files[..], &["--out", "files"]].concat()));
    assert_eq!(place.rows("held"), place.rows("files"));
    assert_eq!(place.files("held/model"), place.files("files/model"));

    // Going on changes neither rows nor weights.
    let (rows, lasting) = (place.rows("held"), place.lasting("held"));
    place.train(&["--resume", "held/checkpoint-2"]);
    assert_eq!((rows, lasting), (place.rows("held"), place.lasting("held")));
}

#[test]
fn an_example_left_alone_joins_the_batch_before_it() {
    let place = Place::new(8);
    // Four in threes: z₀ needs two.
    let all = [
        "--eval-rows",
        "4",
        "--drop-last",
        "--eval-every",
        "4",
        "--out",
        "run",
    ];
    place.train(&[&["kto"], &SHORT[..], &all].concat());
    let rows = place.rows("run");
    assert!(number(rows.last().unwrap(), "eval_kl") >= 0.0);
    let error = place.refused(
        &[
            &["kto"],
            &SHORT[..],
            &["--eval-rows", "1", "--drop-last", "--out", "one"],
        ]
        .concat(),
    );
    assert!(
        error.contains("evaluation split: it has one example"),
        "{error}"
    );
    assert!(!place.at("one").exists());
}

#[test]
fn the_best_checkpoint_stays() {
    let place = Place::new(12);
    let all = |metric: &'static str, more: &[&'static str]| {
        let keep = [
            "--keep-best",
            metric,
            "--keep",
            "1",
            "--eval-rows",
            "6",
            "--eval-every",
            "1",
        ];
        [
            &["dpo"],
            &SHORT[..],
            &["--steps", "12", "--checkpoint-every", "5"],
            &keep,
            more,
        ]
        .concat()
    };
    // A rate at which the held-out loss rises after a while.
    for (metric, sign) in [("eval_loss", 1.0), ("eval_rewards/margins", -1.0)] {
        let out = if sign > 0.0 { "loss" } else { "margin" };
        place.train(&all(metric, &["--lr", "0.1", "--out", out]));
        let rows = place.rows(out);
        let score = |row: &Value| sign * number(row, metric);
        let found: Vec<&Value> = rows.iter().filter(|r| is_evaluation(r)).collect();
        assert_eq!(found.len(), 12);
        let least = found.iter().map(|r| score(r)).fold(f64::MAX, f64::min);
        let best = found.iter().find(|r| score(r) == least).unwrap();
        let step = best["step"].as_u64().unwrap();
        let manifest: Value =
            serde_json::from_str(&place.read(&format!("{out}/manifest.json"))).unwrap();
        assert_eq!(manifest["best_global_step"], step);
        assert_eq!(manifest["best_metric_name"], metric);
        assert_eq!(number(&manifest, "best_metric"), number(best, metric));
        let kept = pistar::llm::internals::files::checkpoint::list(&place.at(out)).unwrap();
        let kept: Vec<u64> = kept.iter().map(|(step, _)| *step).collect();
        let mut right = vec![step, 12];
        right.dedup();
        assert_eq!(kept, right, "{metric}");
        // From the start again, by way of the best one.
        let before = (place.rows(out), place.lasting(out));
        place.train(&["--resume", &format!("{out}/checkpoint-{step}")]);
        assert_eq!(before, (place.rows(out), place.lasting(out)), "{metric}");
    }
}

#[test]
fn what_cannot_be_evaluated_is_said_before_anything_is_written() {
    let place = Place::new(6);
    fs::write(place.at("bad.jsonl"), "{\"prompt\": \"w1\"}\n").unwrap();
    for (args, named) in [
        (
            &["--eval-rows", "6"][..],
            &["evaluation split: it has 6 of the 6 rows"][..],
        ),
        (&["--eval-rows", "0"], &["eval_rows: it is 0"]),
        (
            &["--eval-share", "1"],
            &["eval_share: it is 1", "less than 1"],
        ),
        (
            &["--eval-share", "0.5", "--eval-rows", "2"],
            &["eval_rows: eval_share is given too"],
        ),
        (&["--eval-data", "bad.jsonl"], &["bad.jsonl:1", "`chosen`"]),
        (&["--eval-data", "none.jsonl"], &["none.jsonl: cannot read"]),
        (
            &["--eval-every", "3"],
            &[
                "eval_every",
                "eval_data, eval_rows, eval_share or eval_prompts",
            ],
        ),
        (&["--keep-best", "eval_loss"], &["keep_best", "eval_data"]),
        (
            &["--eval-rows", "2", "--keep-best", "loss"],
            &["`loss`", "eval_loss, eval_rewards/accuracies"],
        ),
        (
            &["--eval-rows", "2", "--keep-best", "eval_logps/chosen"],
            &["keep_best_mode", "min or max"],
        ),
        (
            &[
                "--eval-rows",
                "2",
                "--keep-best",
                "eval_loss",
                "--eval-every",
                "0",
            ],
            &["keep_best", "eval_every"],
        ),
        (
            &["--eval-rows", "2", "--keep-best-mode", "max"],
            &["keep_best_mode", "keep_best too"],
        ),
    ] {
        let error = place.refused(&[&["dpo"], &SHORT[..], args, &["--out", "run"]].concat());
        for part in named {
            assert!(error.contains(part), "{args:?}: {error}");
        }
        assert!(!place.at("run").exists(), "{args:?}");
    }
}
