//! Sweeps: every run, once, whoever trains it.

use std::fs;
use std::process::Stdio;

use serde_json::Value;

use crate::place::Place;

const BASE: [&str; 13] = [
    "dpo",
    "--model",
    "model",
    "--data",
    "data.jsonl",
    "--steps",
    "3",
    "--batch",
    "3",
    "--checkpoint-every",
    "2",
    "--lr",
    "1e-2",
];

fn status(place: &Place, run: &str) -> Value {
    let text = place.read(&format!("{run}/manifest.json"));
    serde_json::from_str::<Value>(&text).unwrap()["status"].clone()
}

#[test]
fn every_run_of_a_grid_is_the_run_by_itself_and_complete_ones_are_left() {
    let place = Place::new(6);
    let sweep = ["--sweep", "beta=0.1,0.5", "--seeds", "2", "--out", "grid"];
    let all = [&BASE[..], &sweep].concat();
    place.train(&all);
    for seed in ["0", "1"] {
        for beta in ["0.1", "0.5"] {
            let (alone, member) = (
                format!("{beta}-{seed}"),
                format!("grid/beta={beta},seed={seed}"),
            );
            let more = ["--beta", beta, "--seed", seed, "--out", &alone];
            place.train(&[&BASE[..], &more].concat());
            assert_eq!(place.lasting(&alone), place.lasting(&member));
            assert_eq!(place.rows(&alone), place.rows(&member));
        }
    }
    // One is gone, one was killed: only these are trained.
    fs::remove_dir_all(place.at("grid/beta=0.1,seed=1")).unwrap();
    let killed = "grid/beta=0.5,seed=0";
    fs::remove_dir_all(place.at(&format!("{killed}/model"))).unwrap();
    let manifest = place
        .read(&format!("{killed}/manifest.json"))
        .replace("complete", "running");
    fs::write(place.at(&format!("{killed}/manifest.json")), manifest).unwrap();
    let before = place.files("grid/beta=0.1,seed=0");
    place.train(&["--config", "grid/sweep.toml", "--out", "grid"]);
    for (beta, seed) in [("0.1", "1"), ("0.5", "0")] {
        let member = format!("grid/beta={beta},seed={seed}");
        assert_eq!(
            place.lasting(&format!("{beta}-{seed}")),
            place.lasting(&member)
        );
    }
    let after = place.files("grid/beta=0.1,seed=0");
    for (name, bytes) in before {
        assert!(
            name.ends_with(".lock") || after[&name] == bytes,
            "{}",
            name.display()
        );
    }
    // Other settings in the same folders.
    let error = place.refused(&[&all[..], &["--steps", "4"]].concat());
    assert!(
        error.contains("beta=0.1,seed=0: steps: the run was started with 3"),
        "{error}"
    );
    let error = place.refused(&[&BASE[..], &["--seeds", "1", "--out", "0.1-0"]].concat());
    assert!(error.contains("0.1-0: there is a run in it"), "{error}");
}

#[test]
fn what_is_wrong_is_said_before_any_run_begins_and_a_failing_run_stops_no_other() {
    let place = Place::new(6);
    for (args, said) in [
        (&["--sweep", "betta=1"][..], "unknown field `betta`"),
        (&["--sweep", "beta=0.1,-1"], "beta=-1: beta"),
        (&["--sweep", "objective=dpo,dop"], "`dop` is not known"),
        (
            &["--sweep", "data=data.jsonl,none.jsonl"],
            "data: none.jsonl: it is not there",
        ),
        (&["--seeds", "0"], "seeds: it is 0"),
        (&["--seeds", "2", "--overwrite"], "a sweep replaces no run"),
    ] {
        let error = place.refused(&[&BASE[..], args, &["--out", "grid"]].concat());
        assert!(error.contains(said), "{args:?}: {error}");
        assert!(!place.at("grid").exists(), "{args:?}");
    }
    let args = [
        &["train"],
        &BASE[..],
        &["--sweep", "lr=1e38,1e-2", "--out", "grid"],
    ]
    .concat();
    let output = place.run(&args);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("1 of 2 runs are complete, 1 failed: lr=1e38;"),
        "{said}"
    );
    assert_eq!(status(&place, "grid/lr=1e-2"), "complete");
    assert!(
        place
            .read("grid/lr=1e38/machine.json")
            .contains("failed: step 2: the loss is NaN")
    );
}

#[test]
fn two_processes_share_the_runs() {
    let place = Place::new(6);
    let sweep = ["--sweep", "beta=0.1,0.2,0.3,0.4,0.5,0.6", "--out", "grid"];
    let args = [&["train"], &BASE[..], &sweep].concat();
    let spawn = || {
        let mut command = place.command(&args);
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let both = [spawn(), spawn()].map(|child| child.wait_with_output().unwrap());
    for output in &both {
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    }
    for beta in ["0.1", "0.2", "0.3", "0.4", "0.5", "0.6"] {
        let run = format!("grid/beta={beta}");
        assert_eq!(status(&place, &run), "complete");
        assert_eq!(place.rows(&run).len(), 3);
        let machine: Value =
            serde_json::from_str(&place.read(&format!("{run}/machine.json"))).unwrap();
        assert_eq!(machine.as_array().unwrap().len(), 1, "{beta}");
    }
}
