//! Rewards, `pistar score` and `pistar evaluate`.

mod evaluated;
mod judged;
mod models;
mod scored;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use crate::fixtures::folder;
use crate::texts::spaces;

/// Copies a model of the fixtures, and gives it a tokenizer.
pub fn model(from: &str, to: &Path) {
    fs::create_dir(to).unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(folder(from).join(name), to.join(name)).unwrap();
    }
    spaces().save(to);
}

/// A folder with `model`, a tiny Llama that takes 32 tokens, `reward`, a tiny reward model, and
/// `rows.jsonl`.
pub fn place(rows: &[Value]) -> TempDir {
    let place = tempfile::tempdir().unwrap();
    model("llama", &place.path().join("model"));
    model("reward", &place.path().join("reward"));
    write(&place, "rows.jsonl", rows);
    place
}

pub fn write(place: &TempDir, name: &str, rows: &[Value]) {
    let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
    fs::write(place.path().join(name), lines.join("\n")).unwrap();
}

pub fn run(place: &TempDir, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pistar"))
        .args(args)
        .current_dir(place.path())
        .output()
        .unwrap()
}

#[track_caller]
pub fn runs(place: &TempDir, args: &[&str]) -> String {
    let output = run(place, args);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout).unwrap()
}

pub fn lines(text: &str) -> Vec<Value> {
    (text.lines())
        .map(|l| serde_json::from_str(l).unwrap())
        .collect()
}

/// The command must fail with exit code 2, one message with these parts, and nothing printed.
#[track_caller]
pub fn refuses(place: &TempDir, args: &[&str], says: &[&str]) {
    let output = run(place, args);
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
