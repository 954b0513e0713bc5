//! Ctrl-C, SIGTERM and a terminal that hangs up: the step is finished and saved, and the run goes on as if nothing had happened.
#![cfg(unix)]

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pistar::llm::internals::files::checkpoint::list;
use serde_json::Value;

use crate::place::{Place, heard, send};

const ALL: [&str; 19] = [
    "train",
    "dpo",
    "--model",
    "model",
    "--data",
    "data.jsonl",
    "--steps",
    "400",
    "--batch",
    "2",
    "--eval-rows",
    "4",
    "--eval-every",
    "50",
    "--checkpoint-every",
    "150",
    "--lr",
    "1e-3",
    "--resume",
];

/// Starts a run and waits until it has so many rows.
fn begun(place: &Place, out: &str, rows: usize) -> Child {
    let mut command = place.command(&[&ALL[..], &["--out", out]].concat());
    let child = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait(place, out, rows);
    child
}

/// Waits until a run has so many rows.
fn wait(place: &Place, out: &str, rows: usize) {
    let path = place.at(&format!("{out}/metrics.jsonl"));
    let began = Instant::now();
    while fs::read_to_string(&path).map_or(0, |t| t.lines().count()) < rows {
        assert!(began.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn an_interrupted_run_saves_its_step_and_ends_as_a_whole_one() {
    let place = Place::new(12);
    place.train(&[&ALL[1..], &["--out", "whole"]].concat());
    for name in heard(["-INT", "-TERM", "-HUP"]) {
        let rows = match name {
            "-INT" => 3,
            "-TERM" => 200,
            _ => 100,
        };
        let out = &format!("run{name}");
        let child = begun(&place, out, rows);
        send(&child, name);
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(130), "{said}");
        let (step, _) = list(&place.at(out)).unwrap().pop().unwrap();
        assert!(step as usize > rows / 2 && step < 400, "{step}");
        assert!(
            said.contains(&format!("stopped after step {step}")),
            "{said}"
        );
        assert!(
            said.contains(&format!("pistar train --resume --out {out}")),
            "{said}"
        );
        assert!(!place.at(&format!("{out}/model")).exists());
        let machine: Value =
            serde_json::from_str(&place.read(&format!("{out}/machine.json"))).unwrap();
        assert_eq!(machine[0]["outcome"], "interrupted");

        place.train(&["--resume", "--out", out]);
        assert_eq!(place.rows(out), place.rows("whole"), "{name}");
        assert_eq!(place.lasting(out), place.lasting("whole"), "{name}");
        let machine: Value =
            serde_json::from_str(&place.read(&format!("{out}/machine.json"))).unwrap();
        assert_eq!(machine[1]["outcome"], "complete");
    }
}

#[test]
fn a_run_that_need_not_mind_its_terminal_goes_on() {
    let place = Place::new(12);
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "trap '' HUP; exec \"$@\"",
        "-",
        env!("CARGO_BIN_EXE_pistar"),
    ]);
    command.args(&ALL[..ALL.len() - 1]).args(["--out", "run"]);
    command.current_dir(place.at("")).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    wait(&place, "run", 3);
    send(&child, "-HUP");
    assert!(child.wait().unwrap().success());
    assert!(place.at("run/model").exists());
}
