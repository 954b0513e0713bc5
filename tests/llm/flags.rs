//! Every number that a command takes may be anything: the command does its work, or says what is wrong.
#![cfg(unix)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::continual::tasks;
use crate::place::Place;

const EXTREMES: [&str; 7] = [
    "0",
    "-1",
    "18446744073709551615",
    "4294967295",
    "nan",
    "inf",
    "1e308",
];

/// Something quick that the command does, in a folder with a model and data. Every command of the
/// help has to be here; its flags are those that its help names.
fn quick(command: &str) -> &'static str {
    match command {
        "solve" => "p.json --objective=dpo",
        "loss" => "p.json --objective=ipo --logits=l.json",
        "objectives" => "--json",
        "verify" => "dpo",
        "claims" => "--paper=bpo",
        "problem new" => "",
        "problem random" => "--prompts=2",
        "problem draw" => "p.json --samples=4",
        "sim" => "copg-toy --seeds=1 --epochs=1 --samples=600 --lr=0.01 --no-figure --overwrite",
        "data check" => "data.jsonl --model=model --objective=dpo",
        "train" => {
            "dpo --model=model --data=data.jsonl --steps=1 --eval-rows=2 --eval-prompts=rows.jsonl \
             --eval-max-new-tokens=2 --overwrite"
        }
        "continual" => {
            "sft --tasks=tasks.toml --model=model --max-new-tokens=9 --every=1 --no-figure --overwrite"
        }
        "plan" => "dpo --model=model --data=data.jsonl",
        "runs" => "none",
        "generate" => "--model=model --prompt=w1 --max-new-tokens=2",
        "logprobs" => "--model=model --data=rows.jsonl",
        "score" => "--data=rows.jsonl --reward=length --group --out=scored",
        "select" => "--model=model --data=data.jsonl --clusters=2 --kept=2",
        "evaluate" => {
            "--model=model --prompts=rows.jsonl --reward=length --max-new-tokens=2 --samples=1 \
             --resamples=10"
        }
        // What they do takes long: no further than where numbers are looked at.
        "doctor" => "--device=none",
        "study" => "none",
        "reproduce" => "--out=rows.jsonl",
        "aggregate" => "runs.jsonl",
        "figure" => "none",
        "merge" => "none --out=merged",
        other => panic!("what does `pistar {other}` do that is quick?"),
    }
}

fn help(place: &Place, command: &[&str]) -> String {
    let output = place.run(&[command, &["--help"]].concat());
    String::from_utf8(output.stdout).unwrap()
}

/// The commands below one, by its help.
fn commands(place: &Place, above: &[&str]) -> Vec<String> {
    let text = help(place, above);
    let Some((_, list)) = text.split_once("Commands:\n") else {
        return vec![above.join(" ")];
    };
    let names = list.lines().take_while(|line| !line.is_empty());
    let names = names.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    (names.filter(|name| !name.is_empty() && *name != "help"))
        .flat_map(|name| commands(place, &[above, &[name]].concat()))
        .collect()
}

/// Flags that take something, by a command's help.
fn flags(text: &str) -> BTreeSet<&str> {
    let words = text.split_whitespace().zip(text.split_whitespace().skip(1));
    words
        .filter(|(flag, value)| flag.starts_with("--") && value.starts_with(['<', '[']))
        .map(|(flag, _)| flag)
        .collect()
}

fn ends(child: &mut Child) -> bool {
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > Duration::from_secs(30) {
            let _ = child.kill();
            let _ = child.wait();
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

/// Runs a command with a flag in the place of its own: what it said, and what is wrong with how it ended.
fn run(place: &Place, command: &str, flag: &str, value: &str) -> (String, Option<String>) {
    let own = format!("{flag}=");
    let args = command.split(' ').chain(quick(command).split_whitespace());
    let args = args.filter(|arg| !arg.starts_with(&own));
    // Runs side by side have folders of their own.
    let out = format!("out-{}-{flag}-{value}", command.replace(' ', "-"));
    let out = match command {
        "train" | "sim" | "continual" => Some(format!("--out={out}")),
        _ => None,
    };
    let mut limited = Command::new("sh");
    limited.args([
        "-c",
        "ulimit -v 8000000; exec \"$@\"",
        "-",
        env!("CARGO_BIN_EXE_pistar"),
    ]);
    limited
        .args(args)
        .args(out.iter())
        .arg(format!("{own}{value}"));
    limited
        .current_dir(place.at(""))
        .env("RAYON_NUM_THREADS", "2");
    limited
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = limited.spawn().unwrap();
    if !ends(&mut child) {
        return (String::new(), Some("no end within 30 seconds".into()));
    }
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let (code, signal) = (output.status.code(), output.status.signal());
    let good = matches!(code, Some(0..=2)) && !said.contains("panicked");
    let wrong = (!good).then(|| format!("exit {code:?}, signal {signal:?}: {said}"));
    (said, wrong)
}

/// A folder in which every command has something to do.
fn workplace() -> Place {
    let place = Place::new(6);
    let rows = "{\"prompt\": \"w1\", \"completion\": \" w2\"}\n";
    fs::write(place.at("rows.jsonl"), rows).unwrap();
    let run_of = |seed: u64| format!("{{\"task\": 1, \"seed\": {seed}, \"score\": 0.{seed}}}\n");
    fs::write(place.at("runs.jsonl"), [1, 2].map(run_of).concat()).unwrap();
    let problem = place.run(&["problem", "new"]).stdout;
    fs::write(place.at("p.json"), problem).unwrap();
    tasks(&place, "steps = 1");
    fs::write(place.at("l.json"), r#"{"logits": [[0.3, -0.2, 0.1]]}"#).unwrap();
    place
}

#[test]
fn every_number_of_every_command_may_be_anything() {
    let place = workplace();
    let mut jobs = Vec::new();
    for command in commands(&place, &[]) {
        let words: Vec<&str> = command.split(' ').collect();
        let text = help(&place, &words);
        // They are good as they stand, so that what is wrong is the number.
        let whole = [
            "doctor",
            "study",
            "reproduce",
            "figure",
            "runs",
            "verify",
            "sim",
            "claims",
            // There is no adapter there, and it takes no number.
            "merge",
        ];
        if !whole.contains(&command.as_str()) {
            let (said, _) = run(&place, &command, "--help-me-not", "");
            assert!(
                said.contains("unexpected argument '--help-me-not'"),
                "{command}: {said}"
            );
            let args: Vec<&str> = words
                .iter()
                .copied()
                .chain(quick(&command).split_whitespace())
                .collect();
            let output = place.run(&args);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{command}: {said}");
        }
        for flag in flags(&text) {
            let (said, _) = run(&place, &command, flag, "x");
            if said.contains("invalid digit") || said.contains("invalid float") {
                let all = EXTREMES.map(|value| (command.clone(), flag.to_string(), value));
                jobs.extend(all);
            }
        }
    }
    // Of a hundred flags, give or take; none is named here.
    assert!(jobs.len() > 90 * EXTREMES.len(), "{}", jobs.len());
    let (jobs, wrong) = (Mutex::new(jobs), Mutex::new(Vec::new()));
    let next = || jobs.lock().unwrap().pop();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some((command, flag, value)) = next() {
                    if let (_, Some(how)) = run(&place, &command, &flag, value) {
                        let mut wrong = wrong.lock().unwrap();
                        wrong.push(format!("pistar {command} {flag}={value}: {how}"));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// All that a command says and writes, but for what depends on the time.
fn made(place: &Place, command: &str, more: &str, flag: &str) -> (String, String, Vec<Vec<u8>>) {
    let words = command.split(' ').chain(quick(command).split_whitespace());
    let mut args: Vec<&str> = words.chain(more.split_whitespace()).collect();
    args.push(flag);
    let output = place.run(&args);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {error}");
    let text = String::from_utf8(output.stdout).unwrap();
    let files = match command {
        "train" => place.lasting("made-train").into_values().collect(),
        "continual" => vec![place.read("made-continual/accuracy.csv").into_bytes()],
        "sim" => vec![place.read("made-sim/rows.csv").into_bytes()],
        _ => Vec::new(),
    };
    let rows = match command {
        "train" => format!("{:?}", place.rows("made-train")),
        _ => String::new(),
    };
    (text, rows, files)
}

#[test]
fn the_former_name_of_a_seed_gives_the_same_bytes() {
    let place = workplace();
    let mut tried = BTreeSet::new();
    for command in commands(&place, &[]) {
        let words: Vec<&str> = command.split(' ').collect();
        let text = help(&place, &words);
        assert!(!flags(&text).contains("--key"), "{command}: {text}");
        if !flags(&text).contains("--seed") {
            continue;
        }
        // It is one and the same flag.
        let refused = |flag: &str| {
            let output = place.run(&[&words[..], &[flag]].concat());
            assert_eq!(output.status.code(), Some(2), "{command} {flag}");
            String::from_utf8(output.stderr).unwrap()
        };
        let said = refused("--key=x");
        assert!(said.contains("'--seed <SEED>'"), "{command}: {said}");
        assert_eq!(said, refused("--seed=x"), "{command}");
        let more = match command.as_str() {
            // They take long, or tell times.
            "study" | "doctor" => continue,
            "sim" => "--out=made-sim",
            "train" => "--out=made-train",
            "continual" => "--out=made-continual",
            "generate" => "--samples=8",
            // Of this machine it would tell what memory the process has by now.
            "plan" => "--gpu=h200",
            _ => "",
        };
        let seed = made(&place, &command, more, "--seed=5");
        let key = made(&place, &command, more, "--key=5");
        assert!(seed == key, "{command}: {seed:?} {key:?}");
        // (The memory of a run does not depend on its seed.)
        if !matches!(command.as_str(), "plan" | "evaluate" | "aggregate") {
            let other = made(&place, &command, more, "--key=6");
            assert!(other != key, "{command} does not look at its seed");
        }
        tried.insert(command);
    }
    for command in ["sim", "problem draw", "train", "generate"] {
        assert!(tried.contains(command), "{tried:?}");
    }
}
