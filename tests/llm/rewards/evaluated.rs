//! `pistar evaluate`: its numbers against their definitions, and what it refuses.

use candle_core::{DType, Device};
use pistar::llm::model::decoder::Decoder;
use pistar::llm::model::sequence::{Packed, Sequence};
use pistar::llm::sample::evaluate::compare;
use pistar::llm::sample::generate::{Sampling, generate};
use pistar::observer::Silent;
use serde_json::{Value, json};

use super::{lines, place, refuses, runs, write};
use crate::fixtures::{folder, numbers};

fn prompts() -> Vec<Value> {
    ["a", "tim", "b a", "ab", "me"]
        .map(|p| json!({"prompt": p, "answer": "b"}))
        .into()
}

/// Log-softmax of every row.
fn log_softmax(model: &Decoder, tokens: &[u32]) -> Vec<Vec<f64>> {
    let logits = model.logits(&Packed::new([tokens])).unwrap();
    let width = logits.dims()[1];
    (numbers(&logits).chunks(width))
        .map(|row| {
            let z: f64 = row.iter().map(|l| l.exp()).sum();
            row.iter().map(|l| l - z.ln()).collect()
        })
        .collect()
}

#[test]
fn divergences_are_those_of_full_distributions() {
    let load = |name| Decoder::load(folder(name), DType::F64, &Device::Cpu).unwrap();
    let policy = load("llama");
    let other = place(&[]);
    write(
        &other,
        "demos.jsonl",
        &[json!({"prompt": "a", "completion": " b ab"})],
    );
    runs(
        &other,
        &[
            "train",
            "sft",
            "--model",
            "model",
            "--data",
            "demos.jsonl",
            "--steps",
            "3",
            "--lr",
            "0.01",
            "--batch",
            "1",
            "--out",
            "run",
        ],
    );
    let path = other.path().join("run/model");
    let reference = Decoder::load(path, DType::F64, &Device::Cpu).unwrap();
    let sequences: Vec<Sequence> = [(vec![1, 5, 9, 2], 2), (vec![1, 7, 7, 30, 12, 4, 2], 1)]
        .map(|(tokens, prompt)| Sequence::new(tokens, prompt).unwrap())
        .into();
    for batch in [1, 100] {
        let found = compare(&policy, &reference, &sequences, batch, &Silent).unwrap();
        for (sequence, found) in sequences.iter().zip(found) {
            let tokens = sequence.tokens();
            let (p, r) = (
                log_softmax(&policy, tokens),
                log_softmax(&reference, tokens),
            );
            let (mut ratio, mut divergence) = (0.0, 0.0);
            for t in sequence.prompt().len()..tokens.len() {
                let token = tokens[t] as usize;
                ratio += p[t - 1][token] - r[t - 1][token];
                let terms = p[t - 1]
                    .iter()
                    .zip(&r[t - 1])
                    .map(|(p, r)| p.exp() * (p - r));
                divergence += terms.sum::<f64>();
            }
            assert!((found.log_ratio() - ratio).abs() < 1e-10);
            assert!((found.divergence - divergence).abs() < 1e-10 && divergence > 0.0);
            assert_eq!(found.tokens, sequence.completion().len());
        }
    }
    // Over many completions of π both estimate one number.
    let sampling = Sampling {
        samples: 600,
        max_new_tokens: 6,
        ..Sampling::default()
    };
    let drawn = generate(&policy, &[2], &[vec![1, 5]], &sampling, 3, 64, &Silent).unwrap();
    let drawn: Vec<Sequence> = (drawn.iter())
        .map(|g| Sequence::new([&[1, 5], &g.tokens[..]].concat(), 2).unwrap())
        .collect();
    let found = compare(&policy, &reference, &drawn, 4096, &Silent).unwrap();
    let differences: Vec<f64> = found.iter().map(|c| c.log_ratio() - c.divergence).collect();
    let [low, high] = pistar::stats::t_interval(&differences, 0.9999).unwrap();
    assert!(low < 0.0 && high > 0.0, "{low} {high}");
}

#[test]
fn a_report_of_a_model() {
    let place = place(&prompts());
    let common = [
        "evaluate",
        "--prompts",
        "rows.jsonl",
        "--reward",
        "length",
        "--json",
    ];
    let evaluate = |more: &[&str]| -> Value {
        serde_json::from_str(&runs(&place, &[&common[..], more].concat())).unwrap()
    };
    let own = [
        "--model",
        "model",
        "--samples",
        "3",
        "--max-new-tokens",
        "8",
    ];
    let against = [
        "--reference",
        "model",
        "--against",
        "model",
        "--out",
        "one.jsonl",
    ];
    let found = evaluate(&[&own[..], &against].concat());
    let report = &found["report"];
    assert_eq!(
        (&report["prompts"], &report["completions"]),
        (&json!(5), &json!(15))
    );
    assert_eq!(report["kl"]["value"], 0.0);
    assert_eq!(report["kl_exact"]["value"], 0.0);
    // The rows that it wrote say the same, and are as good as the model itself.
    let rows = lines(&std::fs::read_to_string(place.path().join("one.jsonl")).unwrap());
    assert_eq!(rows.len(), 15);
    let mean = |name: &str| rows.iter().map(|r| r[name].as_f64().unwrap()).sum::<f64>() / 15.0;
    let close = |a: &Value, b: f64| assert!((a.as_f64().unwrap() - b).abs() < 1e-12, "{a} {b}");
    close(&report["reward"]["value"], mean("score"));
    close(&report["length"]["value"], mean("tokens"));
    close(
        &report["entropy"]["value"],
        mean("entropy") / mean("tokens"),
    );
    assert!(
        rows.iter()
            .all(|r| r["answer"] == "b" && r["log_ratio"] == 0.0)
    );
    let again = evaluate(&["--completions", "one.jsonl", "--against", "one.jsonl"]);
    assert_eq!(again["report"]["reward"], report["reward"]);
    // Against itself nobody wins.
    let draw = &again["head_to_head"][0];
    assert_eq!(
        (&draw["rate"]["value"], &draw["difference"]["value"]),
        (&json!(0.5), &json!(0.0))
    );
    assert!(again["report"]["kl"].is_null());
    // Whoever is compared to a longer text loses.
    let longer: Vec<Value> = prompts()
        .into_iter()
        .map(|p| json!({"prompt": p["prompt"], "chosen": "long".repeat(99), "rejected": ""}))
        .collect();
    write(&place, "longer.jsonl", &longer);
    let lost = evaluate(&["--completions", "one.jsonl", "--against", "longer.jsonl"]);
    assert_eq!(lost["head_to_head"][0]["rate"]["value"], 0.0);
    // The same seed, the same report, whatever runs at once.
    let batches = [&own[..], &against, &["--batch", "1", "--batch-tokens", "1"]].concat();
    assert_eq!(evaluate(&batches), found);
    let cut = evaluate(&[&own[..], &["--top-k", "3", "--reference", "model"]].concat());
    assert!(cut["report"]["kl"].is_null() && cut["report"]["log_ratio"]["value"] == 0.0);
}

#[test]
fn what_cannot_be_evaluated_is_refused() {
    let place = place(&prompts());
    write(
        &place,
        "some.jsonl",
        &[json!({"prompt": "a", "completion": "b"})],
    );
    write(&place, "none.jsonl", &[json!({"question": "a"})]);
    let answered = |answer: &str, id: u64| json!({"prompt": "a", "answer": answer, "id": id});
    let two = [answered("1", 0), answered("1", 1), answered("2", 2)];
    write(&place, "two.jsonl", &two);
    refuses(
        &place,
        &[
            "evaluate",
            "--reward",
            "exact:answer",
            "--prompts",
            "two.jsonl",
            "--model",
            "model",
        ],
        &["two.jsonl:3", "prompt is that of two.jsonl:1", "`answer`"],
    );
    std::fs::create_dir(place.path().join("empty")).unwrap();
    let common = ["evaluate", "--reward", "length", "--prompts"];
    for (more, says) in [
        (
            &["rows.jsonl", "--completions", "some.jsonl"][..],
            &["some.jsonl", "4 of the 5 prompts"][..],
        ),
        (
            &["rows.jsonl", "--model", "model", "--against", "some.jsonl"],
            &["4 of the 5"],
        ),
        (
            &["none.jsonl", "--model", "model"],
            &["none.jsonl:1", "`prompt` is missing", "question"],
        ),
        (
            &["rows.jsonl", "--model", "nowhere"],
            &["nowhere", "no such folder"],
        ),
        (
            &["rows.jsonl", "--model", "empty"],
            &["neither a model nor a finished run"],
        ),
        (
            &["rows.jsonl", "--model", "reward"],
            &["reward", "it is a reward model"],
        ),
        (
            &["rows.jsonl", "--model", "model", "--samples", "0"],
            &["samples", "give 1 or more"],
        ),
        (
            &["rows.jsonl", "--model", "model", "--out", "-"],
            &["--out", "name a file"],
        ),
    ] {
        refuses(&place, &[&common[..], more].concat(), says);
    }
}
