//! A folder to train in: a tiny model with a tokenizer, and data for every objective.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use candle_core::{DType, Device};
use pistar::llm::model::decoder::Decoder;
use pistar::llm::model::saving::Saving;
use pistar::random::{Purpose, Stream};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

pub struct Place(TempDir);

/// Sends a signal, such as `-INT`.
pub fn send(child: &Child, signal: &str) {
    let id = child.id().to_string();
    let sent = Command::new("kill").args([signal, &id]).status().unwrap();
    assert!(sent.success());
}

/// Signals of those that a program started here hears: under `nohup` the one that a terminal sends
/// when it goes is ignored, and stays so.
pub fn heard<const N: usize>(signals: [&'static str; N]) -> Vec<&'static str> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let ignored = mask.is_some_and(|mask| mask & 1 == 1);
    if ignored {
        println!("SIGHUP is ignored here, and not tried");
    }
    let heard = signals
        .into_iter()
        .filter(|name| !ignored || *name != "-HUP");
    heard.collect()
}

/// Files of a run that say when and where.
const TIMED: [&str; 5] = [
    "metrics.jsonl",
    "events.out.tfevents.0",
    "trainer_state.json",
    "machine.json",
    ".lock",
];

/// Words of the tokenizer, after `<unk>`, `<s>` and `</s>`.
const WORDS: u32 = 29;

impl Place {
    /// With `model/` and `data.jsonl`, whose rows have the columns of every objective.
    pub fn new(rows: u64) -> Self {
        let place = Self(TempDir::new().unwrap());
        place.model("model", 1);
        place.data("data.jsonl", rows, 1);
        place
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.at(name)).unwrap()
    }

    /// A random Llama with a tokenizer of words.
    pub fn model(&self, name: &str, seed: u64) {
        self.model_of(name, seed, WORDS);
    }

    /// With so many words: the more there are, the longer are its texts.
    pub fn model_of(&self, name: &str, seed: u64, words: u32) {
        let config = json!({
            "model_type": "llama", "architectures": ["LlamaForCausalLM"],
            "vocab_size": words + 3, "hidden_size": 16, "intermediate_size": 24,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "hidden_act": "silu",
            "initializer_range": 0.3, "tie_word_embeddings": false,
        });
        fs::write(self.at("config.json"), config.to_string()).unwrap();
        let path = self.at("config.json");
        let model = Decoder::from_config(path, seed, DType::F32, &Device::Cpu).unwrap();
        model.save(self.at(name), &Saving::default()).unwrap();
        let words: Vec<String> = (["<unk>", "<s>", "</s>"].map(String::from).into_iter())
            .chain((0..words).map(|i| format!("w{i}")))
            .collect();
        let vocabulary: BTreeMap<&String, usize> = (words.iter().enumerate())
            .map(|(i, word)| (word, i))
            .collect();
        let special = |i: usize| {
            json!({"id": i, "content": words[i], "special": true, "single_word": false,
                "lstrip": false, "rstrip": false, "normalized": false})
        };
        let tokenizer = json!({
            "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
            "added_tokens": [special(0), special(1), special(2)],
            "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null, "decoder": null,
            "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"},
        });
        let dir = self.at(name);
        fs::write(dir.join("tokenizer.json"), tokenizer.to_string()).unwrap();
        let special = json!({"bos_token": "<s>", "eos_token": "</s>"});
        fs::write(dir.join("tokenizer_config.json"), special.to_string()).unwrap();
    }

    pub fn data(&self, name: &str, rows: u64, seed: u64) {
        let mut lines = String::new();
        for row in 0..rows {
            let mut stream = Stream::new(seed, Purpose::Problem, row);
            let mut text = |most: u32| -> String {
                let words = (0..1 + stream.below(most)).map(|_| stream.below(WORDS));
                words.map(|w| format!(" w{w}")).collect()
            };
            let (prompt, a, b, c) = (text(5), text(6), text(6), text(6));
            let mut score = || f64::from(stream.below(1000)) / 100.0;
            let scores = [score(), score() + 10.0];
            let reward = score();
            let law = -score();
            // One that another policy wrote, and one of π_φ itself.
            let proposals = json!([
                {"completion": c, "logprob": law, "policy_logprob": law - 0.5},
                {"completion": a},
            ]);
            let line = json!({
                "prompt": prompt, "chosen": b, "rejected": a, "chosen_score": scores[1],
                "rejected_score": scores[0], "completion": c, "reward": reward,
                "label": row % 2 == 0, "completions": [b, a],
                "scores": [scores[1], scores[0]], "proposals": proposals,
            });
            lines += &format!("{line}\n");
        }
        fs::write(self.at(name), lines).unwrap();
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pistar"));
        command.args(args).current_dir(self.0.path());
        command.stdin(Stdio::null());
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// `pistar train`, which must come to its end.
    pub fn train(&self, args: &[&str]) {
        let output = self.run(&[&["train"], args].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {said}");
    }

    /// `pistar train`, which must refuse: what it says.
    pub fn refused(&self, args: &[&str]) -> String {
        let output = self.run(&[&["train"], args].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        said
    }

    /// Rows of a run without the times, which alone may differ.
    pub fn rows(&self, run: &str) -> Vec<Value> {
        let text = self.read(&format!("{run}/metrics.jsonl"));
        let row = |line: &str| {
            let mut row: Value = serde_json::from_str(line).unwrap();
            let fields = row.as_object_mut().unwrap();
            assert!(fields.remove("seconds").is_some());
            let rates = ["tokens_per_second", "eval_runtime"];
            let rates = rates.map(|name| fields.remove(name).is_some());
            assert!(rates == [true, false] || rates == [false, true], "{line}");
            row
        };
        text.lines().map(row).collect()
    }

    /// Makes the checksums in a checkpoint's state those of its files.
    pub fn seal(&self, checkpoint: &str) {
        let hash = |bytes: &[u8]| -> String {
            let hash = Sha256::digest(bytes);
            hash.iter().map(|b| format!("{b:02x}")).collect()
        };
        let file = format!("{checkpoint}/trainer_state.json");
        let mut state: Value = serde_json::from_str(&self.read(&file)).unwrap();
        state.as_object_mut().unwrap().remove("sha256");
        let mut files = self.files(checkpoint);
        files.retain(|name, _| !name.ends_with("trainer_state.json"));
        for (name, bytes) in files {
            state["files"][name.to_str().unwrap()] = hash(&bytes).into();
        }
        // Its own is of its JSON with sorted keys and without blanks.
        let sealed = pistar::file::json::sorted(state.clone()).to_string();
        state["sha256"] = hash(sealed.as_bytes()).into();
        fs::write(self.at(&file), state.to_string()).unwrap();
    }

    /// All files of a run but those that say when and where.
    pub fn lasting(&self, run: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = self.files(run);
        files.retain(|name, _| !TIMED.iter().any(|timed| name.ends_with(timed)));
        files
    }

    /// Copies a folder to another.
    pub fn copy(&self, from: &str, to: &str) {
        for (name, bytes) in self.files(from) {
            let path = self.at(to).join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }

    /// All files below a folder.
    pub fn files(&self, dir: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        collect(&self.at(dir), &self.at(dir), &mut files);
        files
    }
}

fn collect(root: &Path, dir: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, files);
        } else {
            let name = path.strip_prefix(root).unwrap().to_path_buf();
            files.insert(name, fs::read(&path).unwrap());
        }
    }
}
