//! A reward program ends with the command that runs it, however that ends, and with all it started.
#![cfg(target_os = "linux")]

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::place::{Place, heard, send};

/// Whether a process is there that still runs.
fn runs(id: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // After its name, which may hold anything.
    let state = status.rsplit(')').next().unwrap_or_default().trim();
    !state.is_empty() && !state.starts_with(['Z', 'X'])
}

fn within(seconds: u64, what: impl Fn() -> bool) -> bool {
    let began = Instant::now();
    while !what() {
        if began.elapsed() > Duration::from_secs(seconds) {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

/// The processes that a program wrote down, once there are so many.
fn ids(place: &Place, count: usize) -> Vec<String> {
    let read = || fs::read_to_string(place.at("ids")).unwrap_or_default();
    assert!(within(60, || read().lines().count() >= count), "{}", read());
    read().lines().map(String::from).collect()
}

/// Itself, a child, and a grandchild whose parent has gone.
const THREE: &str = "command:echo $$ >> ids; sleep 999 & echo $! >> ids; \
                     (sleep 999 & echo $! >> ids); sleep 999";

#[test]
fn a_reward_program_ends_with_the_command() {
    let place = Place::new(4);
    let row = "{\"prompt\": \"w1\", \"completion\": \" w2\"}\n";
    fs::write(place.at("rows.jsonl"), row).unwrap();
    let commands: [&[&str]; 3] = [
        &[
            "score",
            "--data=rows.jsonl",
            "--out=scored",
            "--reward",
            THREE,
        ],
        &[
            "evaluate",
            "--completions=rows.jsonl",
            "--prompts=rows.jsonl",
            "--reward",
            THREE,
        ],
        &[
            "train",
            "dpo",
            "--model=model",
            "--data=data.jsonl",
            "--eval-prompts=rows.jsonl",
            "--eval-on-start",
            "--eval-max-new-tokens=2",
            "--out=run",
            "--eval-reward",
            THREE,
        ],
    ];
    for args in commands {
        for signal in heard(["-INT", "-TERM", "-HUP", "-KILL"]) {
            let _ = fs::remove_file(place.at("ids"));
            let mut command = place.command(args);
            command.stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = command.spawn().unwrap();
            let started = ids(&place, 3);
            send(&child, signal);
            if args[0] == "train" && signal != "-KILL" {
                // The first one asks to stop after the step.
                std::thread::sleep(Duration::from_millis(200));
                send(&child, signal);
            }
            child.wait().unwrap();
            let gone = || !started.iter().any(|id| runs(id));
            assert!(within(10, gone), "{args:?} {signal}: {started:?}");
            let _ = fs::remove_dir_all(place.at("run"));
        }
    }
}

/// `pistar score` of one row by a program: what it printed, and what it said.
fn score(place: &Place, program: &str) -> (bool, String, String) {
    let row = "{\"prompt\": \"w1\", \"completion\": \" w2\"}\n";
    fs::write(place.at("rows.jsonl"), row).unwrap();
    let _ = fs::remove_file(place.at("ids"));
    let reward = format!("command:{program}");
    let args = [
        "score",
        "--data=rows.jsonl",
        "--reward-timeout=3",
        "--reward",
        &reward,
    ];
    let output = place.run(&args);
    (
        output.status.success(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn what_a_program_left_in_the_background_ends_with_it() {
    let place = Place::new(4);
    for program in [
        "sleep 999 & echo $! >> ids; echo 1",
        "sleep 999 > /dev/null 2>&1 & echo $! >> ids; echo 1",
        "cat > /dev/null; (sleep 999 & echo $! >> ids); echo 1",
    ] {
        let began = Instant::now();
        let (good, printed, said) = score(&place, program);
        assert!(
            good && printed.contains("\"score\":1.0"),
            "{program}: {said}"
        );
        // Its end is not waited for.
        assert!(began.elapsed() < Duration::from_millis(2500), "{program}");
        let started = ids(&place, 1);
        assert!(within(10, || !runs(&started[0])), "{program}");
    }
    // What answers in the background is heard while it has answers to give.
    let (good, printed, said) = score(&place, "(sleep 0.3; echo 1) &");
    assert!(good && printed.contains("\"score\":1.0"), "{said}");
}

#[test]
fn a_program_that_says_too_much_or_hears_nothing() {
    let place = Place::new(4);
    for (program, words) in [
        (
            "tr '\\0' 'x' < /dev/zero",
            "a line has more than 1048576 bytes",
        ),
        ("yes 1", "more answers than the 1 rows"),
        ("yes >&2", "no answer within 3 seconds"),
        ("tr '\\0' 'x' < /dev/zero >&2", "no answer within 3 seconds"),
        ("echo 1; yes >&2", "no end within 3 seconds"),
        ("sleep 999", "no answer within 3 seconds"),
    ] {
        let (good, printed, said) = score(&place, program);
        assert!(!good && printed.is_empty(), "{program}");
        assert!(
            said.contains(words) && said.contains(program),
            "{program}: {said}"
        );
        assert!(said.len() < 6000, "{program}: {} bytes", said.len());
    }
    let (good, printed, said) = score(&place, "exec <&-; echo 0.5");
    assert!(good && printed.contains("\"score\":0.5"), "{said}");
}
