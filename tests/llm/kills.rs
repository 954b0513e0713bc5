//! Every command that writes, killed at any moment and run again: as if it had never been killed.
//!
//! `PISTAR_KILLS=20 cargo test --release --test llm kills -- --nocapture` kills each so many times;
//! `PISTAR_KILLED=sim` only the commands of that name.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Instant;

use pistar::random::{Purpose, Stream};
use serde_json::Value;

use crate::continual::tasks;
use crate::place::Place;

/// Commands and what they write to: `OUT` stands for it.
const WRITES: [&str; 17] = [
    "train sft --model model --data data.jsonl --epochs 4 --batch 3 --checkpoint-every 2 --resume --out OUT",
    "train dpo --model model --data data.jsonl --steps 2 --batch 3 --sweep beta=0.1,0.5 --seeds 1 --out OUT",
    "train dpo --model model --prompts data.jsonl --reward length:characters --steps 12 --phases 4 --batch 3 --max-new-tokens 12 --reference ema:0.3 --replay 1 --checkpoint-every 2 --resume --out OUT",
    "continual copr --tasks tasks.toml --model model --replay 0.5 --every 2 --max-new-tokens 6 --resume --out OUT",
    "continual sft+tfcl --tasks tasks.toml --model model --plateau-mean 99 --plateau-variance 99 --max-new-tokens 6 --resume --out OUT",
    "generate --model model --prompts data.jsonl --samples 8 --max-new-tokens 16 --out OUT.jsonl",
    "logprobs --model model --data data.jsonl --out OUT.jsonl",
    "score --reward length:words --data data.jsonl --replace --out OUT.jsonl",
    "select --model model --data data.jsonl --clusters 2 --kept 2 --out OUT.jsonl",
    "evaluate --model model --prompts data.jsonl --reward length:words --max-new-tokens 16 --out OUT.jsonl",
    "sim ipo-bias --out OUT",
    "sim copg-toy --seeds 2 --out OUT",
    "figure copg-toy --from toy --out OUT",
    "merge lora --overwrite --out OUT",
    "runs base --metric loss --figure OUT.svg",
    "study dro --model wordy --reward length:characters --prompts 128 --seeds 1 --threads 2 --out OUT",
    REPRODUCE,
];

/// Runs all sims, and takes as long: only where `PISTAR_KILLS` is given.
const REPRODUCE: &str = "reproduce --out OUT";

/// Commands with `--out` that are not among them: `plan` takes the flags of `train` and writes nothing.
const ELSEWHERE: [&str; 1] = ["plan"];

#[test]
fn no_command_that_writes_is_forgotten() {
    let place = Place::new(1);
    let help = |args: &[&str]| String::from_utf8(place.run(args).stdout).unwrap();
    let all = help(&["--help"]);
    let listed = all
        .split("Commands:")
        .nth(1)
        .unwrap()
        .split("Options:")
        .next()
        .unwrap();
    let mut seen = 0;
    for command in listed
        .lines()
        .filter_map(|line| line.split_whitespace().next())
    {
        if help(&[command, "--help"]).contains("--out <") {
            let known = WRITES
                .iter()
                .any(|line| line.split(' ').next() == Some(command));
            assert!(known || ELSEWHERE.contains(&command), "{command}");
            seen += 1;
        }
    }
    assert!(seen >= 10, "{seen}");
}

/// None where it is not said.
fn kills() -> Option<u64> {
    let said = std::env::var("PISTAR_KILLS").ok();
    said.map(|n| n.parse().expect("PISTAR_KILLS is a number"))
}

/// What a command wrote, but for times: all files whose names begin with the one that it was given.
fn written(place: &Place, out: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(place.at("")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        // A part of a file begins with a dot.
        let Some(rest) = name.trim_start_matches('.').strip_prefix(out) else {
            continue;
        };
        let rest =
            PathBuf::from(rest.to_owned() + if name.starts_with('.') { " hidden" } else { "" });
        if place.at(&name).is_dir() {
            let below = place.lasting(&name).into_iter();
            found.extend(below.map(|(path, bytes)| (rest.join(path), bytes)));
        } else {
            found.insert(rest, fs::read(place.at(&name)).unwrap());
        }
    }
    for (path, bytes) in &mut found {
        if path.ends_with("manifest.json") {
            let mut value: Value = serde_json::from_slice(bytes).unwrap();
            let fields = value.as_object_mut().unwrap();
            for time in ["wall_s", "train_s"] {
                fields.remove(time);
            }
            *bytes = value.to_string().into_bytes();
        }
        if path.ends_with("report.md") {
            let text = String::from_utf8_lossy(bytes).into_owned();
            let timed =
                |line: &&str| line.contains("Training took") || line.contains("Solving took");
            let lines = text.lines().filter(|line| !timed(line));
            *bytes = lines.collect::<Vec<_>>().join("\n").into_bytes();
        }
    }
    found
}

#[test]
fn a_killed_command_is_run_again_as_if_it_had_never_been() {
    let place = Place::new(12);
    place.train(&words(
        "sft --model model --data data.jsonl --steps 2 --batch 3 --out base",
        "",
    ));
    place.train(&words(
        "sft --model model --data data.jsonl --steps 1 --batch 3 --lora-rank 2 --out lora",
        "",
    ));
    let made = place.run(&words("sim copg-toy --seeds 2 --out toy", ""));
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let (mut killed, mut left) = (0, 0);
    place.model_of("wordy", 1, 400);
    tasks(&place, "steps = 9");
    for (index, line) in WRITES.iter().enumerate() {
        let only = std::env::var("PISTAR_KILLED").ok();
        let asked = only.is_none_or(|name| line.split(' ').next() == Some(&name));
        if !asked || (*line == REPRODUCE && kills().is_none()) {
            continue;
        }
        let whole = format!("whole{index}-");
        let began = Instant::now();
        run(&place, line, &whole);
        let took = began.elapsed();
        let right = written(&place, &whole);
        assert!(!right.is_empty(), "{line} writes nothing");
        for kill in 0..kills().unwrap_or(2) {
            let mut stream = Stream::new(13, Purpose::Problem, 1000 * index as u64 + kill);
            let out = format!("killed{index}.{kill}-");
            let mut child = (place.command(&words(line, &out)))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            std::thread::sleep(took.mul_f64(stream.uniform()));
            killed += usize::from(child.try_wait().unwrap().is_none());
            // SIGKILL.
            child.kill().unwrap();
            child.wait().unwrap();
            left += usize::from(!written(&place, &out).is_empty());
            run(&place, line, &out);
            let found = written(&place, &out);
            assert!(
                found.keys().eq(right.keys()),
                "{line}, {kill}: {:?}, not {:?}",
                found.keys(),
                right.keys()
            );
            for (name, bytes) in &right {
                // Names of folders are in what is told of them.
                let [found, right] = [(&found[name], &out), (bytes, &whole)].map(|(bytes, out)| {
                    String::from_utf8_lossy(bytes).replace(out.as_str(), "OUT")
                });
                assert!(found == right, "{line}, {kill}: {}", name.display());
            }
        }
    }
    println!("{killed} killed before their end, {left} of them had written");
}

fn words<'a>(line: &'a str, out: &'a str) -> Vec<&'a str> {
    let word = |word: &'a str| -> &'a str {
        if word.starts_with("OUT") {
            Box::leak(word.replace("OUT", out).into_boxed_str())
        } else {
            word
        }
    };
    line.split(' ').map(word).collect()
}

/// To its end.
fn run(place: &Place, line: &str, out: &str) {
    let output = place.run(&words(line, out));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {said}");
}
