//! `pistar logprobs`: what it prints, and what it refuses.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use candle_core::{DType, Device};
use pistar::llm::model::decoder::Decoder;
use pistar::llm::model::sequence::Packed;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fixtures::folder;
use crate::texts::spaces;

/// A folder with `model`, a tiny Llama that takes 32 tokens, and `rows.jsonl`.
fn place(rows: &[String]) -> TempDir {
    let place = tempfile::tempdir().unwrap();
    let model = place.path().join("model");
    fs::create_dir(&model).unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(folder("llama").join(name), model.join(name)).unwrap();
    }
    spaces().save(&model);
    fs::write(place.path().join("rows.jsonl"), rows.join("\n")).unwrap();
    place
}

fn command(place: &TempDir, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pistar"));
    command.args(["logprobs", "--model", "model", "--data", "rows.jsonl"]);
    command.args(more).current_dir(place.path());
    command
}

fn run(place: &TempDir, more: &[&str]) -> Output {
    command(place, more).output().unwrap()
}

fn answers(text: &[u8]) -> Vec<(f64, u64)> {
    let line = |line: &str| {
        let answer: Value = serde_json::from_str(line).unwrap();
        assert_eq!(answer.as_object().unwrap().len(), 2);
        (
            answer["sum"].as_f64().unwrap(),
            answer["count"].as_u64().unwrap(),
        )
    };
    std::str::from_utf8(text)
        .unwrap()
        .lines()
        .map(line)
        .collect()
}

fn row(prompt: &str, completion: &str) -> String {
    json!({"prompt": prompt, "completion": completion}).to_string()
}

/// The command must fail with exit code 2, one message with these parts, and nothing printed.
#[track_caller]
fn refuses(place: &TempDir, more: &[&str], says: &[&str]) {
    let output = run(place, more);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(output.stdout.is_empty());
    assert!(
        said.starts_with("error: ") && said.matches("error: ").count() == 1,
        "{said}"
    );
    for part in says {
        assert!(said.contains(part), "`{part}` is not in: {said}");
    }
}

#[test]
fn answers_are_sums_over_completions_in_the_order_of_rows() {
    // Tokens by hand: `<s>` 1, `</s>` 2, `▁` 4, letters from 5, `▁a` 31, `ti` 32, `tim` 33, `me` 34.
    let cases: [(&str, &str, &[u32], usize); 4] = [
        ("a", " b", &[1, 31, 4, 6, 2], 2),
        ("z me", "t", &[1, 4, 30, 4, 34, 24, 2], 5),
        ("a", "tim", &[1, 31, 33, 2], 2),
        ("", "bbbbbbbb", &[1, 4, 6, 6, 6, 6, 6, 6, 6, 6, 2], 1),
    ];
    let rows: Vec<String> = (0..70)
        .map(|i| row(cases[i % 4].0, cases[i % 4].1))
        .collect();
    let place = place(&rows);
    let model = Decoder::load(place.path().join("model"), DType::F64, &Device::Cpu).unwrap();
    // By definition: one softmax a token, of the tokens before it alone.
    let expected = cases.map(|(_, _, tokens, prompt)| {
        let each = (prompt..tokens.len()).map(|at| {
            let logits = model.logits(&Packed::new([&tokens[..at]])).unwrap();
            let logits: Vec<Vec<f64>> = logits.to_vec2().unwrap();
            let last = logits.last().unwrap();
            last[tokens[at] as usize] - last.iter().map(|l| l.exp()).sum::<f64>().ln()
        });
        (each.sum::<f64>(), (tokens.len() - prompt) as u64)
    });
    for (dtype, tolerance) in [("f64", 1e-10), ("f32", 1e-4)] {
        for batch in ["1", "23", "8192"] {
            let output = run(&place, &["--dtype", dtype, "--batch-tokens", batch]);
            assert!(output.status.success() && output.stderr.is_empty());
            let answers = answers(&output.stdout);
            assert_eq!(answers.len(), 70);
            for (i, answer) in answers.iter().enumerate() {
                let expected = expected[i % 4];
                assert_eq!(answer.1, expected.1);
                assert!(
                    (answer.0 - expected.0).abs() < tolerance,
                    "{answer:?} {expected:?}"
                );
            }
        }
    }
}

#[test]
fn a_file_is_there_whole_or_not_at_all() {
    let place = place(&[row("a", "b"), row("a", "c")]);
    let out = place.path().join("out.jsonl");
    let output = run(&place, &["--out", "out.jsonl"]);
    assert!(output.status.success() && output.stdout.is_empty());
    let whole = fs::read(&out).unwrap();
    assert_eq!(answers(&whole).len(), 2);
    assert_eq!(run(&place, &[]).stdout, whole);
    fs::write(
        place.path().join("rows.jsonl"),
        [row("a", "b"), row("a", "")].join("\n"),
    )
    .unwrap();
    refuses(
        &place,
        &["--out", "out.jsonl"],
        &["rows.jsonl:2", "`completion` is empty"],
    );
    assert_eq!(fs::read(&out).unwrap(), whole);
    fs::write(place.path().join("rows.jsonl"), row("a", "b")).unwrap();
    refuses(
        &place,
        &["--out", "none/out.jsonl"],
        &["none", "cannot write to"],
    );
    assert!(!place.path().join("none").exists());
    let mut names: Vec<_> = fs::read_dir(&place)
        .unwrap()
        .map(|f| f.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["model", "out.jsonl", "rows.jsonl"]);
}

#[test]
fn bad_rows_are_named_before_anything_is_printed() {
    let good = vec![row("a", "b"); 200];
    for (bad, says) in [
        (
            r#"{"prompt": "a"}"#.into(),
            &["rows.jsonl:201", "column `completion` is missing"][..],
        ),
        (
            r#"{"prompt": "a", "completion": ["b"]}"#.into(),
            &["rows.jsonl:201", "`completion` is a list"],
        ),
        (
            row(&"b".repeat(40), "c"),
            &[
                "rows.jsonl:201",
                "the prompt has 42 tokens",
                "max_prompt_length",
            ],
        ),
        (
            row("a", &"b".repeat(40)),
            &["rows.jsonl:201", "have 43 tokens", "max_length"],
        ),
    ] {
        refuses(&place(&[good.clone(), vec![bad]].concat()), &[], says);
    }
    let place = place(&good);
    fs::write(
        place.path().join("rows.jsonl"),
        b"{\"prompt\": \"a\", \"completion\": \"\xc3\"}",
    )
    .unwrap();
    refuses(&place, &[], &["rows.jsonl:1", "not UTF-8"]);
    fs::remove_file(place.path().join("rows.jsonl")).unwrap();
    refuses(&place, &[], &["rows.jsonl", "cannot read"]);
    fs::remove_file(place.path().join("model/tokenizer.json")).unwrap();
    refuses(&place, &[], &["tokenizer.json", "cannot read"]);
}

#[test]
fn cuts_and_boundaries_are_told_beside_the_answers() {
    let place = place(&[row("at", "ime"), row("a", &"b".repeat(40))]);
    let output = run(&place, &["--max-length", "16"]);
    assert!(output.status.success());
    assert_eq!(answers(&output.stdout)[1].1, 14);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("1 completions lost their end"), "{said}");
    assert!(said.contains("first on lines 1"), "{said}");
    let more = ["--max-length", "16", "--strict-boundaries"];
    refuses(
        &place,
        &more,
        &["rows.jsonl:1", "the prompt's tokens change"],
    );
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let place = place(&vec![row("a", "b"); 200]);
    let mut child = (command(&place, &["--batch-tokens", "1"]).stdout(Stdio::piped()))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_an_error() {
    let place = place(&[row("a", "b")]);
    refuses(
        &place,
        &["--out", "/dev/full"],
        &["/dev/full", "cannot write to"],
    );
}

/// What transformers 5.23 gives for a Llama of 260,000 parameters, in f32.
#[test]
fn sums_of_a_trained_model_are_those_of_transformers() {
    let Some(data) = std::env::var_os("PISTAR_DATA") else {
        println!("skipped: PISTAR_DATA does not name a folder that holds stories260K_hf");
        return;
    };
    let place = place(&[
        row(
            "Once upon a time",
            ", there was a little girl named Lily. She loved to play.",
        ),
        row("", "Once upon a time, there was a big cat."),
        row("Tom said:", " \"Hello!\"\nThen he ran."),
        row("One day", " é ü 日本"),
        row("She was", "."),
        json!({"text": "Lily and Tom were friends."}).to_string(),
    ]);
    let model = Path::new(&data).join("stories260K_hf");
    let output = Command::new(env!("CARGO_BIN_EXE_pistar"))
        .args(["logprobs", "--data", "rows.jsonl", "--model"])
        .arg(model)
        .current_dir(place.path())
        .output()
        .unwrap();
    let expected = [
        (-32.681_499, 18),
        (-34.229_656, 13),
        (-61.120_843, 16),
        (-263.031_066, 13),
        (-34.855_955, 2),
        (-33.116_469, 10),
    ];
    let answers = answers(&output.stdout);
    assert_eq!(answers.len(), expected.len());
    for (answer, expected) in answers.iter().zip(expected) {
        assert_eq!(answer.1, expected.1);
        assert!(
            (answer.0 - expected.0).abs() < 1e-4,
            "{answer:?} {expected:?}"
        );
    }
}
