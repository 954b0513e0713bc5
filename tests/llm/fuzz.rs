//! Every format that is read, fed with what is almost one: an answer or an error, never a panic, an
//! abort, ten seconds, or two gigabytes. Each input has a process of its own under that limit.
//!
//! `PISTAR_FUZZ=10000 cargo test --release --test llm fuzz -- --nocapture` tries so many a format.

mod mutate;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use pistar::random::{Purpose, Stream};
use serde_json::Value;

use crate::fixtures;
use crate::place::Place;

/// Bounds of one input.
const SECONDS: u64 = 10;
const KILOBYTES: u64 = 2 << 20;

/// Makes an input.
type Make = Box<dyn Fn(&mut Stream) -> Vec<u8> + Sync>;

/// A format: what is read, and by which commands.
struct Format {
    name: &'static str,
    /// The file that the input is.
    file: &'static str,
    make: Make,
    /// Commands that read it, by turns.
    commands: Vec<Vec<&'static str>>,
}

fn inputs() -> usize {
    let said = std::env::var("PISTAR_FUZZ").ok();
    said.map_or(300, |n| n.parse().expect("PISTAR_FUZZ is a number"))
}

fn words(line: &'static str) -> Vec<&'static str> {
    line.split(' ').collect()
}

fn value(place: &Place, file: &str) -> Value {
    serde_json::from_str(&place.read(file)).unwrap()
}

fn rows(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

const PROBLEM: &str = r#"{"beta": 0.5, "prompts": [
    {"weight": 2, "reward": [1, 0.5, -1], "reference": [0.2, 0.3, 0.5], "behavior": [0.3, 0.3, 0.4]},
    {"reward": [0, 1], "reference": [1, 3], "pairs": [[0, 1, 1.0]]}]}"#;

const LOGGED: &str = r#"{"prompt": 0, "first": 2, "second": 0, "label": 1, "rewards": [1.0, 2.5]}
{"prompt": 0, "arm": 1, "reward": 2.0}
{"prompt": 1, "ranking": [0, 1]}
{"prompt": 1, "arm": 1, "reward": -2.0}"#;

const CONVERSATION: &str = r#"{"messages": [{"role": "system", "content": "w1"}, {"role": "user", "content": "w2 w3"}, {"role": "assistant", "content": "w4"}], "tools": [{"type": "function", "function": {"name": "w5", "parameters": {"type": "object"}}}], "chat_template_kwargs": {"enable_thinking": false}}"#;

const TEMPLATE: &str = "{% for message in messages %}{% if loop.first and message['role'] == 'system' %}{{ message.content | trim }}{% else %}{{ '<s>' + message['role'] }} {{ message['content'] }} {% endif %}{% endfor %}{% set n = namespace(x=1) %}{% if add_generation_prompt %}{{ 'w9' }}{% endif %}";

const PIECES: [&str; 22] = [
    "{% for i in range(99999) %}{% for j in range(99999) %}{% for k in range(99999) %}x{% endfor %}{% endfor %}{% endfor %}",
    "{% set n.x = n.x ~ n.x %}",
    "{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}",
    "{{ 'x' | indent(10000000000) }}",
    "{{ 'x' * 10000000000 }}",
    "{{ 'x' | center(10000000000) }}",
    "{{ ('%10000000000d' | format(1)) }}",
    "{{ [1] * 10000000000 }}",
    "{{ messages | tojson(indent=1000000000) }}",
    "{{ 'aaaa' | replace('a', 'x' * 100000) | replace('x', 'y' * 100000) }}",
    "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
    "{% include 'a' %}",
    "{{ messages[-1].content[99:0:-1] }}",
    "{{ messages | map(attribute='role') | join('x') }}",
    "{{ raise_exception('no') }}",
    "{{ strftime_now('%Y') }}",
    "{%- ",
    "-%}",
    "{{",
    "}}",
    "{% endfor %}",
    "{# ",
];

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn formats(place: &Place) -> Vec<Format> {
    let data = rows(&place.read("data.jsonl"));
    let (problem, logged, talk) = (
        serde_json::from_str::<Value>(PROBLEM).unwrap(),
        rows(LOGGED),
        rows(CONVERSATION),
    );
    let (config, tokenizer) = (
        value(place, "model/config.json"),
        value(place, "model/tokenizer.json"),
    );
    let adapter = value(place, "lora/model/adapter_config.json");
    let weights = fs::read(place.at("model/model.safetensors")).unwrap();
    let settings = place.read("lora/config.toml");
    let packed = data.clone();
    let generate = "generate --model model --prompt w1 --max-new-tokens 2";
    let mut all = vec![
        Format {
            name: "problem",
            file: "problem.json",
            make: Box::new(move |s| mutate::of_json(s, &problem)),
            commands: vec![
                words("solve problem.json"),
                words("loss problem.json --objective dpo"),
            ],
        },
        Format {
            name: "logged data",
            file: "logged.jsonl",
            make: Box::new(move |s| mutate::of_lines(s, &logged)),
            commands: vec![words("solve toy.json --data logged.jsonl")],
        },
        Format {
            name: "config.json",
            file: "model/config.json",
            make: Box::new(move |s| mutate::of_json(s, &config)),
            commands: vec![
                words(generate),
                words("plan dpo --model model --data data.jsonl"),
            ],
        },
        Format {
            name: "tokenizer.json",
            file: "model/tokenizer.json",
            make: Box::new(move |s| mutate::of_json(s, &tokenizer)),
            commands: vec![
                words(generate),
                words("data check data.jsonl --model model --objective dpo"),
            ],
        },
        Format {
            name: "safetensors",
            file: "model/model.safetensors",
            make: Box::new(move |s| mutate::of_safetensors(s, &weights)),
            commands: vec![words(generate)],
        },
        Format {
            name: "adapter_config.json",
            file: "lora/model/adapter_config.json",
            make: Box::new(move |s| mutate::of_json(s, &adapter)),
            commands: vec![words(
                "generate --model lora/model --prompt w1 --max-new-tokens 2",
            )],
        },
        Format {
            name: "run TOML",
            file: "lora/config.toml",
            make: Box::new(move |s| mutate::of_toml(s, &settings)),
            commands: vec![words("plan --config lora/config.toml")],
        },
        Format {
            name: "JSON lines",
            file: "data.jsonl",
            make: Box::new(move |s| mutate::of_lines(s, &data)),
            commands: vec![
                words("data check data.jsonl --model model --objective dpo"),
                words("data check data.jsonl --model model --objective copr"),
                words("score --reward exact:completion --data data.jsonl"),
            ],
        },
        Format {
            name: "conversations",
            file: "talk.jsonl",
            make: Box::new(move |s| mutate::of_lines(s, &talk)),
            commands: vec![words(
                "data check talk.jsonl --model model --chat-template t.jinja --objective sft",
            )],
        },
        Format {
            name: "gzip",
            file: "data.jsonl.gz",
            make: Box::new(move |s| match s.below(3) {
                0 => gzip(&mutate::of_lines(s, &packed)),
                _ => {
                    let sound: Vec<Vec<u8>> =
                        packed.iter().map(|v| v.to_string().into_bytes()).collect();
                    mutate::of_bytes(s, &gzip(&sound.join(&b"\n"[..])))
                }
            }),
            commands: vec![words(
                "data check data.jsonl.gz --model model --objective dpo",
            )],
        },
        Format {
            name: "template",
            file: "t.jinja",
            make: Box::new(|s| mutate::of_text(s, TEMPLATE.as_bytes(), &PIECES)),
            commands: vec![words(
                "data check talk.jsonl --model model --chat-template t.jinja --objective sft",
            )],
        },
    ];
    if cfg!(feature = "parquet") {
        let files = ["none", "snappy", "gzip", "lz4"]
            .map(|codec| fs::read(fixtures::folder(&format!("parquet/{codec}.parquet"))).unwrap());
        all.push(Format {
            name: "parquet",
            file: "data.parquet",
            make: Box::new(move |s| {
                let file = mutate::choose(s, &files);
                mutate::of_bytes(s, file)
            }),
            commands: vec![words(
                "data check data.parquet --model model --objective dpo",
            )],
        });
    }
    all
}

/// What is wrong with how an input ended, if anything is.
fn verdict(dir: &Path, command: &[&str]) -> Option<String> {
    let said = dir.join("stderr");
    let (out, err) = (
        File::create(dir.join("stdout")).unwrap(),
        File::create(&said).unwrap(),
    );
    let mut child = (Command::new("sh"))
        .args([
            "-c",
            &format!("ulimit -v {KILOBYTES} && exec \"$0\" \"$@\""),
        ])
        .arg(env!("CARGO_BIN_EXE_pistar"))
        .args(command)
        .env("RUST_BACKTRACE", "0")
        .env("RAYON_NUM_THREADS", "2")
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .spawn()
        .unwrap();
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if began.elapsed() > Duration::from_secs(SECONDS) {
            child.kill().unwrap();
            child.wait().unwrap();
            return Some(format!("no end within {SECONDS} s"));
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    let said = String::from_utf8_lossy(&fs::read(said).unwrap()).into_owned();
    let right = matches!(status.code(), Some(0..=2)) && !said.contains("panicked");
    let named = status.code() != Some(2) || said.contains("error: ");
    (!right || !named).then(|| {
        let end = said
            .char_indices()
            .nth(300)
            .map_or(said.len(), |(at, _)| at);
        format!("{status}: {}", &said[..end])
    })
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
#[cfg(unix)]
fn what_is_almost_a_file_is_an_error() {
    let place = Place::new(6);
    for (name, text) in [
        ("toy.json", PROBLEM),
        ("logged.jsonl", LOGGED),
        ("talk.jsonl", CONVERSATION),
        ("t.jinja", TEMPLATE),
    ] {
        fs::write(place.at(name), text).unwrap();
    }
    place.train(&words(
        "sft --model model --data data.jsonl --batch 3 --steps 1 --lora-rank 2 --out lora",
    ));
    let formats = formats(&place);
    let (inputs, next) = (inputs(), AtomicUsize::new(0));
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let work = |worker: usize| {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join(format!("w{worker}"));
        copy(&place.at(""), &dir);
        let mut faults: Vec<(String, PathBuf)> = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(format) = formats.get(index / inputs) else {
                return faults;
            };
            let mut stream = Stream::new(97, Purpose::Problem, index as u64);
            let input = (format.make)(&mut stream);
            let file = dir.join(format.file);
            let sound = fs::read(&file).ok();
            fs::write(&file, &input).unwrap();
            let command = &format.commands[index % format.commands.len()];
            if let Some(fault) = verdict(&dir, command) {
                // What failed stays, to be tried by hand.
                let kept = std::env::temp_dir().join(format!("pistar-fuzz-{index}"));
                fs::write(&kept, &input).unwrap();
                faults.push((
                    format!("{}: pistar {}: {fault}", format.name, command.join(" ")),
                    kept,
                ));
            }
            match sound {
                Some(sound) => fs::write(&file, sound).unwrap(),
                None => fs::remove_file(&file).unwrap(),
            }
        }
    };
    let work = &work;
    let faults: Vec<_> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads)
            .map(|worker| scope.spawn(move || work(worker)))
            .collect();
        all.into_iter()
            .flat_map(|one| one.join().unwrap())
            .collect()
    });
    println!(
        "{} inputs of {} formats, {} faults",
        inputs * formats.len(),
        formats.len(),
        faults.len()
    );
    for (fault, kept) in &faults {
        println!("{fault}\n    {}", kept.display());
    }
    assert!(
        faults.is_empty(),
        "{} faults, the first: {}",
        faults.len(),
        faults[0].0
    );
}
