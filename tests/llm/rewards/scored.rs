//! `pistar score`: what it writes, and what it refuses.

use std::fs;

use serde_json::json;

use super::{lines, place, refuses, run, runs};

#[test]
fn scored_rows_train_what_needs_scores() {
    let place = place(&[
        json!({"prompt": "a", "completion": " ab"}),
        json!({"prompt": "b", "completion": " b", "extra": [1]}),
        json!({"prompt": "a", "completion": " b"}),
        json!({"prompt": "b", "completion": " aab"}),
    ]);
    fn score<'a>(more: &[&'a str]) -> Vec<&'a str> {
        let reward = [
            "score",
            "--reward",
            "regex,count=true:a",
            "--data",
            "rows.jsonl",
        ];
        [&reward, more].concat()
    }
    let found = lines(&runs(&place, &score(&[])));
    let scores: Vec<f64> = found.iter().map(|r| r["score"].as_f64().unwrap()).collect();
    assert_eq!(scores, [1.0, 0.0, 0.0, 2.0]);
    assert_eq!(found[1]["extra"], json!([1]));
    let output = run(&place, &score(&["--group", "--out", "groups.jsonl"]));
    assert!(output.status.success() && output.stdout.is_empty());
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("score: mean 0.75")
    );
    let groups = lines(&fs::read_to_string(place.path().join("groups.jsonl")).unwrap());
    assert_eq!(
        groups,
        [
            json!({"prompt": "a", "completions": [" ab", " b"], "scores": [1.0, 0.0]}),
            json!({"prompt": "b", "completions": [" b", " aab"], "scores": [0.0, 2.0]}),
        ]
    );
    // What was written is what the trainers of that shape read.
    runs(&place, &score(&["--out", "singles.jsonl"]));
    for (objective, data) in [("copg", "groups.jsonl"), ("pg-zero", "singles.jsonl")] {
        let out = format!("runs/{objective}");
        runs(
            &place,
            &[
                "train", objective, "--model", "model", "--data", data, "--steps", "1", "--batch",
                "2", "--out", &out,
            ],
        );
    }
}

#[test]
fn what_cannot_be_scored_is_refused_and_nothing_is_lost() {
    let place = place(&[json!({"prompt": "a", "completion": "b", "score": 3})]);
    fs::write(place.path().join("old.jsonl"), "precious").unwrap();
    fs::write(place.path().join("bad.tsv"), "good\n").unwrap();
    let score = |reward: &'static str| {
        [
            "score",
            "--reward",
            reward,
            "--data",
            "rows.jsonl",
            "--replace",
            "--out",
            "old.jsonl",
        ]
    };
    for (reward, says) in [
        ("regex:(", &["reward `regex`", "regex `(`"][..]),
        ("lexicon:none.tsv", &["none.tsv: cannot read"]),
        ("lexicon:bad.tsv", &["bad.tsv:1: there is no tab"]),
        (
            "model:model",
            &["model", "no reward head", "pistar train reward-model"],
        ),
        ("model:nowhere", &["nowhere", "no such folder"]),
        (
            "exact:answer",
            &["rows.jsonl", "row 1", "no column `answer`"],
        ),
        ("smile", &["`smile` is no kind of reward", "lexicon:FILE"]),
    ] {
        refuses(&place, &score(reward), says);
    }
    #[cfg(unix)]
    for (reward, says) in [
        ("command:exit 3", &["exit status: 3", "0 of 1 rows"][..]),
        ("command:true", &["it ended, 0 of 1 rows"]),
        (
            "command,timeout=0.2:sleep 30",
            &["no answer within 0.2 seconds"],
        ),
        ("command:echo one", &["answer 1 is no number: `one`"]),
    ] {
        refuses(&place, &score(reward), says);
    }
    let once = &score("length")[..5];
    refuses(
        &place,
        once,
        &["rows.jsonl: row 1", "has a `score` already", "--replace"],
    );
    let report = [once, &["--report"]].concat();
    refuses(
        &place,
        &report,
        &["row 1", "no labelled pair", "`chosen` and `rejected`"],
    );
    let old = fs::read_to_string(place.path().join("old.jsonl")).unwrap();
    assert_eq!(old, "precious");
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 5);
}
