//! Reward models as rewards, and the report on them.

use std::fs;

use candle_core::{DType, Device};
use pistar::llm::internals::model::inference::numbers;
use pistar::llm::model::decoder::Decoder;
use pistar::llm::model::heads::{ScalarHead, Scorer};
use pistar::llm::model::network::{Network, Reduction};
use pistar::llm::model::sequence::Sequence;
use serde_json::{Value, json};

use super::{lines, place, refuses, runs};
use crate::fixtures::folder;
use crate::texts::spaces;

#[test]
fn scores_are_the_heads_at_eos() {
    let place = place(&[
        json!({"prompt": "a", "completion": " b"}),
        json!({"prompt": "tim", "completion": "e a b"}),
    ]);
    let rows = lines(&runs(
        &place,
        &[
            "score",
            "--reward",
            "model:reward",
            "--data",
            "rows.jsonl",
            "--dtype",
            "f64",
        ],
    ));
    let mut decoder = Decoder::load_body(folder("reward"), DType::F64, &Device::Cpu).unwrap();
    ScalarHead::Reward
        .load(&mut decoder, folder("reward"))
        .unwrap();
    let network = Scorer {
        decoder,
        head: ScalarHead::Reward,
    };
    let (bos, eos) = (
        spaces().load().bos().unwrap(),
        spaces().load().eos().unwrap(),
    );
    for (row, text) in rows.iter().zip(["a b", "time a b"]) {
        let tokens = [&[bos], &spaces().ids(text)[..], &[eos]].concat();
        let sequence = [Sequence::new(tokens, 1).unwrap()];
        let expected = numbers(&network as &dyn Network, Reduction::Sum, &sequence, 100).unwrap();
        let found = row["score"].as_f64().unwrap();
        assert!(
            (found - expected.sequences[0]).abs() < 1e-12,
            "{found} {expected:?}"
        );
    }
}

/// Pairs of two categories, of which the first prefers `a` and the second `b`.
fn pairs() -> Vec<Value> {
    let texts = [" ab", " aab", " aaab", " abab"];
    (0..16)
        .map(|i| {
            let (good, bad) = (texts[i % 4], " b");
            let (chosen, rejected) = if i < 12 { (good, bad) } else { (bad, good) };
            json!({"prompt": format!("{}", "ab".repeat(1 + i % 3)), "chosen": chosen,
                   "rejected": rejected, "category": if i < 8 { "one" } else { "two" }})
        })
        .collect()
}

#[test]
fn the_report_on_both_reward_models() {
    let place = place(&pairs());
    for (objective, margin) in [
        ("reward-model", None),
        ("advantage-model-distinct", Some("1.5")),
    ] {
        let out = format!("runs/{objective}");
        let mut train = vec![
            "train",
            objective,
            "--model",
            "model",
            "--data",
            "rows.jsonl",
            "--steps",
            "12",
            "--batch",
            "16",
            "--lr",
            "0.02",
            "--out",
            &out,
        ];
        train.extend(margin.iter().flat_map(|m| ["--margin", m]));
        runs(&place, &train);
        let reward = format!("model:{out}/model");
        let mut score = vec![
            "score",
            "--reward",
            &reward,
            "--data",
            "rows.jsonl",
            "--report",
            "--json",
        ];
        score.extend(margin.iter().flat_map(|m| ["--margin", m]));
        let report: Value = serde_json::from_str(&runs(&place, &score)).unwrap();
        assert_eq!(report["all"]["pairs"], 16);
        assert_eq!(report["categories"]["one"]["pairs"], 8);
        // All of the first category and half of the second prefer the same: no order does better.
        let accuracy = |of: &Value| of["accuracy"]["value"].as_f64().unwrap();
        assert_eq!(accuracy(&report["categories"]["one"]), 1.0, "{report}");
        assert!(report["all"]["margin"]["mean"].as_f64().unwrap() > 0.0);
        assert_eq!(report["all"]["beyond"].is_null(), margin.is_none());
        // Its definition, from the rows that are written with it.
        score.truncate(5);
        let rows = lines(&runs(&place, &score));
        let gap = |row: &Value| {
            row["chosen_score"].as_f64().unwrap() - row["rejected_score"].as_f64().unwrap()
        };
        let mut bins = [[0.0; 3]; 10];
        for gap in rows.iter().map(gap) {
            let confidence = 1.0 / (1.0 + (-gap.abs()).exp());
            let bin = &mut bins[((20.0 * confidence - 10.0) as usize).min(9)];
            bin[0] += 1.0;
            bin[1] += confidence;
            bin[2] += f64::from(u8::from(gap > 0.0));
        }
        let ece: f64 = bins.iter().map(|b| (b[1] - b[2]).abs() / 16.0).sum();
        let found = report["all"]["ece"].as_f64().unwrap();
        assert!((found - ece).abs() < 1e-12, "{found} {ece}");
        let page = runs(
            &place,
            &score
                .iter()
                .copied()
                .chain(["--report"])
                .collect::<Vec<_>>(),
        );
        for part in ["category", "ECE", "between categories", "confidence from"] {
            assert!(page.contains(part), "{page}");
        }
    }
}

#[test]
fn an_adapter_with_a_reward_head_is_one_too() {
    let place = place(&pairs());
    runs(
        &place,
        &[
            "train",
            "reward-model",
            "--model",
            "model",
            "--data",
            "rows.jsonl",
            "--steps",
            "2",
            "--batch",
            "4",
            "--lora-rank",
            "2",
            "--out",
            "run",
        ],
    );
    let score = |reward: &str| {
        let args = ["score", "--reward", reward, "--data", "rows.jsonl"];
        lines(&runs(&place, &args))
    };
    let rows = score("model,base=model:run/model");
    assert!(rows.iter().all(|row| row["chosen_score"].is_f64()));
    // A head that is not the fixture's, on a body that is.
    assert_ne!(rows, score("model:reward"));
    // As a judge it is known as one too: it scores, where a language model would be asked for labels.
    let judge = ["--judge", "model,base=model:run/model", "--json"];
    let judged = runs(
        &place,
        &[
            &["evaluate", "--prompts", "rows.jsonl"][..],
            &["--completions", "rows.jsonl", "--against", "rows.jsonl"],
            &judge,
        ]
        .concat(),
    );
    let judged: Value = serde_json::from_str(&judged).unwrap();
    assert_eq!(judged["judged"][0]["agreement"]["value"], 1.0);
    let config = place.path().join("run/model/adapter_config.json");
    let text = fs::read_to_string(&config).unwrap();
    let mut object: Value = serde_json::from_str(&text).unwrap();
    object["base_model_name_or_path"] = "nowhere".into();
    fs::write(&config, object.to_string()).unwrap();
    refuses(
        &place,
        &[
            "score",
            "--reward",
            "model:run/model",
            "--data",
            "rows.jsonl",
        ],
        &["nowhere", "model,base=DIR"],
    );
}
