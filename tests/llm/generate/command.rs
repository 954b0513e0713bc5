//! `pistar generate`: what it prints, and what it refuses.

use std::fs;
use std::process::{Command, Output};

use candle_core::{DType, Device};
use pistar::llm::model::decoder::Decoder;
use pistar::llm::sample::generate::{Sampling, generate, prompt_tokens};
use pistar::observer::Silent;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fixtures::folder;
use crate::texts::spaces;

/// A folder with `model`, a tiny Llama that takes 32 tokens, and `prompts.jsonl`.
fn place(rows: &[String]) -> TempDir {
    let place = tempfile::tempdir().unwrap();
    let model = place.path().join("model");
    fs::create_dir(&model).unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(folder("llama").join(name), model.join(name)).unwrap();
    }
    spaces().save(&model);
    fs::write(place.path().join("prompts.jsonl"), rows.join("\n")).unwrap();
    place
}

fn run(place: &TempDir, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pistar"))
        .args(["generate", "--model", "model"])
        .args(more)
        .current_dir(place.path())
        .output()
        .unwrap()
}

fn rows(text: &[u8]) -> Vec<Value> {
    (std::str::from_utf8(text).unwrap().lines())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn prompts(texts: &[&str]) -> Vec<String> {
    (texts.iter())
        .map(|t| json!({"more": 1, "prompt": t}).to_string())
        .collect()
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
fn rows_are_the_library_s_in_the_order_of_prompts() {
    let texts = ["a tim", "", "z me b"];
    let place = place(&prompts(&texts));
    let more = [
        "--prompts",
        "prompts.jsonl",
        "--samples",
        "3",
        "--temperature",
        "1.2",
        "--top-k",
        "35",
        "--top-p",
        "0.98",
        "--max-new-tokens",
        "9",
        "--seed",
        "4",
        "--dtype",
        "f64",
    ];
    let output = run(&place, &more);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.is_empty(), "{said}");
    let found = rows(&output.stdout);
    let model = Decoder::load(place.path().join("model"), DType::F64, &Device::Cpu).unwrap();
    let words = spaces().load();
    let tokens = texts.map(|text| prompt_tokens(&words, text).unwrap());
    assert_eq!(tokens[1], [1]);
    let sampling = Sampling {
        temperature: 1.2,
        top_k: Some(35),
        top_p: 0.98,
        max_new_tokens: 9,
        samples: 3,
        ..Sampling::default()
    };
    let all = generate(&model, &[2], &tokens, &sampling, 4, 1, &Silent).unwrap();
    assert_eq!(found.len(), 9);
    for (i, (row, generated)) in found.iter().zip(&all).enumerate() {
        assert_eq!(row["prompt"], texts[i / 3]);
        assert_eq!(row["tokens"], generated.tokens.len());
        assert_eq!(row["ended"], generated.ended);
        assert_eq!(row["log_prob"], generated.log_prob);
        assert_eq!(row["entropy"], generated.entropy);
        let end = generated.tokens.len() - usize::from(generated.ended);
        // The prompt's beginning space is no part of it.
        let whole = [&tokens[i / 3][..], &generated.tokens[..end]].concat();
        let whole = words.decode(&whole).unwrap();
        let before = words.decode(&tokens[i / 3]).unwrap();
        assert_eq!(
            format!("{before}{}", row["completion"].as_str().unwrap()),
            whole
        );
        assert_eq!(row.as_object().unwrap().len(), 6);
    }
    assert!(all.iter().any(|g| g.ended) || all.iter().all(|g| g.tokens.len() == 9));
    // A file, whole; any batch.
    let out = [&more[..], &["--out", "out.jsonl", "--batch", "2"]].concat();
    let output2 = run(&place, &out);
    assert!(output2.status.success() && output2.stdout.is_empty());
    assert_eq!(
        fs::read(place.path().join("out.jsonl")).unwrap(),
        output.stdout
    );
}

#[test]
fn rows_are_read_by_other_commands_and_say_the_same() {
    let place = place(&prompts(&["a tim", "me"]));
    let more = [
        "--prompts",
        "prompts.jsonl",
        "--samples",
        "4",
        "--out",
        "out.jsonl",
        "--dtype",
        "f64",
        "--max-new-tokens",
        "6",
        "--ignore-eos",
    ];
    assert!(run(&place, &more).status.success());
    let generated = rows(&fs::read(place.path().join("out.jsonl")).unwrap());
    // Whose text has the tokens that were drawn; another text may have others.
    let words = spaces().load();
    let same = |row: &Value| {
        let (prompt, completion) = (row["prompt"].as_str(), row["completion"].as_str());
        let prompt = prompt_tokens(&words, prompt.unwrap()).unwrap();
        let whole = format!("{}{}", row["prompt"].as_str().unwrap(), completion.unwrap());
        let whole = prompt_tokens(&words, &whole).unwrap();
        whole.len() == prompt.len() + row["tokens"].as_u64().unwrap() as usize
    };
    assert!(generated.iter().any(same));
    let output = Command::new(env!("CARGO_BIN_EXE_pistar"))
        .args([
            "logprobs",
            "--model",
            "model",
            "--data",
            "out.jsonl",
            "--allow-empty",
        ])
        .current_dir(place.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(rows(&output.stdout).len(), 8);
}

#[test]
fn prompts_on_the_command_line_and_what_the_model_takes() {
    let place = place(&[]);
    let more = [
        "--prompt",
        "a",
        "--prompt",
        "b",
        "--temperature",
        "0",
        "--ignore-eos",
    ];
    let output = run(&place, &more);
    assert!(output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("2 of 2 completions were cut where the model takes no more (32"),
        "{said}"
    );
    let found = rows(&output.stdout);
    // `<s> ▁a`, and `<s> ▁ b`.
    assert_eq!(found[0]["tokens"], 30);
    assert_eq!(found[1]["tokens"], 29);
    assert_eq!(found[0]["ended"], false);
}

#[test]
fn bad_requests_are_told_before_anything_is_done() {
    let good = prompts(&["a", "b"]);
    let place = place(&good);
    let file = ["--prompts", "prompts.jsonl"];
    let with = |more: &[&'static str]| [&file[..], more].concat();
    refuses(
        &place,
        &with(&["--temperature", "-1"]),
        &["temperature: it is -1", "0 for the"],
    );
    refuses(
        &place,
        &with(&["--top-p", "0"]),
        &["top_p: it is 0", "above 0"],
    );
    refuses(&place, &with(&["--top-p", "2"]), &["top_p: it is 2"]);
    refuses(&place, &with(&["--top-k", "0"]), &["top_k: it is 0"]);
    refuses(&place, &with(&["--batch", "0"]), &["batch: it is 0"]);
    refuses(
        &place,
        &with(&["--out", "none/a.jsonl"]),
        &["none", "cannot write to"],
    );
    refuses(
        &place,
        &with(&["--out", "model"]),
        &["--out: it is `model`", "name a file"],
    );
    refuses(
        &place,
        &with(&["--adapter", "none"]),
        &["none", "there is no such folder"],
    );
    let rows = |rows: &[String]| {
        fs::write(place.path().join("prompts.jsonl"), rows.join("\n")).unwrap();
    };
    rows(&[]);
    refuses(&place, &file, &["prompts.jsonl: it has no rows"]);
    rows(&[
        good[0].clone(),
        json!({"question": "a", "answer": "b"}).to_string(),
    ]);
    let says = [
        "prompts.jsonl:2: column `prompt` is missing",
        "answer, question",
    ];
    refuses(&place, &file, &says);
    rows(&[json!({"prompt": 3}).to_string()]);
    refuses(&place, &file, &["prompts.jsonl:1: `prompt` is no text"]);
    rows(&[
        good[0].clone(),
        json!({"prompt": "b".repeat(31)}).to_string(),
    ]);
    let says = [
        "prompts.jsonl:2: the prompt has 33 tokens",
        "the model takes 32",
    ];
    refuses(&place, &file, &says);
    refuses(
        &place,
        &["--prompt", &"b".repeat(31)],
        &["the prompt has 33 tokens"],
    );
    let output = run(&place, &[]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("--prompts <FILE>|--prompt <TEXT>"), "{said}");
    let names: Vec<_> = fs::read_dir(&place)
        .unwrap()
        .map(|f| f.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), 2);
}

#[test]
fn an_adapter_is_put_on_its_base() {
    let place = place(&[]);
    let adapter = folder("lora-llama");
    let text = |more: &[&str]| {
        let output = run(
            &place,
            &[&["--prompt", "a", "--temperature", "0"], more].concat(),
        );
        assert!(output.status.success(), "{output:?}");
        rows(&output.stdout)[0]["log_prob"].as_f64().unwrap()
    };
    assert_ne!(text(&[]), text(&["--adapter", adapter.to_str().unwrap()]));
}

#[test]
fn prompts_may_be_other_columns_or_conversations() {
    let place = place(&prompts(&["a tim", "z me b"]));
    let write = |name: &str, rows: [Value; 2]| {
        let text = rows.map(|row| row.to_string()).join("\n");
        fs::write(place.path().join(name), text).unwrap();
    };
    let asked = |text: &str| json!({"question": text});
    write("asked.jsonl", ["a tim", "z me b"].map(asked));
    let turn = |text: &str| json!({"prompt": [{"role": "user", "content": text}]});
    write("turns.jsonl", ["a tim", "z me b"].map(turn));
    let template = "{{ messages[0].content }}";
    fs::write(place.path().join("plain.jinja"), template).unwrap();
    let ran = |more: &[&str]| {
        let output = run(&place, &[more, &["--seed", "3"]].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        output.stdout
    };
    let wanted = ran(&["--prompts", "prompts.jsonl"]);
    let mapped = ["--prompts", "asked.jsonl", "--column", "prompt=question"];
    assert_eq!(ran(&mapped), wanted);
    let rendered = ["--prompts", "turns.jsonl", "--chat-template", "plain.jinja"];
    assert_eq!(ran(&rendered), wanted);
    refuses(
        &place,
        &["--prompts", "asked.jsonl"],
        &["asked.jsonl:1", "`prompt` is missing", "question"],
    );
    refuses(
        &place,
        &["--prompts", "turns.jsonl"],
        &["chat template", "--chat-template"],
    );
}
