//! A further share of every step: likelihood of given responses, beside the objective.

use std::fs;

use candle_core::{DType, Device};
use pistar::llm::model::decoder::Decoder;

use crate::place::Place;
use crate::train::weights;

/// `pistar train` by gradient descent in f64 in the order of the rows.
fn args<'a>(objective: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let all = "--model model --shuffle false --dtype f64 --optimizer sgd --lr 0.01 --schedule constant --clip 0 \
               --checkpoint-every 1 --keep 0 --out";
    let mut all: Vec<&str> = std::iter::once(objective)
        .chain(all.split_whitespace())
        .collect();
    all.push(out);
    all.extend(more);
    all
}

fn of(place: &Place, dir: &str) -> Vec<f64> {
    let model = Decoder::load(place.at(dir), DType::F64, &Device::Cpu).unwrap();
    weights(model.parameters())
}

/// By how much a run's first step moved the weights.
fn step(place: &Place, out: &str) -> Vec<f64> {
    let (before, after) = (
        of(place, "model"),
        of(place, &format!("{out}/checkpoint-1")),
    );
    after.iter().zip(before).map(|(a, b)| a - b).collect()
}

const REHEARSE: [&str; 6] = [
    "--rehearse",
    "kept.jsonl",
    "--rehearse-weight",
    "0.3",
    "--rehearse-batch",
    "4",
];

#[test]
fn a_step_is_that_of_the_objective_and_gamma_times_that_of_likelihood() {
    let place = Place::new(7);
    place.data("kept.jsonl", 9, 5);
    let sft = "--data kept.jsonl --batch 4 --steps 1 --token-reduction sum";
    let sft: Vec<&str> = sft.split(' ').collect();
    place.train(&args("sft", "likelihood", &sft));
    for (objective, data) in [("dpo", "--data"), ("copg", "--data"), ("dpo", "--prompts")] {
        let mut more = vec![data, "data.jsonl", "--batch", "3", "--steps", "1"];
        if data == "--prompts" {
            more.extend(["--reward", "length:characters", "--max-new-tokens", "9"]);
        }
        let name = |what: &str| format!("{what}-{objective}{data}");
        let [alone, both] = [name("alone"), name("both")];
        place.train(&args(objective, &alone, &more));
        let parts = [&more[..], &REHEARSE, &["--micro-batch-tokens", "30"]].concat();
        place.train(&args(objective, &both, &parts));
        let (own, likelihood) = (step(&place, &alone), step(&place, "likelihood"));
        let found = step(&place, &both);
        let size = likelihood.iter().map(|x| x.abs()).fold(0.0, f64::max);
        let apart = |gamma: f64| {
            let wanted = own.iter().zip(&likelihood).map(|(a, b)| a + gamma * b);
            (found.iter().zip(wanted))
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f64::max)
        };
        assert!(
            apart(0.3) < 1e-9 * size,
            "{objective}{data}: {}",
            apart(0.3)
        );
        for wrong in [0.0, -0.3, 0.3 / 4.0, 1.0] {
            assert!(apart(wrong) > 1e-2 * size, "{objective}{data}");
        }
        // γ = 0 is nothing beside.
        if objective == "dpo" && data == "--data" {
            let mut none = [&more[..], &REHEARSE].concat();
            let at = none.iter().position(|a| *a == "0.3").unwrap();
            none[at] = "0";
            place.train(&args(objective, "none", &none));
            assert!(step(&place, "none") == own);
            assert!(place.rows("none")[0].get("rehearsal/loss").is_none());
        }
        let row = &place.rows(&both)[0];
        let kept = place.rows("likelihood")[0]["loss"].as_f64().unwrap();
        assert!((row["rehearsal/loss"].as_f64().unwrap() - kept).abs() < 1e-9 * kept);
        assert_eq!(row["loss"], place.rows(&alone)[0]["loss"]);
    }
}

#[test]
fn a_run_that_rehearses_goes_on_to_the_same_bytes() {
    let place = Place::new(7);
    place.data("kept.jsonl", 9, 5);
    let data = [
        "--data",
        "data.jsonl",
        "--batch",
        "3",
        "--steps",
        "5",
        "--shuffle",
        "true",
    ];
    let mut all = args("dpo", "whole", &[&data[..], &REHEARSE].concat());
    let first = all.iter().position(|a| *a == "--shuffle").unwrap();
    all.drain(first..first + 2);
    place.train(&all);
    for steps in [1, 3] {
        let run = format!("from-{steps}");
        place.copy("whole", &run);
        place.train(&["--resume", &format!("{run}/checkpoint-{steps}")]);
        assert!(place.lasting(&run) == place.lasting("whole"), "{steps}");
    }
    // Other rows are another run.
    place.data("kept.jsonl", 9, 6);
    let said = place.refused(&["--resume", "from-1/checkpoint-3"]);
    assert!(said.contains("rehearse"), "{said}");
}

#[test]
fn what_cannot_be_rehearsed_is_refused() {
    let place = Place::new(7);
    place.data("kept.jsonl", 9, 5);
    fs::write(place.at("bare.jsonl"), "{\"prompt\": \" w1\"}\n").unwrap();
    let data = ["--data", "data.jsonl"];
    for (objective, more, wanted) in [
        ("dpo", &["--rehearse-weight", "0.5"][..], "rehearse_weight"),
        ("dpo", &["--rehearse-batch", "3"], "rehearse_batch"),
        (
            "reward-model",
            &["--rehearse", "kept.jsonl"],
            "trains scores",
        ),
        ("dpo", &["--rehearse", "none.jsonl"], "none.jsonl"),
        ("dpo", &["--rehearse", "bare.jsonl"], "bare.jsonl:1"),
        (
            "dpo",
            &["--rehearse", "kept.jsonl", "--rehearse-weight=-1"],
            "rehearse_weight",
        ),
        (
            "dpo",
            &["--rehearse", "kept.jsonl", "--rehearse-batch", "0"],
            "rehearse_batch",
        ),
    ] {
        let mut all = vec![objective, "--model", "model", "--out", "no"];
        all.extend(data);
        all.extend(more);
        let said = place.refused(&all);
        assert!(said.contains(wanted), "{objective} {more:?}: {said}");
    }
}
