//! No dead end and no false advice: what a message tells one to do can be done.

use std::fs;

use pistar::llm::text::objective::TextObjective;
use serde_json::Value;

use crate::place::Place;

/// What a command that refuses says.
fn refused(place: &Place, args: &[&str]) -> String {
    let output = place.run(args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
    said
}

#[test]
fn a_run_that_cannot_be_read_is_named_and_the_others_are_shown() {
    let place = Place::new(9);
    for out in ["out/a", "out/b", "out/c"] {
        place.train(&[
            "sft",
            "--model",
            "model",
            "--data",
            "data.jsonl",
            "--steps",
            "1",
            "--out",
            out,
        ]);
    }
    fs::write(place.at("out/b/manifest.json"), "{\"object").unwrap();
    for json in [false, true] {
        let args = ["runs", "out", "--json"];
        let output = place.run(&args[..if json { 3 } else { 2 }]);
        let (text, said) = (
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8_lossy(&output.stderr),
        );
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            text.contains("out/a") && text.contains("out/c") && !text.contains("out/b"),
            "{text}"
        );
        assert!(
            said.contains("1 of 3 runs") && said.contains("out/b/manifest.json"),
            "{said}"
        );
        if json {
            let runs: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(runs.as_array().unwrap().len(), 2);
        }
    }
    for out in ["out/a", "out/c"] {
        fs::write(place.at(out).join("config.toml"), "[").unwrap();
    }
    assert!(refused(&place, &["runs", "out"]).contains("config.toml"));
}

#[test]
fn files_of_other_kinds_are_called_by_their_names() {
    let place = Place::new(3);
    let cases: [(&str, &[u8], &[&str]); 10] = [
        (
            "rows.csv",
            b"prompt,completion\nw1,w2\n",
            &["it is a CSV file", "csv.DictReader", "rows.jsonl"],
        ),
        (
            "rows.TSV",
            b"prompt\tcompletion\nw1\tw2\n",
            &["it is a TSV file", "delimiter='\\t'"],
        ),
        (
            "rows.arrow",
            b"ARROW1\0\0rest",
            &["Arrow (feather)", "rows.arrow.parquet"],
        ),
        ("rows", b"FEA1rest", &["Arrow (feather)"]),
        (
            "data-00000.arrow",
            b"\xff\xff\xff\xff\x10\0\0\0",
            &["Arrow stream", "Dataset.from_file"],
        ),
        ("rows.orc", b"ORCrest", &["ORC"]),
        ("rows.zip", b"PK\x03\x04rest", &["zip", "unzip"]),
        (
            "rows.jsonl.zst",
            b"\x28\xb5\x2f\xfdrest",
            &["zstd -d rows.jsonl.zst"],
        ),
        ("rows.bz2", b"BZh9rest", &["bunzip2"]),
        ("rows.xz", b"\xfd7zXZ\0rest", &["unxz"]),
    ];
    for (name, bytes, parts) in cases {
        fs::write(place.at(name), bytes).unwrap();
        for command in [
            vec!["data", "check", name, "--model", "model"],
            vec![
                "train", "sft", "--model", "model", "--data", name, "--out", "no",
            ],
            vec!["logprobs", "--model", "model", "--data", name],
            vec!["score", "--data", name, "--reward", "length:words"],
            vec!["generate", "--model", "model", "--prompts", name],
        ] {
            let said = refused(&place, &command);
            for part in parts {
                assert!(
                    said.contains(part) && said.contains(name),
                    "{command:?}: {said}"
                );
            }
        }
    }
    // What is JSON under such a name is read; text that is said to be text too.
    fs::copy(place.at("data.jsonl"), place.at("json.csv")).unwrap();
    place.train(&[
        "sft", "--model", "model", "--data", "json.csv", "--steps", "1", "--out", "a",
    ]);
    place.train(&[
        "sft", "--model", "model", "--data", "rows.csv", "--format", "lines", "--steps", "1",
        "--out", "b",
    ]);
}

#[test]
fn the_conversion_of_a_table_is_what_it_says() {
    let place = Place::new(3);
    fs::write(
        place.at("rows.csv"),
        "prompt,completion\nw1,\"w2, w3\"\nw4,w5\n",
    )
    .unwrap();
    let said = refused(&place, &["data", "check", "rows.csv", "--model", "model"]);
    let command = said.split("convert it: ").nth(1).unwrap().trim();
    let shell = std::process::Command::new("sh")
        .args(["-c", command])
        .current_dir(place.at(""))
        .status();
    // Where there is no Python nothing can be said.
    if shell.is_ok_and(|status| status.success()) {
        let rows: Vec<Value> = place
            .read("rows.jsonl")
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0]["completion"], "w2, w3");
    }
}

#[test]
fn only_what_can_be_trained_is_proposed() {
    let place = Place::new(3);
    let known: Vec<&str> = TextObjective::names().collect();
    for (row, wants) in [
        (
            r#"{"prompt": "w1", "completion": "w2", "label": true}"#,
            "dpo",
        ),
        (
            r#"{"prompt": "w1", "chosen": "w2", "rejected": "w3"}"#,
            "pg-zero",
        ),
        (
            r#"{"prompt": "w1", "completion": "w2", "reward": 1}"#,
            "dpo",
        ),
        (
            r#"{"prompt": "w1", "completions": ["w2", "w3"], "scores": [1, 2]}"#,
            "kto",
        ),
    ] {
        fs::write(place.at("rows.jsonl"), format!("{row}\n{row}\n")).unwrap();
        let said = refused(
            &place,
            &[
                "train",
                wants,
                "--model",
                "model",
                "--data",
                "rows.jsonl",
                "--out",
                "no",
            ],
        );
        let made = said
            .split("which make ")
            .nth(1)
            .unwrap()
            .split(';')
            .next()
            .unwrap();
        let names = made.split(['(', ')', ',', ' ']).filter(|word| {
            pistar::loss::Objective::ALL
                .iter()
                .any(|o| o.name() == *word)
        });
        let names: Vec<&str> = names.collect();
        assert!(
            !names.is_empty() && names.iter().all(|name| known.contains(name)),
            "{said}"
        );
    }
    for (typed, meant) in [
        ("dop", "dpo"),
        ("reward_modle", "reward-model"),
        ("copg-sqared", "copg-squared"),
    ] {
        let said = refused(
            &place,
            &[
                "train",
                typed,
                "--model",
                "model",
                "--data",
                "data.jsonl",
                "--out",
                "no",
            ],
        );
        assert!(said.contains(&format!("did you mean `{meant}`?")), "{said}");
        let said = refused(
            &place,
            &[
                "data",
                "check",
                "data.jsonl",
                "--model",
                "model",
                "--objective",
                typed,
            ],
        );
        assert!(said.contains(&format!("did you mean `{meant}`?")), "{said}");
    }
}

/// The commands that a page of help lists.
fn commands(help: &str) -> Vec<String> {
    let list = help.split("\nCommands:\n").nth(1).unwrap_or_default();
    let list = list.lines().take_while(|line| line.starts_with("  "));
    let named = list.filter(|line| !line.starts_with("   "));
    named
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(String::from)
        .collect()
}

#[test]
fn the_help_of_every_command_fits_eighty_columns() {
    let place = Place::new(1);
    let mut left: Vec<Vec<String>> = vec![Vec::new()];
    let mut seen = 0;
    while let Some(command) = left.pop() {
        for flag in ["--help", "-h"] {
            let args: Vec<&str> = command.iter().map(String::as_str).chain([flag]).collect();
            let output = place.run(&args);
            assert!(output.status.success(), "{args:?}");
            let help = String::from_utf8(output.stdout).unwrap();
            for line in help.lines() {
                assert!(line.chars().count() <= 80, "{args:?}: {line}");
            }
            if flag == "--help" {
                left.extend(
                    commands(&help)
                        .into_iter()
                        .map(|name| [&command[..], &[name]].concat()),
                );
            }
        }
        seen += 1;
    }
    assert!(seen > 25, "{seen}");
}

/// Where no row can be taken, what is wrong is told of what the rows are.
#[test]
fn a_row_that_nothing_takes_is_refused_as_what_it_is() {
    let place = Place::new(1);
    let talk = r#"{"messages": [{"role": "user", "content": "w1"}, {"role": "assistant", "content": "w2"}]}"#;
    fs::write(place.at("talk.jsonl"), talk).unwrap();
    fs::write(place.at("t.jinja"), "{{ raise_exception('never') }}").unwrap();
    let check = "data check talk.jsonl --model model --chat-template t.jinja";
    let output = place.run(&check.split(' ').collect::<Vec<_>>());
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("t.jinja") && said.contains("never"), "{said}");
    assert!(
        !said.contains("are missing") && output.status.code() == Some(1),
        "{said}"
    );
}
