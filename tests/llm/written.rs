//! Evaluation inside training by what the policy writes.

use std::fs;

use serde_json::Value;

use crate::place::Place;

const ALL: [&str; 28] = [
    "dpo",
    "--model",
    "model",
    "--data",
    "data.jsonl",
    "--steps",
    "4",
    "--batch",
    "3",
    "--lr",
    "2e-2",
    "--checkpoint-every",
    "2",
    "--eval-every",
    "2",
    "--eval-on-start",
    "--eval-prompts",
    "prompts.jsonl",
    "--eval-reward",
    "regex,count=true:w2",
    "--eval-seed",
    "5",
    "--eval-samples",
    "3",
    "--eval-max-new-tokens",
    "9",
    "--beta",
    "0.3",
];

fn place() -> Place {
    let place = Place::new(9);
    fs::write(
        place.at("prompts.jsonl"),
        "{\"prompt\": \"w1 w2\"}\n{\"prompt\": \"w7\"}\n",
    )
    .unwrap();
    place
}

fn evaluations(place: &Place, run: &str) -> Vec<Value> {
    let rows = place.rows(run).into_iter();
    rows.filter(|row| row.get("eval_objective/scores").is_some())
        .collect()
}

fn number(row: &Value, name: &str) -> f64 {
    row[name]
        .as_f64()
        .unwrap_or_else(|| panic!("{name}: {row}"))
}

#[test]
fn it_is_what_the_trained_model_writes() {
    let place = place();
    let runs: [(&str, &[&str]); 4] = [
        ("full", &[]),
        ("live", &["--reference", "live"]),
        ("lora", &["--lora-rank", "2"]),
        ("split", &["--eval-rows", "2"]),
    ];
    for (out, more) in runs {
        place.train(&[&ALL[..], more, &["--out", out]].concat());
        let found = evaluations(&place, out);
        let steps: Vec<&Value> = found.iter().map(|r| &r["step"]).collect();
        assert_eq!(steps, [0, 2, 4]);
        assert!(
            number(&found[0], "eval_objective/kl").abs() < 1e-4,
            "{out}: {}",
            found[0]
        );
        for row in &found {
            let regularised =
                number(row, "eval_objective/scores") - 0.3 * number(row, "eval_objective/kl");
            let told = number(row, "eval_objective/rlhf_reward");
            assert!((told - regularised).abs() < 1e-12, "{out}: {row}");
            assert_eq!(row.get("eval_loss").is_some(), out == "split");
        }
        // The same after going on.
        let before = (place.rows(out), place.lasting(out));
        place.train(&["--resume", &format!("{out}/checkpoint-2")]);
        assert_eq!(before, (place.rows(out), place.lasting(out)), "{out}");
    }
    assert_eq!(place.files("full/model"), place.files("live/model"));
    let other = ["--reference", "other", "--out", "other-run"];
    place.model("other", 2);
    place.train(&[&ALL[..], &other].concat());
    assert!(number(&evaluations(&place, "other-run")[0], "eval_objective/kl") > 0.1);

    let output = place.run(&[
        "generate",
        "--model",
        "full/model",
        "--prompts",
        "prompts.jsonl",
        "--seed",
        "5",
        "--samples",
        "3",
        "--max-new-tokens",
        "9",
    ]);
    let text = String::from_utf8(output.stdout).unwrap();
    let written: Vec<Value> = text
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(written.len(), 6);
    let last = evaluations(&place, "full").pop().unwrap();
    let mean = |of: &dyn Fn(&Value) -> f64| written.iter().map(of).sum::<f64>() / 6.0;
    for (name, mean) in [
        (
            "objective/scores",
            mean(&|w| w["completion"].as_str().unwrap().matches("w2").count() as f64),
        ),
        ("objective/entropy", mean(&|w| number(w, "entropy"))),
        ("completions/mean_length", mean(&|w| number(w, "tokens"))),
        (
            "completions/clipped_ratio",
            mean(&|w| f64::from(w["ended"] == false)),
        ),
    ] {
        let told = number(&last, &format!("eval_{name}"));
        assert!((told - mean).abs() < 1e-9, "{name}: {told} {mean}");
    }
}

#[test]
fn what_cannot_be_written_or_scored_is_said_before_anything_is() {
    let place = place();
    fs::write(place.at("empty.jsonl"), "{\"text\": \"w1\"}\n").unwrap();
    for (args, named) in [
        (
            &["--eval-reward", "nothing:w2"][..],
            &["eval_reward", "nothing"][..],
        ),
        (&["--eval-reward", "regex:("], &["regex"]),
        (
            &["--eval-prompts", "none.jsonl"],
            &["none.jsonl: cannot read"],
        ),
        (
            &["--eval-prompts", "empty.jsonl"],
            &["empty.jsonl:1", "`prompt` is missing"],
        ),
        (&["--eval-max-new-tokens", "0"], &["eval_max_new_tokens"]),
        (&["--eval-samples", "0"], &["eval_samples"]),
        (
            &[
                "--eval-temperature",
                "0.5",
                "--keep-best",
                "eval_objective/kl",
            ],
            &["eval_objective/kl", "eval_objective/scores"],
        ),
    ] {
        let error = place.refused(&[&ALL[..], args, &["--out", "run"]].concat());
        for part in named {
            assert!(error.contains(part), "{args:?}: {error}");
        }
        assert!(!place.at("run").exists(), "{args:?}");
    }
    let score = [&["reward-model"], &ALL[1..26], &["--out", "run"]].concat();
    let error = place.refused(&score);
    assert!(
        error.contains("eval_prompts") && error.contains("writes no text"),
        "{error}"
    );
}
