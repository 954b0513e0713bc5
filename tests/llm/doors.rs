//! Every file of the language half comes through the one door: a byte order mark changes nothing, a key
//! that is there twice is refused, absurd numbers are too.

use std::fs;
use std::path::Path;

use candle_core::{DType, Device};
use pistar::Result;
use pistar::llm::internals::text::data::file::JsonLines;
use pistar::llm::model::config::Config;
use pistar::llm::model::decoder::Decoder;
use pistar::llm::sample::reward::{Candidate, Resources, Specification};
use pistar::llm::text::tokenizer::Tokenizer;
use pistar::llm::train::Settings;
use pistar::loss::InputKind;
use pistar::observer::Silent;
use tempfile::TempDir;

use crate::data::{file, read, says};
use crate::fixtures::folder;

/// A copy of a fixture's files, each changed.
fn changed(name: &str, change: impl Fn(&str, Vec<u8>) -> Vec<u8>) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(folder(name)).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_file() {
            let bytes = change(&file, fs::read(&path).unwrap());
            fs::write(dir.path().join(&file), bytes).unwrap();
        }
    }
    dir
}

fn marked(file: &str, bytes: Vec<u8>) -> Vec<u8> {
    if file.ends_with(".json") {
        ["\u{feff}".as_bytes(), &bytes].concat()
    } else {
        bytes
    }
}

/// The first key of the JSON object in `file` once more, at its end.
fn twice(which: &str, key: &str) -> impl Fn(&str, Vec<u8>) -> Vec<u8> {
    move |file, bytes| {
        if file != which {
            return bytes;
        }
        let text = String::from_utf8(bytes).unwrap();
        let (body, _) = text.rsplit_once('}').unwrap();
        format!("{body}, \"{key}\": 1}}").into()
    }
}

fn load(dir: &Path) -> Result<Decoder> {
    Decoder::load(dir, DType::F32, &Device::Cpu)
}

#[test]
fn a_mark_before_a_models_files_changes_nothing() {
    let dir = changed("llama", marked);
    load(dir.path()).unwrap();
    let dir = changed("tokenizer", marked);
    let (plain, ours) = (
        Tokenizer::load(folder("tokenizer")),
        Tokenizer::load(dir.path()),
    );
    assert_eq!(plain.unwrap().eos(), ours.unwrap().eos());
    let dir = tempfile::tempdir().unwrap();
    let toml = dir.path().join("reward.toml");
    fs::write(&toml, "\u{feff}kind = 'regex'\npattern = 'a'\n").unwrap();
    Specification::parse(&[toml.display().to_string()]).unwrap();
}

#[test]
fn a_key_twice_in_a_models_files_is_refused() {
    let dir = changed("llama", twice("config.json", "hidden_size"));
    says(
        Config::read(dir.path().join("config.json")),
        &["config.json", "the key `hidden_size` is there twice"],
    );
    for (which, key) in [
        ("tokenizer.json", "model"),
        ("tokenizer_config.json", "eos_token"),
    ] {
        let dir = changed("tokenizer", twice(which, key));
        says(
            Tokenizer::load(dir.path()),
            &[which, &format!("the key `{key}` is there twice")],
        );
    }
    // Two tensors of one name in a header: the last would have won.
    let dir = changed("llama", |file, bytes| {
        if file != "model.safetensors" {
            return bytes;
        }
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header = std::str::from_utf8(&bytes[8..8 + length])
            .unwrap()
            .trim_end();
        let first = header
            .split('"')
            .find(|name| name.contains("weight"))
            .unwrap();
        let info = header.split(&format!("\"{first}\":")).nth(1).unwrap();
        let info = &info[..=info.find('}').unwrap()];
        let header = format!("{},\"{first}\":{info}}}", header.strip_suffix('}').unwrap());
        let length = (header.len() as u64).to_le_bytes();
        [
            &length,
            header.as_bytes(),
            &bytes[8 + bytes_header(&bytes)..],
        ]
        .concat()
    });
    says(
        load(dir.path()).map(|_| ()),
        &["model.safetensors", "is there twice"],
    );
}

fn bytes_header(bytes: &[u8]) -> usize {
    u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize
}

#[test]
fn a_key_twice_in_a_row_is_refused_at_every_depth() {
    let good = r#"{"prompt": "at", "chosen": " a", "rejected": " me"}"#;
    for (row, key) in [
        (
            r#"{"prompt": "a", "prompt": "z", "chosen": " a", "rejected": " me"}"#,
            "prompt",
        ),
        (
            r#"{"prompt": "a", "chosen": " a", "rejected": " me", "x": [{"y": 1, "y": 2}]}"#,
            "y",
        ),
        (
            r#"{"prompt": "a", "chosen": " a", "rejected": " me", "\u0070rompt": "b"}"#,
            "prompt",
        ),
    ] {
        let twice = format!("`{key}` is there twice");
        says(
            read(InputKind::LabelledPairs, format!("{good}\n{row}\n")),
            &["data.jsonl:2", &twice],
        );
        let (_folder, path) = file(format!("[{good},\n{row}]"));
        let rows = JsonLines::open(&path).unwrap();
        says(rows.row(1), &["element 2", &twice]);
    }
}

#[test]
fn toml_is_told_in_short() {
    let long = "1, ".repeat(20_000);
    let error = Settings::parse(&format!("lr = [{long} = ]"), "run.toml")
        .unwrap_err()
        .to_string();
    assert!(error.len() < 1000 && error.contains("run.toml"), "{error}");
    let dir = tempfile::tempdir().unwrap();
    let toml = dir.path().join("reward.toml");
    fs::write(&toml, format!("kind = [{long} = ]")).unwrap();
    let error = Specification::parse(&[toml.display().to_string()])
        .unwrap_err()
        .to_string();
    assert!(
        error.len() < 1000 && error.contains("reward.toml"),
        "{error}"
    );
}

#[test]
fn absurd_rewards_are_refused_where_they_enter() {
    for text in [
        r#"{"prompt": "at", "completions": [" me", " a"], "scores": [-1, 1.7e308]}"#,
        r#"{"prompt": "at", "completions": [" me", " a"], "scores": [-1.1e100, 1]}"#,
    ] {
        says(
            read(InputKind::ScoredPairs, text),
            &["data.jsonl:1", "`scores", "1e100"],
        );
    }
    let dir = tempfile::tempdir().unwrap();
    let lexicon = dir.path().join("lexicon.tsv");
    fs::write(&lexicon, "\u{feff}good\t1.7e308\nbad\t-1\n").unwrap();
    let flag = format!("lexicon,measure=sum:{}", lexicon.display());
    let fields = serde_json::Map::new();
    let row = |completion| Candidate {
        prompt: "",
        completion,
        index: 0,
        fields: &fields,
    };
    for flag in [flag.as_str(), "length,weight=1e200"] {
        let scored = Specification::parse(&[flag])
            .and_then(|s| s.build(&Resources::default()))
            .and_then(|mut sum| sum.scored(&[row("good good")], &Silent));
        says(scored, &["1e100"]);
    }
}
