//! A program with losses of its own has every command: `examples/own_loss.rs`, run as a user would.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use pistar::backend::Backend;
use pistar::llm::text::objective::TextObjective;
use pistar::loss::{Given, InputKind, Inputs, Loss, Spec, Temperature};

use crate::place::Place;

/// The built example, which stands beside the command.
fn program() -> PathBuf {
    let command = PathBuf::from(env!("CARGO_BIN_EXE_pistar"));
    let name = format!("own_loss{}", std::env::consts::EXE_SUFFIX);
    let program = command.with_file_name("examples").join(name);
    assert!(
        program.exists(),
        "build the examples first, as `cargo test` does without a target: cargo build --example own_loss"
    );
    program
}

fn run(place: &Place, args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(program())
        .args(args)
        .current_dir(place.at(""))
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

fn ok(place: &Place, args: &[&str]) -> String {
    let (code, stdout, stderr) = run(place, args);
    assert_eq!(code, Some(0), "{args:?}: {stderr}");
    stdout
}

fn refused(place: &Place, args: &[&str], says: &[&str]) {
    let (code, _, stderr) = run(place, args);
    assert_eq!(code, Some(2), "{args:?}: {stderr}");
    for part in says {
        assert!(stderr.contains(part), "{args:?}: {stderr}");
    }
}

const TOY: &str = r#"{"beta": 0.5, "prompts": [{"reward": [2.5, 2.0, 1.0],
    "behavior": [[0.1, 0.2, 0.7], [0.05, 0.05, 0.9]]}]}"#;

#[test]
fn the_exact_half_knows_a_loss_of_ones_own() {
    let place = Place::new(2);
    fs::write(place.at("toy.json"), TOY).unwrap();
    fs::write(place.at("logits.json"), r#"{"logits": [[0.3, -0.2, 0.1]]}"#).unwrap();
    let listed = ok(&place, &["objectives"]);
    for name in ["simpo", "listnet", "token-mean", "dpo"] {
        assert!(listed.contains(&format!("\n{name} ")), "{listed}");
    }
    // SimPO on one token a response: ln π(a)/π(b) = γ/β where labels are even, and in general
    // βΔ − γ is the log-odds of the labels, weighted. With γ = 0 it is DPO with a uniform reference.
    let solve = |args: &[&str]| -> Value {
        let all = [&["solve", "toy.json", "--json"], args].concat();
        serde_json::from_str(&ok(&place, &all)).unwrap()
    };
    let near = |a: &Value, b: &Value| {
        let (a, b) = (a.as_array().unwrap(), b.as_array().unwrap());
        for (a, b) in a.iter().zip(b) {
            let gap = (a.as_f64().unwrap() - b.as_f64().unwrap()).abs();
            assert!(gap < 1e-6, "{a} {b}");
        }
    };
    let found = solve(&["--objective", "simpo,dpo", "--gamma", "0"]);
    let points = &found["fixed_points"];
    near(&points["simpo"]["policy"][0], &points["dpo"]["policy"][0]);
    // One token a response and equal lengths: the token by token policy gradient with the group's mean reaches π*.
    let found = solve(&["--objective", "token-mean"]);
    near(
        &found["fixed_points"]["token-mean"]["policy"][0],
        &found["optimum"]["policy"][0],
    );
    let ahead = solve(&["--objective", "simpo", "--gamma", "1"]);
    let even = solve(&["--objective", "simpo", "--gamma", "0"]);
    let first = |v: &Value| v["fixed_points"]["simpo"]["policy"][0][0].as_f64().unwrap();
    assert!(first(&ahead) > first(&even) + 0.01, "{ahead} {even}");
    // Its gradient is the formula's: −σ(γ − βd)·β on each compared pair.
    let shown = ok(
        &place,
        &[
            "loss",
            "toy.json",
            "--objective=simpo",
            "--gamma=0.3",
            "--logits=logits.json",
            "--json",
        ],
    );
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let logits: [f64; 3] = [0.3, -0.2, 0.1];
    let rewards: [f64; 3] = [2.5, 2.0, 1.0];
    let [p, q] = [[0.1, 0.2, 0.7], [0.05, 0.05, 0.9]];
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let mut want = [0.0; 3];
    for (a, b) in (0..9).map(|i| (i / 3, i % 3)) {
        let mass: f64 = p[a] * q[b];
        for (winner, loser) in [(a, b), (b, a)] {
            let label = sigmoid(rewards[winner] - rewards[loser]);
            let slope = 0.5 * sigmoid(0.3 - 0.5 * (logits[winner] - logits[loser]));
            want[winner] -= mass * label * slope;
            want[loser] += mass * label * slope;
        }
    }
    for (got, want) in shown["gradient"][0].as_array().unwrap().iter().zip(want) {
        assert!((got.as_f64().unwrap() - want).abs() < 1e-12, "{got} {want}");
    }
    let report = ok(
        &place,
        &[
            "verify",
            "simpo",
            "listnet",
            "--problem",
            "toy.json",
            "--beta",
            "0.3",
            "--gamma",
            "0.2",
            "--tau",
            "0.7",
            "--json",
        ],
    );
    let reports: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(reports.as_array().unwrap().len(), 2);
    for report in reports.as_array().unwrap() {
        assert_eq!(report["faults"], 0, "{report}");
    }
    refused(
        &place,
        &["solve", "toy.json", "--objective", "simpo", "--gamma=-1"],
        &["gamma", "from 0 up"],
    );
    refused(
        &place,
        &["solve", "toy.json", "--objective", "dpo", "--gamma=1"],
        &["gamma", "`dpo` has no use", "simpo"],
    );
    refused(
        &place,
        &["solve", "toy.json", "--objective", "simpa"],
        &["simpa", "did you mean", "simpo"],
    );
}

/// Lists of four completions, and pairs.
fn data(place: &Place) {
    let words = ["w1", "w2 w3", "w4", "w5 w6 w7"];
    let line = |row: Value| format!("{row}\n");
    let pairs: String = (0..11)
        .map(|i| {
            line(json!({"prompt": "w8", "chosen": words[i % 4], "rejected": words[(i + 1) % 3]}))
        })
        .collect();
    let lists: String = (0..11)
        .map(|i| {
            line(json!({"prompt": "w8", "completions": words, "scores": [i, 1.5, 2 * i + 20, 0.5]}))
        })
        .collect();
    fs::write(place.at("pairs.jsonl"), pairs).unwrap();
    fs::write(place.at("lists.jsonl"), lists).unwrap();
}

const SHORT: [&str; 8] = [
    "--model", "model", "--batch", "4", "--steps", "4", "--lr", "1e-2",
];

#[test]
fn a_loss_of_ones_own_is_trained_swept_and_resumed() {
    let place = Place::new(2);
    data(&place);
    let train = |args: &[&str]| ok(&place, &[&["train"], args, &SHORT[..]].concat());
    // A sweep over its own number, with seeds, and the runs compared.
    train(&[
        "simpo",
        "--data",
        "pairs.jsonl",
        "--sweep",
        "gamma=0,0.5",
        "--seeds",
        "2",
        "--out",
        "sweep",
    ]);
    let runs = ok(&place, &["runs", "sweep"]);
    for cell in ["gamma=0,seed=0", "gamma=0.5,seed=1", "simpo", "complete"] {
        assert!(runs.contains(cell), "{runs}");
    }
    let config: toml::Table =
        toml::from_str(&place.read("sweep/gamma=0.5,seed=1/config.toml")).unwrap();
    assert_eq!(config["numbers"]["gamma"].as_float(), Some(0.5));
    assert_eq!(config["numbers"]["beta"].as_float(), Some(2.0));
    // From a file, numbers in their table or beside the others.
    for (name, text) in [
        ("table", "[numbers]\ngamma = 0.5\n"),
        ("beside", "gamma = 0.5\n"),
    ] {
        let head = "objective = \"simpo\"\nmodel = \"model\"\ndata = \"pairs.jsonl\"\nbatch = 4\nsteps = 4\nlr = 1e-2\nseed = 1\n";
        fs::write(place.at("run.toml"), format!("{head}{text}")).unwrap();
        ok(&place, &["train", "--config", "run.toml", "--out", name]);
        assert_eq!(
            place.rows(name),
            place.rows("sweep/gamma=0.5,seed=1"),
            "{name}"
        );
    }
    // Interrupted and resumed, to the byte.
    for (name, objective, file) in [
        ("list", "listnet", "lists.jsonl"),
        ("token", "token-mean", "lists.jsonl"),
    ] {
        let args = [objective, "--data", file, "--checkpoint-every", "2"];
        train(&[&args[..], &["--out", name]].concat());
        let other = format!("{name}-2");
        train(&[&args[..], &["--out", &other]].concat());
        // Back to the middle, and on from there.
        let middle = format!("{other}/checkpoint-2");
        ok(&place, &["train", "--resume", &middle]);
        assert_eq!(place.rows(name), place.rows(&other), "{name}");
        let weights =
            |run: &str| fs::read(place.at(&format!("{run}/model/model.safetensors"))).unwrap();
        assert_eq!(weights(name), weights(&other), "{name}");
    }
    let planned = ok(
        &place,
        &[
            "plan",
            "simpo",
            "--data",
            "pairs.jsonl",
            "--model",
            "model",
            "--gamma",
            "1",
        ],
    );
    assert!(planned.starts_with("simpo: "), "{planned}");
    refused(
        &place,
        &[
            &[
                "train",
                "simpo",
                "--data",
                "pairs.jsonl",
                "--gamma=-1",
                "--out",
                "no",
            ],
            &SHORT[..],
        ]
        .concat(),
        &["gamma: it is -1", "from 0 up"],
    );
    refused(
        &place,
        &[
            &[
                "train",
                "dpo",
                "--data",
                "pairs.jsonl",
                "--gamma=1",
                "--out",
                "no",
            ],
            &SHORT[..],
        ]
        .concat(),
        &["`dpo` has no use", "simpo"],
    );
    // Another program does not know the loss: the run's folder is left as it is.
    let other = Command::new(env!("CARGO_BIN_EXE_pistar"))
        .args(["train", "--resume", "--out", "token"])
        .current_dir(place.at(""))
        .output()
        .unwrap();
    assert_eq!(other.status.code(), Some(2));
    let said = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(said.contains("`token-mean` is not known"), "{said}");
}

/// A loss that couples its examples has the same numbers however a step is cut, on either backend.
#[test]
fn a_coupled_loss_is_the_same_in_any_parts_and_on_both_backends() {
    let place = Place::new(2);
    data(&place);
    let run = |out: &str, more: &[&str]| -> Vec<Value> {
        let args = [
            "train",
            "token-mean",
            "--data",
            "lists.jsonl",
            "--dtype",
            "f64",
            "--out",
            out,
        ];
        ok(&place, &[&args[..], &SHORT[..], more].concat());
        place.rows(out)
    };
    let whole = run("whole", &[]);
    let near = |rows: &[Value], tolerance: f64| {
        for (row, want) in rows.iter().zip(&whole) {
            for name in ["loss", "grad_norm", "log_ratio"] {
                let [a, b] = [row, want].map(|r| r[name].as_f64().unwrap());
                assert!(
                    (a - b).abs() <= tolerance * b.abs().max(1.0),
                    "{name}: {a} {b}"
                );
            }
        }
    };
    near(&run("parts", &["--micro-batch-tokens", "9"]), 1e-10);
    near(
        &run("accumulated", &["--batch", "2", "--accumulation", "2"]),
        1e-10,
    );
    near(&run("device", &["--loss-backend", "device"]), 1e-12);
    assert_eq!(run("host", &["--loss-backend", "host"]), whole);
}

/// The better one by reward, of pairs that have labels.
struct ByReward;

impl Loss for ByReward {
    type Numbers = Temperature;
    fn spec(&self) -> Spec {
        Spec::new("by-reward", InputKind::LabelledPairs)
    }
    fn loss<X: Backend>(&self, n: &Temperature, inputs: &Inputs<X>) -> pistar::Result<X> {
        let pair = inputs.pair()?;
        let ahead = pair.first.reward()?.sub(pair.second.reward()?)?;
        let apart = pair.difference()?.affine(n.beta, 0.0)?.sub(&ahead)?;
        apart.square()
    }
}

/// On a bandit they have rewards; of files it would have read zeros.
#[test]
fn rewards_that_files_do_not_hold_are_refused() {
    let error = TextObjective::of(&ByReward, &Given::from(0.1), None);
    let error = error.err().map(|e| e.to_string()).unwrap_or_default();
    assert!(
        error.starts_with("by-reward: it reads rewards") && error.contains("scored pairs"),
        "{error}"
    );
}
