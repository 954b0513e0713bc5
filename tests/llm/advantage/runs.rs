//! Runs of it: what is refused, what is saved, and what that scores.

use std::fs;

use candle_core::{DType, Device};
use pistar::llm::internals::model::inference::numbers;
use pistar::llm::model::decoder::Decoder;
use pistar::llm::model::heads::{AdvantageScorer, ScalarHead};
use pistar::llm::model::model_folder::ModelFolder;
use pistar::llm::model::network::Reduction;
use pistar::llm::model::sequence::Sequence;
use serde_json::{Value, json};

use crate::place::Place;

const SHORT: [&str; 11] = [
    "advantage-model",
    "--model",
    "model",
    "--data",
    "data.jsonl",
    "--steps",
    "4",
    "--batch",
    "3",
    "--lr",
    "1e-2",
];

fn scores(place: &Place, reward: &str) -> Vec<f64> {
    let output = place.run(&[
        "score",
        "--reward",
        reward,
        "--data",
        "rows.jsonl",
        "--dtype",
        "f64",
    ]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{reward}: {said}");
    let text = String::from_utf8(output.stdout).unwrap();
    (text.lines())
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["score"]
                .as_f64()
                .unwrap()
        })
        .collect()
}

/// The score is a = r − e, and r where that is asked for; of all weights, of an adapter, and of an adapter merged.
#[test]
fn what_is_saved_scores_the_advantage() {
    let place = Place::new(11);
    let rows = [("w4 w5", "w6"), ("w4 w5", "w7 w8"), ("w9", "w6")];
    let text: String = (rows.iter())
        .map(|(prompt, completion)| {
            let row = json!({"prompt": prompt, "completion": format!(" {completion}")});
            format!("{row}\n")
        })
        .collect();
    fs::write(place.at("rows.jsonl"), text).unwrap();
    place.train(&[&SHORT[..], &["--out", "full"]].concat());
    place.train(&[&SHORT[..], &["--lora-rank", "2", "--out", "lora"]].concat());
    let merged = place.run(&["merge", "lora", "--out", "merged"]);
    assert!(merged.status.success(), "{merged:?}");
    let word = |w: &str| 3 + w[1..].parse::<u32>().unwrap();
    let sequences: Vec<Sequence> = (rows.iter())
        .map(|(prompt, completion)| {
            let prompt: Vec<u32> = prompt.split(' ').map(word).collect();
            let all: Vec<u32> = (prompt.iter().copied())
                .chain(completion.split(' ').map(word))
                .chain([2])
                .collect();
            Sequence::new(all, prompt.len()).unwrap()
        })
        .collect();
    let network = |mut decoder: Decoder, head: &str| {
        if !ScalarHead::Reward.is_on(&decoder) {
            ScalarHead::Reward
                .load(&mut decoder, place.at(head))
                .unwrap();
        }
        let of_expected = place.at(&format!("{head}/expected_head"));
        let of_expected = if of_expected.is_dir() {
            of_expected
        } else {
            place.at(head)
        };
        ScalarHead::Expected
            .load(&mut decoder, of_expected)
            .unwrap();
        AdvantageScorer(decoder)
    };
    let mut told = Vec::new();
    for (folder, named) in [
        ("full/model", "full"),
        ("lora/model", "lora"),
        ("merged", "merged"),
    ] {
        let found = ModelFolder::find(place.at(folder)).unwrap();
        let decoder = found.body(DType::F64, &Device::Cpu).unwrap();
        let model = network(decoder, folder);
        let want = numbers(&model, Reduction::Sum, &sequences, usize::MAX).unwrap();
        // The first two rows have one prompt.
        assert!((want.values[0] - want.values[1]).abs() < 1e-12);
        let raw = scores(&place, &format!("model,raw=true:{named}"));
        let advantage = scores(&place, &format!("model:{named}"));
        for i in 0..rows.len() {
            assert!((raw[i] - want.sequences[i]).abs() < 1e-12, "{folder}");
            let a = want.sequences[i] - want.values[i];
            assert!(
                (advantage[i] - a).abs() < 1e-12,
                "{folder}: {} {a}",
                advantage[i]
            );
            assert!(want.values[i].abs() > 1e-4, "e says nothing");
        }
        told.push(advantage);
    }
    for (a, b) in told[1].iter().zip(&told[2]) {
        assert!((a - b).abs() < 1e-5, "merged: {a} {b}");
    }
    // r and e go on from where they were.
    place.train(
        &[
            &["advantage-model", "--model", "full"],
            &SHORT[3..],
            &["--lr", "0", "--out", "on"],
        ]
        .concat(),
    );
    assert_eq!(scores(&place, "model:on"), told[0]);
    // A model of one head has no e to leave out.
    let distinct = ["advantage-model-distinct", "--margin", "2"];
    place.train(&[&distinct[..], &SHORT[1..], &["--out", "one"]].concat());
    let refused = place.run(&[
        "score",
        "--reward",
        "model,raw=true:one",
        "--data",
        "rows.jsonl",
    ]);
    let said = String::from_utf8_lossy(&refused.stderr).to_string();
    assert!(
        !refused.status.success() && said.contains("raw") && said.contains("one head"),
        "{said}"
    );
}

/// A run that is gone on with from the middle ends in the same bytes.
#[test]
fn a_run_goes_on_as_if_nothing_had_happened() {
    let place = Place::new(11);
    for (out, more) in [
        ("full", &["--micro-batch-tokens", "30"][..]),
        ("lora", &["--lora-rank", "2"]),
    ] {
        let kept = ["--checkpoint-every", "2", "--keep", "0", "--out", out];
        place.train(&[&SHORT[..], more, &kept].concat());
        let (whole, rows) = (place.lasting(out), place.rows(out));
        for metric in ["expected", "mean_advantage", "proposal_ratio"] {
            assert!(rows[0][metric].as_f64().unwrap().is_finite(), "{}", rows[0]);
        }
        let manifest = place.at(&format!("{out}/manifest.json"));
        let text = fs::read_to_string(&manifest).unwrap();
        fs::write(&manifest, text.replace("\"complete\"", "\"running\"")).unwrap();
        for gone in ["model", "checkpoint-4"] {
            fs::remove_dir_all(place.at(&format!("{out}/{gone}"))).unwrap();
        }
        place.train(&["--resume", "--out", out]);
        assert_eq!(place.rows(out), rows);
        assert!(place.lasting(out) == whole, "{out}");
    }
}

#[test]
fn what_cannot_be_used_is_refused_by_name() {
    let place = Place::new(3);
    let row = |proposals: Value| json!({"prompt": "w1", "chosen": " w2", "rejected": " w3", "proposals": proposals});
    for (proposals, wants) in [
        (json!([]), "`proposals` is empty"),
        (json!("w4"), "`proposals` is a string"),
        (json!(null), "`proposals` is missing"),
        (json!([" w4"]), "`proposals[0]` is a string"),
        (
            json!([{"text": " w4"}]),
            "`proposals[0]` has no `completion`",
        ),
        (
            json!([{"completion": 4}]),
            "`proposals[0].completion` is a number",
        ),
        (
            json!([{"completion": " w4"}, {"completion": " w5", "logprob": -1.0}]),
            "`proposals[1]` has `logprob` and no `policy_logprob`",
        ),
        (
            json!([{"completion": " w4", "policy_logprob": -1.0}]),
            "`proposals[0]` has `policy_logprob` and no `logprob`",
        ),
        (
            json!([{"completion": " w4", "logprob": "x", "policy_logprob": -1.0}]),
            "of `proposals[0]`: `logprob` is a string",
        ),
        (
            json!([{"completion": " w4", "logprob": 0.5, "policy_logprob": -1.0}]),
            "`proposals[0].logprob` is 0.5",
        ),
        (
            json!([{"completion": " w4", "logprob": -1.0, "policy_logprob": 1e-3}]),
            "`proposals[0].policy_logprob` is 0.001",
        ),
        (
            json!([{"completion": " w4", "logprob": -1.0, "log_prob": -1.0, "policy_logprob": -1.0}]),
            "`logprob` and `log_prob` mean the same",
        ),
    ] {
        fs::write(place.at("bad.jsonl"), format!("{}\n", row(proposals))).unwrap();
        let start = [
            "advantage-model",
            "--model",
            "model",
            "--data",
            "bad.jsonl",
            "--out",
            "bad",
        ];
        let said = place.refused(&start);
        assert!(said.contains(wants) && said.contains("bad.jsonl"), "{said}");
    }
    let long = json!([{"completion": " w4 w5 w6 w7 w8", "logprob": -1.0, "policy_logprob": -1.0}]);
    fs::write(place.at("bad.jsonl"), format!("{}\n", row(long))).unwrap();
    let start = [
        "advantage-model",
        "--model",
        "model",
        "--data",
        "bad.jsonl",
        "--out",
        "bad",
    ];
    let said = place.refused(&[&start[..], &["--max-length", "5"]].concat());
    assert!(
        said.contains("`proposals[0].completion` is cut to max_length"),
        "{said}"
    );
    for (flag, value) in [
        ("--margin", "0"),
        ("--margin", "inf"),
        ("--margin", "-1"),
        ("--policy-weight", "-0.5"),
        ("--policy-weight", "nan"),
        ("--policy-weight", "x"),
        ("--expected-coefficient", "-1"),
        ("--expected-coefficient", "inf"),
        ("--expected-coefficient", "nan"),
        ("--through-scores", "1.1"),
        ("--through-scores", "-0.1"),
        ("--through-scores", "inf"),
        ("--through-expected", "2"),
        ("--through-expected", "-1"),
        ("--through-expected", "nan"),
        ("--ratio-cap", "0.9"),
        ("--ratio-cap", "-1"),
        ("--ratio-cap", "nan"),
    ] {
        let flag_is = format!("{flag}={value}");
        let said = place.refused(&[&SHORT[..], &[&flag_is, "--out", "bad"]].concat());
        let field = flag[2..].replace('-', "_");
        assert!(
            said.contains(&field) || said.contains(&flag[2..]),
            "{flag_is}: {said}"
        );
    }
    let said = place.refused(&[
        "advantage-model",
        "--model",
        "model",
        "--prompts",
        "data.jsonl",
        "--reward",
        "length:words",
        "--out",
        "bad",
    ]);
    assert!(said.contains("reads proposals"), "{said}");
}

/// `pistar plan` counts both heads and the proposals.
#[test]
fn a_plan_counts_both_heads() {
    let place = Place::new(6);
    let plan = |objective: &[&str]| -> Value {
        let all = [
            &["plan"],
            objective,
            &[
                "--model",
                "model",
                "--data",
                "data.jsonl",
                "--batch",
                "3",
                "--json",
            ],
        ]
        .concat();
        let output = place.run(&all);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let (two, one) = (
        plan(&["advantage-model"]),
        plan(&["advantage-model-distinct", "--margin", "2"]),
    );
    let number = |of: &Value, name: &str| of[name].as_u64().unwrap();
    // A weight of the width, and a bias.
    for name in ["parameters", "trained"] {
        assert_eq!(number(&two, name), number(&one, name) + 17);
    }
    // Proposals are responses like the two of the pair.
    assert!(number(&two, "step_tokens") > number(&one, "step_tokens"));
    assert!(number(&two, "peak_tensor_bytes") > number(&one, "peak_tensor_bytes"));
}
