//! Runs that are killed: going on ends in the same weights, optimiser state and rows, to the byte.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use pistar::llm::internals::files::checkpoint::list;
use pistar::random::{Purpose, Stream};

use crate::place::Place;

/// Runs that are killed; the environment may say how many.
fn kills() -> u64 {
    let said = std::env::var("PISTAR_KILLS").ok();
    said.map_or(3, |n| n.parse().expect("PISTAR_KILLS is a number"))
}

#[test]
fn a_killed_run_goes_on_as_if_nothing_had_happened() {
    let place = Place::new(40);
    let settings: [&[&str]; 4] = [
        &["dpo"],
        &["kto", "--accumulation", "2", "--log-every", "5"],
        &["dro-v", "--value-lr", "1e-2"],
        &[
            "dpo",
            "--lora-rank",
            "2",
            "--reference",
            "live",
            "--length-buckets",
            "2",
        ],
    ];
    let whole = |case: usize| format!("whole-{case}");
    let arguments = |case: usize, out: &str| {
        let all = [
            "--model",
            "model",
            "--data",
            "data.jsonl",
            "--epochs",
            "12",
            "--batch",
            "4",
            "--checkpoint-every",
            "4",
            "--keep",
            "2",
            "--lr",
            "1e-3",
            "--resume",
            "--out",
            out,
        ];
        let all = [&["train"], settings[case], &all[..]].concat();
        all.into_iter().map(String::from).collect::<Vec<_>>()
    };
    let mut took = [Duration::ZERO; 4];
    for (case, took) in took.iter_mut().enumerate() {
        let began = Instant::now();
        let all = arguments(case, &whole(case));
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        place.train(&all[1..]);
        *took = began.elapsed();
    }
    let (mut early, mut late) = (0, 0);
    for kill in 0..kills() {
        let case = (kill % 4) as usize;
        let mut stream = Stream::new(11, Purpose::Problem, kill);
        let out = format!("killed-{kill}");
        let all = arguments(case, &out);
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        // Again, until it was killed before its end.
        loop {
            let mut child = (place.command(&all))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            // Squared: the beginning has more that can be interrupted.
            std::thread::sleep(took[case].mul_f64(stream.uniform().powi(2)));
            let killed = child.try_wait().unwrap().is_none();
            // SIGKILL.
            child.kill().unwrap();
            child.wait().unwrap();
            if killed {
                break;
            }
            fs::remove_dir_all(place.at(&out)).unwrap();
        }
        if place.at(&out).exists() && !list(&place.at(&out)).unwrap().is_empty() {
            late += 1
        } else {
            early += 1
        }
        place.train(&all[1..]);
        assert_eq!(place.rows(&out), place.rows(&whole(case)), "{kill}");
        let (killed, whole) = (place.lasting(&out), place.lasting(&whole(case)));
        assert!(
            killed.keys().eq(whole.keys()),
            "{kill}: {:?}",
            killed.keys()
        );
        for (name, bytes) in &whole {
            assert!(&killed[name] == bytes, "{kill}: {}", name.display());
        }
    }
    println!("killed before the first checkpoint: {early}, after it: {late}");
}
