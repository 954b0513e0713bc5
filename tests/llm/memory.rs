//! Settings that need less memory and change no number, and bf16 runs on disk.

use std::fs;

use candle_core::{DType, Device, Tensor};
use pistar::llm::text::objective::TextObjective;
use pistar::prelude::*;
use serde_json::{Value, json};

use crate::place::Place;
use crate::train::{examples, settings, trainer, trainer_of, weights};

const SHORT: [&str; 14] = [
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
    "--checkpoint-every",
    "2",
    "--clip",
    "0",
];

fn run(place: &Place, out: &str, more: &[&str]) {
    place.train(&[more, &SHORT[..], &["--out", out]].concat());
}

/// Everything but the settings.
fn results(place: &Place, out: &str) -> (Vec<Value>, Vec<(String, Vec<u8>)>) {
    let mut files = place.lasting(out);
    files.retain(|name, _| !name.ends_with("config.toml"));
    let files = files.into_iter();
    let named = files.map(|(name, bytes)| (name.display().to_string(), bytes));
    (place.rows(out), named.collect())
}

#[test]
fn the_same_bytes_in_less_memory() {
    let place = Place::new(9);
    let cases: [&[&str]; 7] = [
        &["sft"],
        &["dpo", "--warmup", "2", "--weight-decay", "0.1"],
        &["dro-v", "--value-lr", "1e-3"],
        &["dro-v", "--value", "shared"],
        &["kto", "--lora-rank", "2", "--reference", "live"],
        &["reward-model", "--dtype", "f64"],
        &["dpo", "--dtype", "bf16"],
    ];
    for (i, case) in cases.into_iter().enumerate() {
        let plain = format!("plain-{i}");
        run(&place, &plain, case);
        let wanted = results(&place, &plain);
        assert!(
            wanted
                .1
                .iter()
                .any(|(name, _)| name.ends_with("optimizer.safetensors"))
        );
        for (how, flags) in [
            ("again", &["--recompute"][..]),
            ("at-once", &["--optimizer-in-backward"]),
            ("both", &["--recompute", "--optimizer-in-backward"]),
        ] {
            // Each once, and both for a few.
            if how == "both" && i % 3 != 1 {
                continue;
            }
            let out = format!("{how}-{i}");
            run(&place, &out, &[case, flags].concat());
            let found = results(&place, &out);
            assert_eq!(found.0, wanted.0, "{case:?} {flags:?}");
            for (a, b) in found.1.iter().zip(&wanted.1) {
                assert!(a == b, "{case:?} {flags:?}: {} {}", a.0, b.0);
            }
            assert_eq!(found.1.len(), wanted.1.len());
        }
    }
    // A run may go on with them.
    place.train(&[
        "--resume",
        "plain-1/checkpoint-2",
        "--recompute",
        "--optimizer-in-backward",
    ]);
    assert_eq!(results(&place, "plain-1"), results(&place, "again-1"));
}

#[test]
fn a_bf16_run_is_kept_in_bf16_and_goes_on_to_the_bit() {
    let place = Place::new(9);
    let cases: [&[&str]; 4] = [
        &["dpo"],
        &["dro-v", "--value-lr", "1e-3"],
        &["dpo", "--lora-rank", "2"],
        // Several parts a step.
        &["reward-model", "--micro-batch-tokens", "20"],
    ];
    for (i, case) in cases.into_iter().enumerate() {
        let out = format!("run-{i}");
        run(&place, &out, &[case, &["--dtype", "bf16"]].concat());
        let before = results(&place, &out);
        let at = |name: &str| place.at(&format!("{out}/checkpoint-2/{name}"));
        let load = |name: &str| candle_core::safetensors::load(at(name), &Device::Cpu).unwrap();
        let is_adapter = case.contains(&"--lora-rank");
        let model = load(if is_adapter {
            "adapter_model.safetensors"
        } else {
            "model.safetensors"
        });
        assert!(model.values().all(|t| t.dtype() == DType::BF16), "{case:?}");
        let state = load("optimizer.safetensors");
        let masters: Vec<_> = (state.iter())
            .filter_map(|(name, t)| Some((name.strip_suffix(".master")?, t)))
            .collect();
        let steps = state.keys().filter(|name| name.ends_with(".step")).count();
        assert_eq!(masters.len(), steps, "a master for every trained weight");
        for (name, master) in masters {
            assert_eq!(master.dtype(), DType::F32);
            if !is_adapter {
                let rounded = master.to_dtype(DType::BF16).unwrap();
                let all =
                    |t: &Tensor| -> Vec<half::bf16> { t.flatten_all().unwrap().to_vec1().unwrap() };
                assert_eq!(all(&rounded), all(&model[name]), "{name}");
            }
        }
        place.train(&["--resume", &format!("{out}/checkpoint-2")]);
        assert_eq!(results(&place, &out), before, "{case:?}");
    }

    // Another precision is named.
    let error = place.refused(&["--resume", "--out", "run-0", "--dtype", "f32"]);
    let said = "dtype: the run was started with \"bf16\" and this is \"f32\"";
    assert!(error.contains(said), "{error}");
    run(&place, "fine", &["dpo"]);
    let error = place.refused(&["--resume", "--out", "fine", "--dtype", "bf16"]);
    assert!(
        error.contains("dtype: the run was started with \"f32\""),
        "{error}"
    );

    // A model that was trained in bf16 may be trained in f32, and the other way round.
    let more = ["--model", "run-0/model", "--dtype", "f32", "--steps", "1"];
    run(&place, "from-coarse", &[&["dpo"][..], &more].concat());
    let config = place.read("from-coarse/model/config.json");
    assert!(config.contains("float32"), "{config}");
    let more = ["--model", "fine/model", "--dtype", "bf16", "--steps", "1"];
    run(&place, "from-fine", &[&["dpo"][..], &more].concat());
    let config = place.read("from-fine/model/config.json");
    assert!(config.contains("bfloat16"), "{config}");

    // Files of two checkpoints, or of two precisions, do not go together.
    // (Checksums would say so first; here somebody has made them anew.)
    let copy = |from: &str, to: &str| {
        fs::copy(place.at(from), place.at(to)).unwrap();
        place.seal(to.rsplit_once('/').unwrap().0);
    };
    let optimizer =
        |out: &str, steps: u32| format!("{out}/checkpoint-{steps}/optimizer.safetensors");
    let resume = || place.refused(&["--resume", "run-0/checkpoint-2"]);
    copy(&optimizer("run-0", 4), &optimizer("run-0", 2));
    let error = resume();
    for part in [
        "optimizer.safetensors",
        ".master",
        "rounded to bf16 it is not the weight",
    ] {
        assert!(error.contains(part), "{error}");
    }
    copy(&optimizer("fine", 2), &optimizer("run-0", 2));
    let error = resume();
    assert!(error.contains(".master: it is missing"), "{error}");
    assert!(
        error.contains("resume with the dtype that the run had"),
        "{error}"
    );
    copy(&optimizer("run-1", 2), &optimizer("fine", 2));
    let error = place.refused(&["--resume", "fine/checkpoint-2"]);
    assert!(
        error.contains("has a master weight, and the parameter is f32"),
        "{error}"
    );
}

#[test]
fn settings_without_a_use_are_refused() {
    let place = Place::new(9);
    let refused = |more: &[&str]| {
        let error = place.refused(&[more, &SHORT[..12], &["--out", "run"]].concat());
        assert!(!place.at("run").exists(), "{error}");
        error
    };
    let error = refused(&["dpo", "--optimizer-in-backward"]);
    for part in ["optimizer_in_backward: clip is 1", "give clip 0"] {
        assert!(error.contains(part), "{error}");
    }
    let eager = ["dpo", "--optimizer-in-backward", "--clip", "0"];
    let error = refused(&[&eager[..], &["--micro-batch-tokens", "30"]].concat());
    for part in [
        "micro_batch_tokens: step ",
        "needs every step in one: give ",
    ] {
        assert!(error.contains(part), "{error}");
    }
    // The number that it names will do, and one less will not.
    let most = error
        .split("give ")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap();
    let less = (most.parse::<usize>().unwrap() - 1).to_string();
    let error = refused(&[&eager[..], &["--micro-batch-tokens", &less]].concat());
    assert!(error.contains(&format!("give {most} or more")), "{error}");
    run(
        &place,
        "whole",
        &[&eager[..], &["--micro-batch-tokens", most]].concat(),
    );

    let error = refused(&["dpo", "--tf32"]);
    for part in ["tf32: dtype is f32 and device cpu", "leave it out"] {
        assert!(error.contains(part), "{error}");
    }
    let error = refused(&["dpo", "--tf32", "--dtype", "bf16", "--device", "cuda"]);
    assert!(
        error.contains("tf32: dtype is bf16 and device cuda"),
        "{error}"
    );
}

/// SFT's lengths are not known before it looks at a list: the step says it.
#[test]
fn a_step_of_several_parts_says_what_would_do() {
    let settings = Settings {
        clip: 0.0,
        optimizer_in_backward: true,
        micro_batch_tokens: 20,
        ..settings("sft")
    };
    let settings = settings.resolve().unwrap();
    let examples = examples(settings.objective().unwrap().kind());
    let mut trainer = trainer(&settings, &examples, [1, 2]);
    let before = weights(trainer.policy.model.parameters());
    let error = trainer.step(None).err().unwrap().to_string();
    let tokens: usize = (examples.iter())
        .filter_map(|e| e.responses.last())
        .map(|r| r.sequence.tokens().len())
        .sum();
    let said = format!("micro_batch_tokens: step 1 has {tokens} tokens");
    assert!(error.starts_with(&said), "{error}");
    assert!(error.contains(&format!("give {tokens} or more")), "{error}");
    assert_eq!(weights(trainer.policy.model.parameters()), before);
}

pistar::numbers! {
    /// Numbers of a loss that is multiplied.
    struct Factor {
        /// β
        beta in above(0.0) = 0.3;
        /// The factor
        factor in from_to_infinity(0.0) = 1.0;
    }
}

/// A registered loss times a number.
macro_rules! times {
    ($name:ident, $loss:expr, $called:literal) => {
        struct $name;
        impl Loss for $name {
            type Numbers = Factor;
            fn spec(&self) -> Spec {
                Spec {
                    name: $called,
                    aliases: &[],
                    ..$loss.spec()
                }
            }
            fn loss<X: Backend>(&self, n: &Factor, inputs: &Inputs<X>) -> Result<X> {
                let beta = Temperature { beta: n.beta };
                Loss::loss(&$loss, &beta, inputs)?.affine(n.factor, 0.0)
            }
        }
    };
}
times!(TimesDpo, pistar::loss::dpo::Dpo, "times-dpo");
times!(
    TimesDroV,
    pistar::loss::dro::Regression::TRAINED,
    "times-dro-v"
);

#[test]
fn what_is_not_finite_stops_a_step_that_keeps_no_gradient() {
    let at_once = |name: &str| {
        let settings = Settings {
            clip: 0.0,
            optimizer_in_backward: true,
            ..settings(name)
        };
        settings.resolve().unwrap()
    };
    let times: [(&str, Objective); 2] =
        [("dpo", (&TimesDpo).into()), ("dro-v", (&TimesDroV).into())];
    for (name, times) in times {
        let settings = at_once(name);
        let examples = examples(times.spec().inputs);
        let weigh = |factor: f64| {
            let given = settings.numbers.clone().with("factor", factor);
            let objective = TextObjective::of(times, &given, None).unwrap();
            let mut trainer = trainer_of(objective, &settings, &examples, [1, 2]);
            let before = weights(trainer.policy.model.parameters());
            let error = trainer.step(None).err().map(|e| e.to_string());
            let same = weights(trainer.policy.model.parameters()) == before;
            (error, same, trainer.state.steps)
        };
        // A loss that is not: before anything changes.
        let (error, same, steps) = weigh(f64::INFINITY);
        let error = error.unwrap();
        assert!(same && steps == 0);
        for part in [
            "step 1: the loss is ",
            "has no gradient",
            "those of the step before",
        ] {
            assert!(error.contains(part), "{error}");
        }
        // A gradient whose squares are not: after it (here the second moments are gone).
        let (error, _, steps) = weigh(1e250);
        let error = error.unwrap();
        assert_eq!(steps, 0);
        for part in [
            "step 1: the loss is ",
            "inf",
            "have been changed",
            "no checkpoint",
        ] {
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(weigh(1.0), (None, false, 1));
    }
}

/// With a folder, the last good checkpoint is named.
#[test]
fn the_last_checkpoint_is_named() {
    let place = Place::new(2);
    // The second row's gradient is beyond f32, and its loss is not beyond f64.
    let rows = [(" w3", 1.0), (" w4 w5", 3e38)].map(|(completion, reward)| {
        let row = json!({"prompt": " w1 w2", "completion": completion, "reward": reward});
        format!("{row}\n")
    });
    fs::write(place.at("rows.jsonl"), rows.concat()).unwrap();
    let more = [
        "--data",
        "rows.jsonl",
        "--batch",
        "1",
        "--shuffle",
        "false",
        "--checkpoint-every",
        "1",
    ];
    let stopped = |out: &str, how: &[&str]| {
        place.refused(&[&["pg-zero"], how, &SHORT[..], &more, &["--out", out]].concat())
    };
    let error = stopped("kept", &[]);
    assert!(error.contains("step 2: the loss is "), "{error}");
    assert!(error.contains("those of the step before"), "{error}");
    let error = stopped("used", &["--optimizer-in-backward"]);
    for part in [
        "step 2: the loss is ",
        "its batch is in used/nan-batch.jsonl",
        "have been changed",
        "the last good ones are in used/checkpoint-1",
    ] {
        assert!(error.contains(part), "{error}");
    }
}
