//! `pistar select`: the best examples of clusters of prompts.

use std::collections::HashMap;
use std::fs;

use candle_core::{DType, Device};
use pistar::llm::internals::tensor::tape::Tape;
use pistar::llm::model::decoder::Decoder;
use pistar::llm::model::sequence::Packed;
use pistar::llm::sample::selection::embeddings;
use serde_json::Value;

use crate::place::Place;

fn rows(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn of_each_cluster_the_best_are_kept_and_can_be_rehearsed() {
    let place = Place::new(12);
    let select = |more: &[&str]| {
        let all = [
            "select",
            "--model",
            "model",
            "--data",
            "data.jsonl",
            "--kept",
            "3",
        ];
        place.run(&[&all[..], more].concat())
    };
    let output = select(&["--clusters", "3", "--out", "kept.jsonl"]);
    assert!(output.status.success(), "{output:?}");
    let kept = rows(&place.read("kept.jsonl"));
    let data = rows(&place.read("data.jsonl"));
    let mut clusters: HashMap<u64, Vec<f64>> = HashMap::new();
    for row in &kept {
        let of = data.iter().find(|d| d["prompt"] == row["prompt"]).unwrap();
        let texts = of["completions"].as_array().unwrap();
        let which = texts.iter().position(|t| *t == row["completion"]).unwrap();
        assert_eq!(row["score"], of["scores"][which]);
        let score = row["score"].as_f64().unwrap();
        clusters
            .entry(row["cluster"].as_u64().unwrap())
            .or_default()
            .push(score);
    }
    assert!(clusters.len() == 3 && clusters.values().all(|all| all.len() <= 3));
    // With one cluster, the best of all.
    assert!(
        select(&["--clusters", "1", "--out", "best.jsonl"])
            .status
            .success()
    );
    let mut best: Vec<f64> = rows(&place.read("best.jsonl"))
        .iter()
        .map(|r| r["score"].as_f64().unwrap())
        .collect();
    best.sort_by(|a, b| b.total_cmp(a));
    let scores = data.iter().flat_map(|d| d["scores"].as_array().unwrap());
    let mut all: Vec<f64> = scores.map(|s| s.as_f64().unwrap()).collect();
    all.sort_by(|a, b| b.total_cmp(a));
    assert_eq!(best, all[..3]);
    // Same seed, same bytes, and standard output is the same rows.
    let printed = select(&["--clusters", "3"]);
    assert_eq!(
        String::from_utf8(printed.stdout).unwrap(),
        place.read("kept.jsonl")
    );
    place.train(&[
        "dpo",
        "--model",
        "model",
        "--data",
        "data.jsonl",
        "--rehearse",
        "kept.jsonl",
        "--steps",
        "1",
        "--out",
        "run",
    ]);
}

/// The mean of the hidden states of each prompt alone, of length 1, however many are run at once.
#[test]
fn prompts_are_embedded_by_their_mean_hidden_state() {
    let place = Place::new(1);
    let model = Decoder::load(place.at("model"), DType::F64, &Device::Cpu).unwrap();
    let prompts: [&[u32]; 4] = [&[3, 4, 5], &[6], &[3, 9, 4, 7], &[5, 8]];
    for budget in [1, 5, 100] {
        let found = embeddings(&model, &prompts, budget).unwrap();
        for (i, prompt) in prompts.iter().enumerate() {
            let packed = Packed::new([*prompt]);
            let hidden = model.hidden(&Tape::idle(), &packed).unwrap();
            let mean = hidden.value().mean(0).unwrap().to_vec1::<f64>().unwrap();
            let length = mean.iter().map(|x| x * x).sum::<f64>().sqrt();
            for (j, x) in mean.iter().enumerate() {
                assert!((found[(i, j)] - x / length).abs() < 1e-12, "{budget} {i}");
            }
        }
    }
}

#[test]
fn what_cannot_be_selected_is_refused() {
    let place = Place::new(3);
    fs::write(
        place.at("bare.jsonl"),
        "{\"prompt\": \" w1\", \"completion\": \" w2\"}\n",
    )
    .unwrap();
    let text = "{\"prompt\": \" w1\", \"completions\": [\" w2\"], \"scores\": [1, 2]}\n";
    fs::write(place.at("uneven.jsonl"), text).unwrap();
    let text = "{\"prompt\": \" w1\", \"completion\": \" w2\", \"score\": \"high\"}\n";
    fs::write(place.at("text.jsonl"), text).unwrap();
    for (data, more, wanted) in [
        (
            "data.jsonl",
            &["--clusters", "4", "--kept", "1"][..],
            "clusters",
        ),
        (
            "data.jsonl",
            &["--clusters", "0", "--kept", "1"],
            "--clusters",
        ),
        ("data.jsonl", &["--clusters", "1", "--kept", "0"], "--kept"),
        ("bare.jsonl", &["--clusters", "1", "--kept", "1"], "row 1"),
        (
            "uneven.jsonl",
            &["--clusters", "1", "--kept", "1"],
            "one length",
        ),
        (
            "text.jsonl",
            &["--clusters", "1", "--kept", "1"],
            "a score is",
        ),
        (
            "none.jsonl",
            &["--clusters", "1", "--kept", "1"],
            "none.jsonl",
        ),
    ] {
        let all = [&["select", "--model", "model", "--data", data][..], more].concat();
        let output = place.run(&all);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && said.contains(wanted),
            "{data} {more:?}: {said}"
        );
    }
}
