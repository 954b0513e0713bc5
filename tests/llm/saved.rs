//! Folders for transformers and peft to load: `fixtures/check_saved.py` compares the numbers that
//! are written beside them. Every folder here also loads in ourselves with the same numbers.

use std::fs;
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use pistar::llm::internals::tensor::tape::Tape;
use pistar::llm::model::decoder::Decoder;
use pistar::llm::model::heads::{ScalarHead, Scorer};
use pistar::llm::model::lora::{AdapterConfig, Target};
use pistar::llm::model::network::Network;
use pistar::llm::model::saving::Saving;
use pistar::llm::model::sequence::{Packed, Sequence};
use pistar::random::{Purpose, Stream};
use serde_json::{Value, json};

use crate::fixtures::{Expected, folder, models, numbers};

fn place(name: &str) -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join("saved")
        .join(name);
    let _ = fs::remove_dir_all(&dir);
    dir
}

fn load(base: &str) -> Decoder {
    Decoder::load(folder(base), DType::F32, &Device::Cpu).unwrap()
}

fn body(base: &str) -> Decoder {
    Decoder::load_body(folder(base), DType::F32, &Device::Cpu).unwrap()
}

/// Moves every number of the parameters with that in their name.
fn shake(model: &mut Decoder, part: &str) {
    let mut stream = Stream::new(7, Purpose::Noise, 0);
    let names: Vec<String> = model.parameters().iter().map(|p| p.name.clone()).collect();
    for name in names.iter().filter(|n| n.contains(part)) {
        let id = model.parameters().find(name).unwrap();
        let tensor = &model.parameters().get(id).tensor;
        let moved = numbers(tensor)
            .iter()
            .map(|x| x + 0.2 * (stream.uniform() - 0.5))
            .collect();
        let moved = Tensor::from_vec::<_, f64>(moved, tensor.dims(), &Device::Cpu).unwrap();
        model.parameters_mut().set(name, &moved).unwrap();
    }
}

fn tokens() -> Vec<Vec<u32>> {
    Expected::of("llama").sequences
}

fn logits(model: &Decoder) -> Vec<Vec<f64>> {
    let one =
        |tokens: &Vec<u32>| numbers(&model.logits(&Packed::new([tokens.as_slice()])).unwrap());
    tokens().iter().map(one).collect()
}

/// A scalar head's numbers, and the model back.
fn scores(decoder: Decoder, head: ScalarHead) -> (Vec<f64>, Decoder) {
    let scorer = Scorer { decoder, head };
    let sequences: Vec<_> = (tokens().into_iter())
        .map(|tokens| Sequence::new(tokens, 1).unwrap())
        .collect();
    let sequences: Vec<_> = sequences.iter().collect();
    let output = scorer.forward(&Tape::idle(), &sequences).unwrap();
    (numbers(output.pieces.value()), scorer.decoder)
}

fn note(dir: &std::path::Path, kind: &str, base: Option<&str>, found: Value) {
    let note = json!({"kind": kind, "base": base, "sequences": tokens(), "numbers": found});
    fs::write(dir.join("ours.json"), note.to_string()).unwrap();
}

#[test]
fn language_models() {
    for name in models() {
        let mut model = load(name);
        shake(&mut model, "");
        let dir = place(name);
        let shard = if name == "qwen2" { 8_000 } else { u64::MAX };
        model
            .save(
                &dir,
                &Saving {
                    shard,
                    ..Saving::default()
                },
            )
            .unwrap();
        let found = logits(&model);
        note(&dir, "causal", None, json!(found));
        let again = Decoder::load(&dir, DType::F32, &Device::Cpu).unwrap();
        assert_eq!(logits(&again), found, "{name}");
    }
}

#[test]
fn random_models() {
    for name in models() {
        let path = folder(name).join("config.json");
        let model = Decoder::from_config(path, 3, DType::F32, &Device::Cpu).unwrap();
        let dir = place(&format!("random-{name}"));
        model.save(&dir, &Saving::default()).unwrap();
        let found = logits(&model);
        note(&dir, "causal", None, json!(found));
        let again = Decoder::load(&dir, DType::F32, &Device::Cpu).unwrap();
        assert_eq!(logits(&again), found, "{name}");
    }
}

#[test]
fn reward_and_value_models() {
    for name in models() {
        let mut model = body(name);
        let head = ScalarHead::Reward;
        head.add(&mut model, 1).unwrap();
        shake(&mut model, "score");
        let dir = place(&format!("reward-{name}"));
        model.save(&dir, &Saving::default()).unwrap();
        let (found, _) = scores(model, head);
        note(&dir, "reward", None, json!(found));
        let mut again = Decoder::load_body(&dir, DType::F32, &Device::Cpu).unwrap();
        head.load(&mut again, &dir).unwrap();
        assert_eq!(scores(again, head).0, found, "{name}");
    }
    let mut model = load("llama");
    let head = ScalarHead::Value;
    head.add(&mut model, 1).unwrap();
    shake(&mut model, "v_head");
    let dir = place("value-llama");
    model.save(&dir, &Saving::default()).unwrap();
    let (found, _) = scores(model, head);
    note(&dir, "value", None, json!(found));
    let mut again = Decoder::load(&dir, DType::F32, &Device::Cpu).unwrap();
    head.load(&mut again, &dir).unwrap();
    assert_eq!(scores(again, head).0, found);
}

/// Writes a field of a folder's configuration.
fn configure(dir: &std::path::Path, field: &str, value: Value) {
    let path = dir.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config[field] = value;
    fs::write(path, config.to_string()).unwrap();
}

/// Where the head is read depends on the configuration's padding, as in transformers: at the last
/// token that is none, wherever it stands.
#[test]
fn reward_models_whose_padding_ends_a_sequence() {
    let head = ScalarHead::Reward;
    // Of a sequence of which two tokens are left without it.
    let all = tokens();
    let longest = (all
        .iter()
        .enumerate()
        .max_by_key(|(_, tokens)| tokens.len()))
    .unwrap();
    let (at, last) = (longest.0, *longest.1.last().unwrap());
    for (name, padding) in [
        ("end", json!(last)),
        ("null", Value::Null),
        ("negative", json!(-1)),
        ("beyond", json!(4000)),
    ] {
        let mut model = body("llama");
        head.add(&mut model, 1).unwrap();
        shake(&mut model, "score");
        let dir = place(&format!("reward-padding-{name}"));
        model.save(&dir, &Saving::default()).unwrap();
        configure(&dir, "pad_token_id", padding.clone());
        let mut again = Decoder::load_body(&dir, DType::F32, &Device::Cpu).unwrap();
        head.load(&mut again, &dir).unwrap();
        let (found, _) = scores(again, head);
        note(&dir, "reward", None, json!(found));
        let unpadded = tokens().into_iter().map(|mut tokens| {
            while tokens.len() > 1 && tokens.last().is_some_and(|&t| padding == json!(t)) {
                tokens.pop();
            }
            Sequence::new(tokens, 1).unwrap()
        });
        let unpadded: Vec<_> = unpadded.collect();
        let (all, scorer) = (
            unpadded.iter().collect::<Vec<_>>(),
            Scorer {
                decoder: model,
                head,
            },
        );
        let expected = scorer.forward(&Tape::idle(), &all).unwrap();
        let expected = numbers(expected.pieces.value());
        assert!(crate::fixtures::largest(&found, &expected) < 1e-6, "{name}");
        let shortened = all[at].tokens().len() < tokens()[at].len();
        assert_eq!(shortened, name == "end");
    }
}

/// A reward model that is trained anew reads the end of completions, and is saved with a padding that
/// says so; with an adapter, whose configuration is its base's, it reads what that says.
#[test]
fn a_new_reward_model_does_not_pad_with_its_end() {
    let work = tempfile::tempdir().unwrap();
    let model = work.path().join("base");
    let config = folder("llama").join("config.json");
    let decoder = Decoder::from_config(config, 3, DType::F32, &Device::Cpu).unwrap();
    decoder.save(&model, &Saving::default()).unwrap();
    let vocabulary: serde_json::Map<String, Value> = ('a'..='z')
        .chain(['\u{120}'])
        .map(String::from)
        .chain(["<s>", "</s>", "<pad>"].map(String::from))
        .zip(0..)
        .map(|(token, id)| (token, id.into()))
        .collect();
    let [bos, end, padding] = ["<s>", "</s>", "<pad>"].map(|token| vocabulary[token].clone());
    let tokenizer = json!({"version": "1.0", "added_tokens": [], "pre_tokenizer": null,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []}});
    fs::write(model.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    configure(&model, "bos_token_id", bos);
    configure(&model, "eos_token_id", end.clone());
    configure(&model, "pad_token_id", end.clone());
    let data = work.path().join("data.jsonl");
    let row = r#"{"prompt": "a", "chosen": "b", "rejected": "c"}"#;
    fs::write(&data, [row; 4].join("\n")).unwrap();
    for (i, (named, rank, saved)) in [
        ("</s>", "0", Value::Null),
        ("<pad>", "0", padding),
        ("</s>", "2", end),
    ]
    .into_iter()
    .enumerate()
    {
        let names = json!({"eos_token": "</s>", "pad_token": named});
        fs::write(model.join("tokenizer_config.json"), names.to_string()).unwrap();
        let out = work.path().join(format!("out{i}"));
        let run = std::process::Command::new(env!("CARGO_BIN_EXE_pistar"))
            .args([
                "train",
                "reward-model",
                "--batch",
                "2",
                "--epochs",
                "1",
                "--lr",
                "1e-3",
            ])
            .args(["--lora-rank", rank, "--checkpoint-every", "0", "--model"])
            .arg(&model)
            .args([std::ffi::OsStr::new("--data"), data.as_os_str()])
            .args([std::ffi::OsStr::new("--out"), out.as_os_str()])
            .output()
            .unwrap();
        assert!(
            run.status.success(),
            "{}",
            String::from_utf8_lossy(&run.stderr)
        );
        let from = if rank == "0" {
            out.join("model")
        } else {
            model.clone()
        };
        let config: Value =
            serde_json::from_slice(&fs::read(from.join("config.json")).unwrap()).unwrap();
        assert_eq!(config["pad_token_id"], saved, "{named} {rank}");
    }
}

#[test]
fn adapters() {
    let list = |names: &[&str]| Target::Names(names.iter().map(|&n| n.into()).collect());
    let cases = [
        ("llama", Target::AllLinear),
        ("llama3", list(&["o_proj", "gate_proj"])),
        ("llama-linear", list(&["lm_head", "k_proj"])),
        ("mistral", Target::Pattern(r".*\.1\.mlp\..*".into())),
        ("qwen2", list(&["q_proj", "k_proj", "v_proj"])),
        ("gemma", Target::AllLinear),
        ("gpt2", Target::AllLinear),
        ("qwen3", Target::AllLinear),
        ("opt-350m", Target::AllLinear),
        ("gptj", Target::AllLinear),
        ("bloom", Target::AllLinear),
    ];
    for (base, target) in cases {
        let mut model = load(base);
        let mut config = AdapterConfig::new(2, 3.0, target);
        config.rank_stabilised = base == "gemma";
        model.add_adapter(config, 9).unwrap();
        shake(&mut model, "lora_");
        let dir = place(&format!("lora-{base}"));
        model.save_adapter(&dir).unwrap();
        let found = logits(&model);
        note(&dir, "adapter", Some(base), json!(found));
        let mut again = load(base);
        again.load_adapter(&dir).unwrap();
        assert_eq!(logits(&again), found, "{base}");
        let merged = model.merge().unwrap();
        let dir = place(&format!("merged-{base}"));
        merged.save(&dir, &Saving::default()).unwrap();
        note(&dir, "causal", None, json!(logits(&merged)));
    }
    let head = ScalarHead::Reward;
    let mut model = body("reward");
    head.load(&mut model, folder("reward")).unwrap();
    model
        .add_adapter(AdapterConfig::new(2, 3.0, list(&["q_proj", "v_proj"])), 9)
        .unwrap();
    shake(&mut model, "lora_");
    shake(&mut model, "score");
    let dir = place("lora-reward");
    model.save_adapter(&dir).unwrap();
    let (found, _) = scores(model, head);
    note(&dir, "reward adapter", Some("reward"), json!(found));
}
