//! `pistar runs`: what it finds, in what runs differ, how they stand.

use std::fs;

use pistar::llm::train::config_reference;
use serde_json::Value;

use crate::place::Place;

const BASE: [&str; 15] = [
    "dpo",
    "--model",
    "model",
    "--data",
    "data.jsonl",
    "--steps",
    "6",
    "--batch",
    "3",
    "--checkpoint-every",
    "3",
    "--lr",
    "1e-2",
    "--eval-rows",
    "3",
];

fn json(place: &Place, args: &[&str]) -> Vec<Value> {
    let output = place.run(&[&["runs", "--json"], args].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn runs_are_found_told_apart_and_put_in_order() {
    let place = Place::new(9);
    let sweep = [
        "--sweep",
        "beta=0.5,0.1",
        "--seeds",
        "2",
        "--eval-every",
        "2",
    ];
    place.train(&[&BASE[..], &sweep, &["--out", "out/grid"]].concat());
    // One was killed while it wrote a row, one never began.
    let killed = "out/grid/beta=0.5,seed=1";
    fs::remove_dir_all(place.at(&format!("{killed}/model"))).unwrap();
    let manifest = place
        .read(&format!("{killed}/manifest.json"))
        .replace("complete", "running");
    fs::write(place.at(&format!("{killed}/manifest.json")), manifest).unwrap();
    let rows = place.read(&format!("{killed}/metrics.jsonl"));
    let cut = rows[..rows.len() - 40].to_string();
    fs::write(place.at(&format!("{killed}/metrics.jsonl")), cut).unwrap();
    fs::create_dir_all(place.at("out/nothing/below")).unwrap();

    let runs = json(&place, &[]);
    let named: Vec<&str> = runs.iter().map(|r| r["run"].as_str().unwrap()).collect();
    let right = [
        "out/grid/beta=0.1,seed=0",
        "out/grid/beta=0.1,seed=1",
        "out/grid/beta=0.5,seed=0",
        "out/grid/beta=0.5,seed=1",
    ];
    assert_eq!(named, right);
    for run in &runs {
        let dir = run["run"].as_str().unwrap();
        assert_eq!(
            run["state"],
            if dir == killed {
                "interrupted"
            } else {
                "complete"
            }
        );
        let settings = run["settings"].as_object().unwrap();
        assert!(settings.keys().eq(["beta", "seed"]), "{settings:?}");
        let rows: Vec<Value> = place
            .read(&format!("{dir}/metrics.jsonl"))
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        let losses: Vec<f64> = rows
            .iter()
            .filter_map(|r| r["eval_loss"].as_f64())
            .collect();
        let told = &run["metrics"]["eval_loss"];
        assert_eq!(told["last"].as_f64(), losses.last().copied());
        let least = losses.iter().copied().fold(f64::MAX, f64::min);
        assert_eq!(told["best"].as_f64(), Some(least));
        let at = rows
            .iter()
            .find(|r| r["eval_loss"].as_f64() == Some(least))
            .unwrap();
        assert_eq!(told["best_step"], at["step"]);
        assert!(run["tokens_per_second"].as_f64().unwrap() > 0.0);
    }
    // The best first.
    let runs = json(
        &place,
        &["out", "out/grid", "--metric", "eval_rewards/margins"],
    );
    let last: Vec<f64> = (runs.iter())
        .map(|r| {
            r["metrics"]["eval_rewards/margins"]["last"]
                .as_f64()
                .unwrap()
        })
        .collect();
    assert!(
        last.len() == 4 && last.is_sorted_by(|a, b| a >= b),
        "{last:?}"
    );

    // A process holds it.
    let lock = fs::File::open(place.at(&format!("{killed}/.lock"))).unwrap();
    lock.lock().unwrap();
    assert_eq!(json(&place, &[killed])[0]["state"], "running");
    drop(lock);

    let output = place.run(&["runs", "--metric", "eval_loss", "--figure", "f.svg"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 6, "{text}");
    let head: Vec<&str> = text.lines().next().unwrap().split_whitespace().collect();
    let right = [
        "run",
        "objective",
        "beta",
        "seed",
        "state",
        "steps",
        "eval_loss",
        "best",
        "at",
        "tokens/s",
    ];
    assert_eq!(head, right);
    if cfg!(feature = "plot") {
        let svg = place.read("f.svg");
        for words in [
            "eval_loss along training",
            "beta=0.1",
            "beta=0.5",
            "Mean over 2 seeds",
        ] {
            assert!(svg.contains(words), "{words}");
        }
        assert!(place.at("f.png").exists());
    }
    for (args, said) in [
        (
            &["--metric", "eval_los"][..],
            "metric: eval_los: no run has it; use one of epoch, eval_log_ratio, ",
        ),
        (&["data.jsonl"], "data.jsonl: cannot read"),
        (&["out/nothing"], "out/nothing: there is no run in it"),
        (&["none"], "none: cannot read"),
    ] {
        let output = place.run(&[&["runs"], args].concat());
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(said), "{args:?}: {error}");
    }
    fs::write(
        place.at(&format!("{killed}/manifest.json")),
        "{\"objective\"",
    )
    .unwrap();
    let output = place.run(&["runs"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        error.contains(&format!("{killed}/manifest.json: EOF")),
        "{error}"
    );
}

#[test]
fn a_failed_run_says_why() {
    let place = Place::new(6);
    place.refused(&[&BASE[..], &["--lr", "1e38", "--out", "run"]].concat());
    let run = json(&place, &["run"]).remove(0);
    assert_eq!(run["state"], "failed");
    assert!(
        run["error"].as_str().unwrap().contains("the loss is NaN"),
        "{run}"
    );
}

#[test]
fn the_page_of_settings_is_made_of_the_settings() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/config.md");
    let page = fs::read_to_string(path).unwrap_or_default();
    let renew = "renew it: cargo run -- train --config-reference > docs/config.md";
    assert!(
        page == config_reference(),
        "docs/config.md is not what the settings are; {renew}"
    );
    for cell in [
        "| `lr` | `--lr` | number | 1e-6; of sft and reward models: 2e-5 |",
        "| `shuffle` | `--shuffle` | true or false | `true` |",
    ] {
        assert!(page.contains(cell), "{cell}");
    }
}

#[test]
fn runs_of_two_objectives_share_a_figure() {
    let place = Place::new(6);
    for objective in ["dpo", "ipo"] {
        let line = format!(
            "{objective} --model model --data data.jsonl --steps 2 --batch 3 --out run-{objective}"
        );
        place.train(&line.split(' ').collect::<Vec<_>>());
    }
    let args = [
        "runs", "run-dpo", "run-ipo", "--metric", "loss", "--figure", "both.svg",
    ];
    let output = place.run(&args);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    if cfg!(feature = "plot") {
        let svg = place.read("both.svg");
        assert!(svg.contains("dpo") && svg.contains("ipo"), "{svg}");
    }
}
