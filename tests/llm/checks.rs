//! `pistar data check`, and mappings in a run's configuration.

use std::fs;

use serde_json::{Value, json};

use crate::place::Place;

/// Exit code, the check as JSON, and what was said beside it.
fn check(place: &Place, args: &[&str]) -> (Option<i32>, Value, String) {
    let all = [&["data", "check"], args, &["--model", "model", "--json"]].concat();
    let output = place.run(&all);
    let said = String::from_utf8(output.stderr).unwrap();
    let json = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code(), json, said)
}

fn write(place: &Place, rows: &[Value]) {
    let lines: String = rows.iter().map(|row| row.to_string() + "\n").collect();
    fs::write(place.at("rows.jsonl"), lines).unwrap();
}

#[test]
fn what_is_counted_is_what_is_there() {
    let place = Place::new(1);
    let rated = |prompt: &str, completion: &str, label: bool| json!({"prompt": prompt, "completion": completion, "label": label});
    let long = " w1".repeat(70);
    let whole = "w1 w2 w3 w4 w5 w6 w7 w8";
    write(
        &place,
        &[
            rated("w1 w2", " w3", true),
            rated("w1 w2", " w4 w5", false),
            rated("w3", " w4", true),
            rated("w1 w2", " w3", false),
            rated("w4", &long, true),
            rated(whole, &format!("{whole} w9"), true),
            json!({"prompt": "w1", "completion": " w2"}),
        ],
    );
    let (code, found, said) = check(&place, &["rows.jsonl", "--objective", "kto"]);
    assert_eq!(code, Some(1));
    assert!(
        said.contains("training would refuse 2 of 7 rows as rated responses"),
        "{said}"
    );
    assert_eq!(
        (found["rows"].as_u64(), found["refused"].as_u64()),
        (Some(7), Some(2))
    );
    let refusals = found["refusals"].to_string();
    assert!(
        refusals.contains("rows.jsonl:5: prompt and completion have 72 tokens"),
        "{refusals}"
    );
    assert!(
        refusals.contains("rows.jsonl:7: column `label` is missing"),
        "{refusals}"
    );
    // Lengths are those before any cut: BOS and words; words and EOS.
    let lengths = |name: &str| {
        let q = &found[name];
        ["min", "p50", "max"].map(|at| q[at].as_u64().unwrap())
    };
    assert_eq!(lengths("prompt_tokens"), [1, 2, 8]);
    assert_eq!(lengths("completion_tokens"), [2, 2, 71]);
    assert_eq!(found["balance"], json!({"desirable": 4, "undesirable": 2}));
    let duplicates = &found["duplicates"];
    assert_eq!(duplicates["rows"], 1);
    assert_eq!(
        duplicates["first"],
        json!([["rows.jsonl:1", "rows.jsonl:4"]])
    );
    assert_eq!(
        (
            &duplicates["prompts"],
            &duplicates["sharing"],
            &duplicates["most"]
        ),
        (&json!(4), &json!(3), &json!(3))
    );
    assert_eq!(found["repeats_prompt"], 1);
    assert_eq!(found["repeats_prompt_rows"], json!(["rows.jsonl:6"]));
    // Cut, it would be taken; every kind says how many rows it takes.
    let args = [
        "rows.jsonl",
        "--objective",
        "kto",
        "--max-length",
        "40",
        "--where",
        "'label' in row",
    ];
    let (code, found, _) = check(&place, &args);
    assert_eq!((code, &found["completions_cut"]), (Some(0), &json!(1)));
    assert_eq!(found["left_out"], 1);
    let cut = found["tokens_cut"].as_u64().unwrap();
    assert_eq!(cut, 71 - (40 - 1));
    let kinds = found["kinds"].as_array().unwrap();
    let rows = |kind: &str| kinds.iter().find(|k| k["kind"] == kind).unwrap()["rows"].clone();
    assert_eq!(rows("rated responses"), 6);
    assert_eq!(rows("demonstrations"), 6);
    assert_eq!(rows("labelled pairs"), 0);
}

#[test]
fn a_row_is_shown_with_what_is_in_the_loss() {
    let place = Place::new(3);
    write(
        &place,
        &[
            json!({"prompt": "w1", "chosen": " w2", "rejected": " w3"}),
            json!({"prompt": "w4 w5", "chosen": " w6", "rejected": " w6"}),
        ],
    );
    let (code, found, _) = check(&place, &["rows.jsonl", "--show", "2"]);
    assert_eq!(code, Some(0));
    assert_eq!(found["kind"], "labelled pairs");
    assert_eq!(found["same_response_rows"], json!(["rows.jsonl:2"]));
    let look = &found["look"];
    assert_eq!(look["place"], "rows.jsonl:2");
    assert_eq!(look["responses"][0]["tokens"], json!([2, 2]));
    assert_eq!(look["responses"][0]["before"], json!(["w4", "w5"]));
    assert_eq!(look["responses"][1]["after"], json!(["w6", "</s>"]));
    assert_eq!(look["responses"][1]["last"], "</s>");
    let page = place.run(&["data", "check", "rows.jsonl", "--model", "model"]);
    let page = String::from_utf8(page.stdout).unwrap();
    assert!(
        page.contains("⟦ w2 </s>⟧") || page.contains("⟦w2 </s>⟧"),
        "{page}"
    );
    assert!(!page.contains('\u{1b}'), "{page}");
}

#[test]
fn what_the_command_cannot_do_is_an_error() {
    let place = Place::new(1);
    for (args, says) in [
        (&["rows.none"][..], "cannot read"),
        (
            &["data.jsonl", "--objective", "dop"],
            "it is `dop`; did you mean `dpo`? use one of copg",
        ),
        (&["data.jsonl", "--column", "prompt=a |"], "syntax error"),
        (&["data.jsonl", "--column", "prompt"], "NAME=EXPR"),
        (&["data.jsonl", "--chat-date", "2024-02-30"], "YYYY-MM-DD"),
        (&["data.jsonl", "--implicit-prompt", "\\x"], "is none of"),
    ] {
        let (code, _, said) = check(&place, args);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(says), "{said}");
    }
}

#[test]
fn a_mapping_is_part_of_the_run() {
    let place = Place::new(6);
    let text = place
        .read("data.jsonl")
        .replace("\"prompt\"", "\"question\"");
    fs::write(place.at("data.jsonl"), text).unwrap();
    let short = [
        "dpo",
        "--model",
        "model",
        "--data",
        "data.jsonl",
        "--steps",
        "4",
        "--batch",
        "2",
    ];
    let said = place.refused(&[&short[..], &["--out", "a"]].concat());
    assert!(
        said.contains("data.jsonl:1") && said.contains("`question`"),
        "{said}"
    );
    // By flags, and by the file that they leave behind.
    let mapped = [
        "--column",
        "prompt=question",
        "--where",
        "number > 1",
        "--checkpoint-every",
        "2",
    ];
    place.train(&[&short[..], &mapped, &["--out", "a"]].concat());
    let config = place.read("a/config.toml");
    assert!(
        config.contains("[columns]\nprompt = \"question\""),
        "{config}"
    );
    assert!(config.contains("where = \"number > 1\""), "{config}");
    place.train(&["--config", "a/config.toml", "--out", "b"]);
    assert_eq!(place.rows("a"), place.rows("b"));
    // A flag replaces one column of the file's.
    place.train(&[
        "--config",
        "a/config.toml",
        "--column",
        "chosen=rejected",
        "--column",
        "rejected=chosen",
        "--out",
        "c",
    ]);
    let config = place.read("c/config.toml");
    assert!(
        config.contains("chosen = \"rejected\"\nprompt = \"question\"\nrejected = \"chosen\""),
        "{config}"
    );
    let sign = |run: &str| place.rows(run)[3]["rewards/margins"].as_f64().unwrap() > 0.0;
    assert!(sign("a") && sign("c"));
    assert_ne!(place.rows("a"), place.rows("c"));
    // It cannot change when the run goes on.
    fs::remove_dir_all(place.at("a/checkpoint-4")).unwrap();
    let mut manifest: Value = serde_json::from_str(&place.read("a/manifest.json")).unwrap();
    manifest["status"] = "running".into();
    fs::write(place.at("a/manifest.json"), manifest.to_string()).unwrap();
    let other = [
        "--where",
        "number > 0",
        "--column",
        "prompt=question",
        "--checkpoint-every",
        "2",
    ];
    let said = place.refused(&[&short[..], &other, &["--out", "a", "--resume"]].concat());
    assert!(
        said.contains("where") && said.contains("number > 1"),
        "{said}"
    );
    place.train(&["--out", "a", "--resume"]);
    assert_eq!(place.rows("a"), place.rows("b"));
}

#[test]
fn a_chat_template_is_part_of_the_data() {
    let place = Place::new(1);
    let turn = |role: &str, content: &str| json!({"role": role, "content": content});
    let row = |answer: &str| json!({"messages": [turn("user", "w1"), turn("assistant", answer)]});
    write(&place, &[row("w2"), row("w3")]);
    fs::write(
        place.at("t.jinja"),
        "{% for m in messages %}{{ m.content }} {% endfor %}",
    )
    .unwrap();
    place.train(&[
        "sft",
        "--model",
        "model",
        "--data",
        "rows.jsonl",
        "--chat-template",
        "t.jinja",
        "--batch",
        "1",
        "--checkpoint-every",
        "1",
        "--out",
        "a",
    ]);
    fs::remove_dir_all(place.at("a/checkpoint-2")).unwrap();
    let mut manifest: Value = serde_json::from_str(&place.read("a/manifest.json")).unwrap();
    manifest["status"] = "running".into();
    fs::write(place.at("a/manifest.json"), manifest.to_string()).unwrap();
    fs::write(
        place.at("t.jinja"),
        "{% for m in messages %}w5 {{ m.content }} {% endfor %}",
    )
    .unwrap();
    let said = place.refused(&["--out", "a", "--resume"]);
    assert!(said.contains("chat_template: the SHA-256"), "{said}");
}
