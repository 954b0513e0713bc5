//! `pistar train` as users run it.

use std::fs;

use candle_core::{DType, Device};
use pistar::llm::model::decoder::Decoder;
use pistar::llm::text::objective::TextObjective;
use serde_json::Value;

use crate::place::Place;

/// What an objective needs besides model and data.
pub fn needed(name: &str) -> &'static [&'static str] {
    match name {
        "advantage-model-distinct" => &["--margin", "2"],
        "pg" => &["--baseline", "5"],
        _ => &[],
    }
}

const SHORT: [&str; 12] = [
    "--model",
    "model",
    "--data",
    "data.jsonl",
    "--steps",
    "4",
    "--batch",
    "3",
    "--checkpoint-every",
    "2",
    "--lr",
    "1e-2",
];

#[test]
fn every_objective_trains_and_its_settings_run_the_same_again() {
    let place = Place::new(11);
    for objective in TextObjective::all() {
        let name = objective.name();
        let out = format!("a/{name}");
        place.train(&[&[name], &SHORT[..], needed(name), &["--out", &out]].concat());
        let rows = place.rows(&out);
        assert_eq!(rows.len(), 4, "{name}");
        assert_eq!(rows[3]["step"], 4);
        // Four steps make an epoch of eleven rows in threes.
        assert_eq!(
            (rows[3]["epoch"].as_f64(), rows[0]["epoch"].as_f64()),
            (Some(1.0), Some(0.25))
        );
        let rate = |row: usize| rows[row]["learning_rate"].as_f64().unwrap();
        assert!((rate(0) - 1e-2).abs() < 1e-15 && (rate(3) - 0.25e-2).abs() < 1e-15);
        for row in &rows {
            assert!(row["loss"].as_f64().unwrap().is_finite(), "{name}");
            assert!(row["grad_norm"].as_f64().unwrap() > 0.0, "{name}");
        }
        let model = place.at(&format!("{out}/model"));
        let loaded = if objective.spec().trains_scores() {
            Decoder::load_body(&model, DType::F32, &Device::Cpu)
        } else {
            Decoder::load(&model, DType::F32, &Device::Cpu)
        };
        assert!(loaded.is_ok(), "{name}: {:?}", loaded.err());
        let manifest: Value =
            serde_json::from_str(&place.read(&format!("{out}/manifest.json"))).unwrap();
        assert_eq!(manifest["status"], "complete");
        assert_eq!(manifest["objective"], name);

        let (config, again) = (format!("{out}/config.toml"), format!("b/{name}"));
        place.train(&["--config", &config, "--out", &again]);
        assert_eq!(rows, place.rows(&again), "{name}");
        assert_eq!(
            place.files(&format!("{out}/model")),
            place.files(&format!("{again}/model"))
        );
        assert_eq!(
            place.read(&config),
            place.read(&format!("{again}/config.toml"))
        );
    }
}

#[test]
fn flags_win_over_the_file_and_the_file_over_defaults() {
    let place = Place::new(6);
    let file = "objective = \"dpo\"\nmodel = \"model\"\ndata = \"data.jsonl\"\nbeta = 0.5\n\
                lr = 1e-3\nsteps = 2\nshuffle = false\nlora_targets = []\n";
    fs::write(place.at("run.toml"), file).unwrap();
    place.train(&["--config", "run.toml", "--beta", "0.1", "--out", "run"]);
    let config: toml::Table = toml::from_str(&place.read("run/config.toml")).unwrap();
    // The flag says what is the default, and wins nevertheless.
    assert_eq!(config["numbers"]["beta"].as_float(), Some(0.1));
    assert_eq!(config["lr"].as_float(), Some(1e-3));
    assert_eq!(config["shuffle"].as_bool(), Some(false));
    assert_eq!(config["batch"].as_integer(), Some(8));
    assert_eq!(config["token_reduction"].as_str(), Some("sum"));
    for (line, named) in [
        ("betta = 0.5", "betta"),
        ("beta = \"0.5\"", "invalid type"),
        ("schedule = \"square\"", "square"),
        ("beta = ", "line 1"),
    ] {
        fs::write(place.at("bad.toml"), format!("{line}\n")).unwrap();
        let error = place.refused(&["sft", "--config", "bad.toml", "--out", "bad"]);
        assert!(
            error.contains("bad.toml") && error.contains(named),
            "{error}"
        );
        assert!(error.contains("line 1"), "{error}");
    }
    assert!(!place.at("bad").exists());
}

#[test]
fn what_is_wrong_is_named_and_nothing_is_written() {
    let place = Place::new(6);
    place.model("other", 2);
    fs::write(place.at("other/tokenizer.json"), "{}").unwrap();
    fs::write(place.at("bad.jsonl"), "{\"prompt\": \"w1\"}\n").unwrap();
    fs::write(place.at("file"), "").unwrap();
    let with = |args: &[&str]| place.refused(&[&SHORT[..], args].concat());
    for (args, named) in [
        (&["dop"][..], vec!["`dop` is not known", "copr-sft, sft"]),
        (
            &["kto-per-prompt"],
            vec!["kto-per-prompt", "cannot be trained on text"],
        ),
        (
            &["dpo", "--model", "none"],
            vec!["none", "there is no such folder"],
        ),
        (&["dpo", "--model", "other"], vec!["other/tokenizer.json"]),
        (
            &["dpo", "--data", "none.jsonl"],
            vec!["none.jsonl", "cannot read"],
        ),
        (
            &["dpo", "--data", "bad.jsonl"],
            vec!["bad.jsonl:1", "`chosen`"],
        ),
        (
            &["dpo", "--reference", "none"],
            vec!["none", "there is no such folder"],
        ),
        (&["dpo", "--device", "tpu"], vec!["device", "`tpu`"]),
        (
            &["dpo", "--margin", "1"],
            vec!["margin", "`dpo` has no use"],
        ),
        (&["dpo", "--lora-targets", "q"], vec!["lora_targets"]),
        (
            &["dpo", "--lora-rank", "2", "--lora-targets", "nothing"],
            vec!["nothing"],
        ),
        (
            &["dpo", "--resume", "run/checkpoint-1"],
            vec!["run/checkpoint-1", "no complete checkpoint"],
        ),
        (&["dpo", "--batch", "7", "--drop-last"], vec!["batch", "7"]),
        (&["kto", "--batch", "5"], vec!["batch", "without z₀"]),
    ] {
        let error = with(&[args, &["--out", "run"]].concat());
        for part in named {
            assert!(error.contains(part), "{args:?}: {error}");
        }
        assert!(!place.at("run").exists(), "{args:?}");
    }
    let error = with(&["dpo", "--out", "file"]);
    assert!(error.contains("file: cannot create"), "{error}");
    let error = place.refused(&["dpo", "--data", "data.jsonl"]);
    assert!(error.contains("model: it is missing"), "{error}");
    let error = place.refused(&["--resume", "--out", "run"]);
    assert!(error.contains("objective: it is missing"), "{error}");
}

#[test]
fn a_run_is_neither_overwritten_nor_changed_by_accident() {
    let place = Place::new(6);
    let all = |more: &[&'static str]| [&["dpo"], &SHORT[..], &["--out", "run"], more].concat();
    place.train(&all(&[]));
    let before = place.files("run");
    let error = place.refused(&all(&[]));
    assert!(error.contains("there is a run in it already"), "{error}");
    for (flag, value, said) in [
        (
            "--beta",
            "0.7",
            "beta: the run was started with 0.1 and this is 0.7",
        ),
        (
            "--lr",
            "1",
            "lr: the run was started with 0.01 and this is 1.0",
        ),
        (
            "--max-length",
            "9",
            "max_length: the run was started with not given and this is 9",
        ),
    ] {
        let error = place.refused(&all(&["--resume", flag, value]));
        assert!(error.contains(said), "{error}");
        let error = place.refused(&["--resume", "--out", "run", flag, value]);
        assert!(error.contains(said), "{error}");
    }
    place.train(&["--resume", "--out", "run", "--keep", "7"]);
    for (name, bytes) in place.files("run") {
        let same = before[&name] == bytes || name.ends_with(".lock");
        assert!(same, "{}", name.display());
    }

    // Going on from a checkpoint ends where the whole run did.
    place.train(&["--resume", "run/checkpoint-2"]);
    for (name, bytes) in place.lasting("run") {
        assert_eq!(before[&name], bytes, "{}", name.display());
    }

    // Other data under the same name.
    fs::remove_dir_all(place.at("run/checkpoint-4")).unwrap();
    let manifest = place
        .read("run/manifest.json")
        .replace("complete", "running");
    fs::write(place.at("run/manifest.json"), manifest).unwrap();
    place.data("data.jsonl", 6, 2);
    let error = place.refused(&["--resume", "--out", "run"]);
    assert!(error.contains("data: the SHA-256 of"), "{error}");
    place.data("data.jsonl", 6, 1);
    place.model("model", 3);
    let error = place.refused(&["--resume", "--out", "run"]);
    assert!(
        error.contains("model/model.safetensors: the SHA-256 of"),
        "{error}"
    );
    place.train(&all(&["--overwrite"]));
    assert_ne!(before, place.files("run"));
}

#[test]
fn what_is_no_runs_is_left_alone() {
    let place = Place::new(6);
    let all = |more: &[&'static str]| [&["dpo"], &SHORT[..], more].concat();
    let model = place.files("model");
    // The model would be where the run's own goes.
    for more in [
        &["--out", "."][..],
        &["--out", ".", "--overwrite"],
        &["--out", ".", "--resume"],
    ] {
        let error = place.refused(&all(more));
        assert!(
            error.contains("./model: a run would write there"),
            "{error}"
        );
    }
    place.train(&all(&["--out", "run"]));
    let trained = place.files("run/model");
    for from in ["run/model", "run/checkpoint-4"] {
        let error = place.refused(&all(&["--out", "run", "--overwrite", "--model", from]));
        assert!(
            error.contains("the run itself would write there"),
            "{error}"
        );
        let more = ["--out", "run", "--overwrite", "--reference", from];
        let error = place.refused(&all(&more));
        assert!(
            error.contains("the run itself would write there"),
            "{error}"
        );
    }
    assert_eq!(model, place.files("model"));
    assert_eq!(trained, place.files("run/model"));
    place.train(&all(&["--out", "next", "--model", "run/model"]));
}

#[test]
fn one_process_trains_in_a_folder() {
    let place = Place::new(6);
    fs::create_dir(place.at("run")).unwrap();
    let lock = fs::File::create(place.at("run/.lock")).unwrap();
    fs::write(place.at("run/.lock"), "4000000\n").unwrap();
    lock.lock().unwrap();
    let all = [&["dpo"], &SHORT[..], &["--out", "run"]].concat();
    let error = place.refused(&all);
    assert!(
        error.contains("run: process 4000000 is training there"),
        "{error}"
    );
    // What a dead process leaves is the file, not the lock.
    drop(lock);
    place.train(&all);
}

#[test]
fn a_run_stops_at_what_is_not_finite_and_saves_its_batch() {
    let place = Place::new(6);
    let all = [
        &["dpo"],
        &SHORT[..],
        &["--out", "run", "--lr", "1e38", "--checkpoint-every", "0"],
    ];
    let error = place.refused(&all.concat());
    assert!(error.contains("step 2: the loss is NaN"), "{error}");
    assert!(error.contains("run/nan-batch.jsonl"), "{error}");
    // It was the first update that went wrong.
    assert!(
        error.contains("an earlier update has made model."),
        "{error}"
    );
    assert!(error.contains("there is no checkpoint"), "{error}");
    assert_eq!(place.rows("run").len(), 1);
    let lines = place.read("run/nan-batch.jsonl");
    let lines: Vec<Value> = lines
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(lines.len(), 3);
    for line in lines {
        assert!(line["row"].as_u64().unwrap() < 6);
        let responses = line["responses"].as_array().unwrap();
        assert_eq!(responses.len(), 2);
        for response in responses {
            assert_eq!(response["log_policy"], "NaN");
            assert!(response["log_reference"].as_f64().unwrap() < 0.0);
            let completion = response["completion"].as_array().unwrap();
            assert_eq!(completion.last().unwrap(), 2);
        }
    }
    assert!(!place.at("run/model").exists());
}

#[test]
fn adapters_are_all_that_is_trained_and_the_base_is_their_reference() {
    let place = Place::new(6);
    for reference in ["precomputed", "live"] {
        let out = format!("run-{reference}");
        let lora = ["--lora-rank", "2", "--reference", reference, "--out", &out];
        place.train(&[&["dpo"], &SHORT[..], &lora].concat());
        let rows = place.rows(&out);
        assert_eq!(rows[0]["loss"].as_f64(), Some(2f64.ln()));
        assert!(rows[3]["loss"].as_f64() < Some(0.69));
        let model = place.at(&format!("{out}/model"));
        assert!(!model.join("model.safetensors").exists());
        let mut base = Decoder::load(place.at("model"), DType::F32, &Device::Cpu).unwrap();
        base.load_adapter(&model).unwrap();
        let optimizer = place
            .files(&format!("{out}/checkpoint-4"))
            .remove(std::path::Path::new("optimizer.safetensors"))
            .unwrap();
        let optimizer = safetensors::SafeTensors::deserialize(&optimizer).unwrap();
        assert!(!optimizer.names().is_empty());
        assert!(optimizer.names().iter().all(|name| name.contains("lora_")));
    }
    assert_eq!(place.rows("run-live"), place.rows("run-precomputed"));
    // A reference that is another model is another loss.
    place.model("other", 2);
    place.train(
        &[
            &["dpo"],
            &SHORT[..],
            &["--reference", "other", "--out", "other-run"],
        ]
        .concat(),
    );
    let loss = place.rows("other-run")[0]["loss"].as_f64().unwrap();
    assert!((loss - 2f64.ln()).abs() > 1e-3);
}

#[test]
fn every_kind_of_network_goes_on_from_its_checkpoint() {
    let place = Place::new(6);
    let cases: [(&str, &[&str]); 7] = [
        ("dro-v", &[]),
        ("dro-v", &["--value", "shared"]),
        ("dro-v", &["--lora-rank", "2"]),
        (
            "dro-v",
            &[
                "--lora-rank",
                "2",
                "--value",
                "shared",
                "--reference",
                "live",
            ],
        ),
        ("reward-model", &[]),
        ("reward-model", &["--lora-rank", "2"]),
        (
            "kto",
            &["--log-every", "3", "--reference", "live", "--dtype", "f64"],
        ),
    ];
    for (i, (name, more)) in cases.into_iter().enumerate() {
        let out = format!("run-{i}");
        place.train(&[&[name], &SHORT[..], more, &["--out", &out]].concat());
        let (rows, before) = (place.rows(&out), place.files(&out));
        place.train(&["--resume", &format!("{out}/checkpoint-2")]);
        assert_eq!(rows, place.rows(&out), "{name} {more:?}");
        for (file, bytes) in place.lasting(&out) {
            assert!(
                before[&file] == bytes,
                "{name} {more:?}: {}",
                file.display()
            );
        }
    }
}
