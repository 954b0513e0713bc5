//! Devices and precisions of the commands, and bfloat16 against transformers.

use std::process::{Command, Output};

use candle_core::{DType, Device};
use pistar::llm::model::decoder::Decoder;
use pistar::llm::sample::generate::{Sampling, Session, generate};
use pistar::observer::Silent;
use serde_json::Value;

use crate::fixtures::{Expected, folder, largest, models, numbers};
use crate::texts::spaces;

fn pistar(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pistar"));
    command.args(arguments).output().unwrap()
}

#[test]
fn every_command_that_runs_models_says_where_and_how() {
    for command in ["train", "generate", "logprobs", "score", "evaluate"] {
        let help = pistar(&[command, "--help"]);
        let help = String::from_utf8(help.stdout).unwrap();
        for flag in ["--device", "--dtype", "cuda:N", "bf16", "f64"] {
            assert!(help.contains(flag), "{command} has no {flag}");
        }
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let rows = place.path().join("rows.jsonl");
    std::fs::write(&rows, "{\"prompt\": \"a\", \"completion\": \"b\"}\n").unwrap();
    let rows = rows.to_str().unwrap();
    let model = folder("llama");
    let model = model.to_str().unwrap();
    let commands: [&[&str]; 4] = [
        &["generate", "--model", model, "--prompt", "a"],
        &["logprobs", "--model", model, "--data", rows],
        &["score", "--data", rows, "--reward", "length:words"],
        &[
            "evaluate",
            "--prompts",
            rows,
            "--completions",
            rows,
            "--reward",
            "length:words",
        ],
    ];
    let cases: [(&[&str], &str); 4] = [
        (&["--tf32"], "leave it out, or give --device cuda"),
        (&["--tf32", "--dtype", "bf16"], "give --dtype f32"),
        (&["--device", "gpu"], "give cpu, cuda or cuda:N"),
        #[cfg(not(feature = "cuda"))]
        (&["--device", "cuda:1"], "build with --features cuda"),
        #[cfg(feature = "cuda")]
        (&["--device", "cuda:99"], "cuda:99"),
    ];
    for command in commands {
        for (more, says) in cases {
            let output = pistar(&[command, more].concat());
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(
                output.status.code(),
                Some(2),
                "{command:?} {more:?}: {said}"
            );
            assert!(said.contains(says), "{command:?} {more:?}: {said}");
            assert!(output.stdout.is_empty());
        }
    }
}

/// bfloat16 keeps 8 bits: transformers' own bf16 runs of these models are up to 3.0e-2 of the greatest
/// logit away from its f64; ours are within 2⁻⁴.
#[test]
fn bfloat16_logits_are_near_those_of_transformers() {
    for name in models() {
        let model = Decoder::load(folder(name), DType::BF16, &Device::Cpu).unwrap();
        let expected = Expected::of(name);
        let greatest = expected
            .logits
            .concat()
            .iter()
            .fold(0.0, |m: f64, x| m.max(x.abs()));
        let logits = numbers(&model.logits(&expected.packed()).unwrap());
        let error = largest(&logits, &expected.logits.concat()) / greatest;
        println!("{name}: {error:.1e}");
        assert!(error < 1.0 / 16.0, "{name}: {error:e}");
        // Fed as they come, those of the longest sequence are as near.
        let longest = (0..expected.sequences.len()).max_by_key(|&i| expected.sequences[i].len());
        let longest = longest.unwrap();
        let width = model.sizes().vocabulary;
        let theirs: Vec<&[f64]> = expected.logits[longest].chunks_exact(width).collect();
        let (first, rest) = expected.sequences[longest].split_at(3);
        let mut session = Session::new(&model).unwrap();
        session.feed(first).unwrap();
        assert!(theirs.len() == first.len() + rest.len() && !rest.is_empty());
        for (at, token) in (first.len()..).zip(rest) {
            let ours = session.feed(std::slice::from_ref(token)).unwrap();
            let error = largest(&ours, theirs[at]) / greatest;
            assert!(error < 1.0 / 16.0, "{name}, token {at}: {error:e}");
        }
    }
}

/// In bfloat16 too a sample is its own: the same seed gives the same tokens again.
#[test]
fn bfloat16_generates() {
    let model = Decoder::load(folder("qwen2"), DType::BF16, &Device::Cpu).unwrap();
    let sampling = Sampling {
        max_new_tokens: 9,
        samples: 3,
        ..Sampling::default()
    };
    let prompts = [vec![1, 5, 9], vec![2], vec![3, 8, 1, 7, 4]];
    let run = || generate(&model, &[], &prompts, &sampling, 3, 4, &Silent).unwrap();
    let all = run();
    assert_eq!(all, run());
    assert_eq!(all.len(), 9);
    assert!(all.iter().all(|g| g.tokens.len() == 9 && g.log_prob < 0.0));
    assert_ne!(all[0].tokens, all[1].tokens);
}

#[test]
fn the_commands_run_in_bfloat16() {
    let place = tempfile::tempdir().unwrap();
    let model = place.path().join("model");
    std::fs::create_dir(&model).unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(folder("llama").join(name), model.join(name)).unwrap();
    }
    spaces().save(&model);
    let rows = place.path().join("rows.jsonl");
    std::fs::write(
        &rows,
        "{\"prompt\": \"w3 w4\", \"completion\": \"w5 w6\"}\n",
    )
    .unwrap();
    let (model, rows) = (model.to_str().unwrap(), rows.to_str().unwrap());
    let sum = |dtype| {
        let output = pistar(&[
            "logprobs", "--model", model, "--data", rows, "--dtype", dtype,
        ]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        let row: Value = serde_json::from_slice(&output.stdout).unwrap();
        (row["sum"].as_f64().unwrap(), row["count"].as_u64().unwrap())
    };
    let ((exact, count), (rounded, same)) = (sum("f64"), sum("bf16"));
    assert_eq!(count, same);
    assert!(
        exact != rounded && (exact / rounded - 1.0).abs() < 1.0 / 16.0,
        "{exact} {rounded}"
    );
    let arguments = [
        "generate",
        "--model",
        model,
        "--prompt",
        "w3",
        "--max-new-tokens",
        "4",
    ];
    let output = pistar(&[&arguments[..], &["--dtype", "bf16"]].concat());
    assert!(output.status.success());
    let row: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(row["log_prob"].as_f64().unwrap() < 0.0);
}
