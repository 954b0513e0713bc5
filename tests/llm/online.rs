//! Training on completions that the policy writes itself: what is stored is right, what is learned from it is what
//! training on it by hand gives, and a run that is broken off anywhere goes on to the same bytes.

mod audit;
mod demonstrations;
mod ensemble;
mod expected;
mod solved;
mod tokens;

use std::fs;

use candle_core::{DType, Device};
use pistar::llm::internals::files::checkpoint::list;
use pistar::llm::model::decoder::Decoder;
use pistar::llm::text::example::{Beside, Example, Response};
use pistar::llm::train::reference::Reference;
use pistar::llm::train::{Batches, OptimizerKind, Settings, Trainer, schedule::Shape};
use serde_json::Value;

use crate::place::Place;
use crate::train::{settings, weights};
use audit::Phase;

/// `pistar train` of an objective on prompts, by gradient descent in f64 with a checkpoint a step.
fn args<'a>(objective: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut all = vec![objective];
    for part in [
        "--model model --prompts data.jsonl --reward length:characters --batch 3 --steps 4",
        "--max-new-tokens 9 --dtype f64 --optimizer sgd --lr 0.05 --schedule constant --clip 0",
        "--checkpoint-every 1 --keep 0 --out",
    ] {
        all.extend(part.split(' '));
    }
    all.push(out);
    all.extend(more);
    all
}

/// The model of a folder, in f64.
fn load(place: &Place, name: &str) -> Decoder {
    Decoder::load(place.at(name), DType::F64, &Device::Cpu).unwrap()
}

/// Folder of the policy after so many steps of a run.
fn after(run: &str, steps: u64) -> String {
    match steps {
        0 => "model".into(),
        _ => format!("{run}/checkpoint-{steps}"),
    }
}

fn apart(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    (a.iter().zip(b).map(|(a, b)| (a - b).abs())).fold(0.0, f64::max)
}

/// How far the weights after some steps are from those before.
fn moved(place: &Place, run: &str, steps: u64) -> f64 {
    let [a, b] = [0, steps].map(|s| weights(load(place, &after(run, s)).parameters()));
    apart(&a, &b)
}

/// Trains by hand on what a phase drew: from the policy at its beginning, against that policy or the model as given.
fn by_hand(place: &Place, run: &str, phase: &Phase, reference: &str, steps: u64) -> Vec<f64> {
    let tokens = |c: &Value| -> Vec<u32> {
        let all = c["tokens"].as_array().unwrap().iter();
        all.map(|t| t.as_u64().unwrap() as u32).collect()
    };
    let prompts = audit::prompts(place);
    let example = |(row, drawn): (usize, &Value)| {
        let prompt = &prompts[drawn["index"].as_u64().unwrap() as usize].tokens;
        let mut pair: Vec<Response> = (drawn["completions"].as_array().unwrap().iter())
            .map(|c| Response::new(audit::sequence(prompt, &tokens(c)), 0.0))
            .collect();
        if drawn["completions"][0]["score"].as_f64() < drawn["completions"][1]["score"].as_f64() {
            pair.reverse();
        }
        Example {
            row: row as u64,
            responses: pair,
            beside: Beside::default(),
        }
    };
    let examples: Vec<Example> = phase.rows.iter().enumerate().map(example).collect();
    let settings = Settings {
        optimizer: OptimizerKind::Sgd,
        schedule: Shape::Constant,
        lr: Some(0.05),
        clip: 0.0,
        batch: examples.len() / steps as usize,
        steps: Some(steps),
        shuffle: false,
        ..settings("dpo")
    };
    let reference = Reference::Live(Box::new(load(place, reference)));
    let policy = Box::new(load(place, &after(run, phase.first)));
    let plan = Batches::new(&settings, 64, &examples).unwrap();
    let mut trainer = Trainer::new(&settings, plan, policy, None, reference).unwrap();
    for _ in 0..steps {
        trainer.step(None).unwrap();
    }
    weights(trainer.policy.model.parameters())
}

#[test]
fn a_loop_is_training_by_hand_phase_by_phase() {
    let place = Place::new(7);
    let beta = ["--beta", "0.3"];
    for (reference, phases) in [("behaviour", "2"), ("initial", "2"), ("behaviour", "4")] {
        let more = [
            "--reference",
            reference,
            "--phases",
            phases,
            beta[0],
            beta[1],
        ];
        let out = format!("{reference}-{phases}");
        place.train(&args("dpo", &out, &more));
        let each = 4 / phases.parse::<u64>().unwrap();
        let all = audit::phases(&place, &out, each);
        assert_eq!(all.len() as u64, 4 / each);
        for phase in &all {
            let given = match reference {
                "behaviour" => after(&out, phase.first),
                _ => "model".into(),
            };
            let found = weights(load(&place, &after(&out, phase.first + each)).parameters());
            let wanted = by_hand(&place, &out, phase, &given, each);
            let size = moved(&place, &out, 4);
            assert!(
                apart(&found, &wanted) < 1e-9 * size.max(1e-3),
                "{out}: {phase:?}"
            );
            // Faults of the loop, each of which is another step: a reference that did not move, or did; pairs of the
            // phase before, alone or beside those of this one; labels turned round.
            if phase.first > 0 {
                let other = if reference == "behaviour" {
                    "model".into()
                } else {
                    after(&out, phase.first)
                };
                let before = &all[(phase.first / each) as usize - 1].rows;
                let with = |rows: Vec<Value>| Phase {
                    rows,
                    ..phase.clone()
                };
                let turned = phase.rows.iter().map(|row| {
                    let mut row = row.clone();
                    let scores = [0, 1].map(|i| row["completions"][i]["score"].clone());
                    row["completions"][0]["score"] = scores[1].clone();
                    row["completions"][1]["score"] = scores[0].clone();
                    row
                });
                for (fault, phase, reference) in [
                    ("reference", phase.clone(), other),
                    ("stale pairs", with(before.clone()), given.clone()),
                    (
                        "kept pairs",
                        with([&before[..], &phase.rows].concat()),
                        given.clone(),
                    ),
                    ("labels", with(turned.collect()), given.clone()),
                ] {
                    let wrong = by_hand(&place, &out, &phase, &reference, each);
                    assert!(apart(&found, &wrong) > 1e-6 * size, "{out}: {fault}");
                }
            }
        }
    }
}

#[test]
fn one_phase_is_offline_whatever_the_reference() {
    let place = Place::new(7);
    for reference in ["behaviour", "initial"] {
        let more = ["--phases", "1", "--reference", reference];
        place.train(&args("dpo", reference, &more));
    }
    assert!(moved(&place, "initial", 4) > 1e-3);
    let [a, b] = ["behaviour", "initial"].map(|run| {
        let mut files = place.lasting(run);
        files.retain(|name, _| name.extension().is_some_and(|e| e == "safetensors"));
        assert!(files.len() > 5, "{:?}", files.keys());
        files
    });
    assert!(a == b);
    // KL is 0, up to the rounding of what the sampler says.
    let rows = |run: &str| {
        let mut rows = place.rows(run);
        for row in &mut rows {
            let row = row.as_object_mut().unwrap();
            if let Some(kl) = row.remove("objective/kl") {
                assert!(kl.as_f64().unwrap().abs() < 1e-12);
                row.remove("objective/rlhf_reward");
            }
        }
        rows
    };
    assert_eq!(rows("behaviour"), rows("initial"));
}

#[test]
fn a_moving_average_stays_or_follows() {
    let place = Place::new(7);
    for (out, reference) in [
        ("initial", "initial"),
        ("stays", "ema:0"),
        ("behaviour", "behaviour"),
        ("follows", "ema:1"),
        ("between", "ema:0.5"),
    ] {
        place.train(&args("dpo", out, &["--reference", reference]));
    }
    let of = |run: &str| weights(load(&place, &after(run, 4)).parameters());
    let size = moved(&place, "initial", 4);
    assert!(size > 1e-3);
    assert!(apart(&of("initial"), &of("stays")) < 1e-9 * size);
    assert!(apart(&of("behaviour"), &of("follows")) < 1e-9 * size);
    for other in ["initial", "behaviour"] {
        assert!(apart(&of("between"), &of(other)) > 1e-6 * size);
    }
}

/// On-policy with the behaviour as reference, all log-ratios are 0, and −ln σ has the slope −β/2.
#[test]
fn on_policy_beta_is_only_a_rate() {
    let place = Place::new(7);
    let run = |out: &str, beta: &str, lr: &str| {
        let mut all = args("dpo", out, &["--reference", "behaviour", "--beta", beta]);
        let at = all.iter().position(|a| *a == "--lr").unwrap();
        all[at + 1] = lr;
        place.train(&all);
        weights(load(&place, &after(out, 4)).parameters())
    };
    let [a, b, c] = [
        ("a", "0.1", "0.2"),
        ("b", "0.4", "0.05"),
        ("c", "0.4", "0.2"),
    ]
    .map(|(out, beta, lr)| run(out, beta, lr));
    let size = moved(&place, "a", 4);
    assert!(size > 1e-3);
    assert!(apart(&a, &b) < 1e-9 * size);
    assert!(apart(&a, &c) > 1e-3 * size);
}

#[test]
fn one_step_of_ppo_without_a_clip_is_the_policy_gradient() {
    let place = Place::new(7);
    let more = [
        "--completions",
        "2",
        "--beta",
        "0.2",
        "--temperature",
        "0.8",
    ];
    for (out, objective, extra) in [
        ("pg", "pg-zero", &[][..]),
        ("ppo", "ppo-clip", &["--epsilon", "inf"][..]),
        ("clipped", "ppo-clip", &["--epsilon", "0.2"][..]),
    ] {
        place.train(&args(objective, out, &[&more[..], extra].concat()));
    }
    let of = |run: &str| weights(load(&place, &after(run, 4)).parameters());
    let size = moved(&place, "pg", 4);
    assert!(apart(&of("pg"), &of("ppo")) < 1e-9 * size, "{size}");
    // On-policy the clip is not felt.
    assert!(apart(&of("pg"), &of("clipped")) < 1e-9 * size);
    // Several passes are off-policy: ratios leave 1.
    let passes = ["--phase-epochs", "2"];
    for (out, objective, extra) in [
        ("pg-2", "pg-zero", &[][..]),
        ("ppo-2", "ppo-clip", &["--epsilon", "inf"][..]),
    ] {
        place.train(&args(objective, out, &[&more[..], &passes, extra].concat()));
    }
    assert!(apart(&of("pg-2"), &of("ppo-2")) > 1e-6 * size);
}

#[test]
fn leave_one_out_of_single_responses_is_rloo_without_a_penalty() {
    let place = Place::new(7);
    let more = ["--completions", "3", "--beta", "0.000000001"];
    place.train(&args("rloo", "rloo", &more));
    let more = [&more[..], &["--advantage", "leave-one-out"]].concat();
    place.train(&args("pg-zero", "pg", &more));
    let of = |run: &str| weights(load(&place, &after(run, 4)).parameters());
    let size = moved(&place, "rloo", 4);
    assert!(apart(&of("rloo"), &of("pg")) < 1e-6 * size, "{size}");
}

#[test]
fn a_threshold_keeps_what_is_above_it() {
    let place = Place::new(7);
    place.train(&args("sft", "best", &["--completions", "3"]));
    let more = ["--completions", "3", "--above", "12", "--redraws", "50"];
    place.train(&args("sft", "above", &more));
    for phase in audit::phases(&place, "above", 1) {
        for row in &phase.rows {
            let all = row["completions"].as_array().unwrap();
            assert!(all.iter().any(|c| c["score"].as_f64().unwrap() > 12.0));
        }
    }
    let impossible = ["--completions", "3", "--above", "1000"];
    let said = place.refused(&args("sft", "none", &impossible));
    assert!(
        said.contains("none of 3 prompts has a preference"),
        "{said}"
    );
}

#[test]
fn a_phase_that_was_drawn_is_never_drawn_again() {
    let place = Place::new(7);
    let more = ["--phases", "2", "--reference", "ema:0.3", "--replay", "1"];
    place.train(&args("dpo", "whole", &more));
    let copy = |to: &str| place.copy("whole", to);
    let path = |run: &str, phase: u64| format!("{run}/rollouts/phase-{phase:06}.jsonl");
    for steps in 1..4 {
        let run = format!("from-{steps}");
        copy(&run);
        let from = format!("{run}/checkpoint-{steps}");
        if steps < 3 {
            // What was drawn later is drawn again, to the same bytes.
            fs::remove_file(place.at(&path(&run, 1))).unwrap();
        }
        place.train(&args(
            "dpo",
            &run,
            &[&more[..], &["--resume", &from]].concat(),
        ));
        assert!(place.lasting(&run) == place.lasting("whole"), "{steps}");
        assert_eq!(place.rows(&run), place.rows("whole"));
    }
    // In the middle of a phase what it drew must be there, and as it was.
    copy("broken");
    let file = path("broken", 1);
    let resume = [&more[..], &["--resume", "broken/checkpoint-3"]].concat();
    let again = || place.refused(&args("dpo", "broken", &resume));
    let text = place.read(&file);
    fs::write(place.at(&file), text.replace("\"score\":", "\"score\":1")).unwrap();
    let said = again();
    assert!(
        said.contains("phase-000001.jsonl") && said.contains("not as it was written"),
        "{said}"
    );
    fs::write(place.at(&file), text.split_once('\n').unwrap().0).unwrap();
    assert!(again().contains("not as it was written"));
    fs::remove_file(place.at(&file)).unwrap();
    let said = again();
    assert!(
        said.contains("phase 2") && said.contains("is gone"),
        "{said}"
    );
}

#[cfg(unix)]
#[test]
fn a_reward_that_dies_loses_nothing() {
    let place = Place::new(7);
    // It dies at its fourth call, where a file says so.
    let script = "n=$(cat count 2>/dev/null || echo 0); echo $((n+1)) > count; \
                  if [ -e deadly ] && [ $n -ge 4 ]; then exit 3; fi; \
                  while read -r line; do printf '{\"score\": %d}\\n' ${#line}; done";
    fs::write(place.at("score.sh"), script).unwrap();
    let args = |out: &'static str| -> Vec<&'static str> {
        let all = "dpo --model model --prompts data.jsonl --batch 2 --max-new-tokens 6 --reference behaviour \
                   --lr 1e-3 --checkpoint-every 100 --steps 6 --resume --out";
        let mut all: Vec<&str> = all.split_whitespace().collect();
        all.extend([out, "--reward", "command:sh score.sh"]);
        all
    };
    place.train(&args("whole"));
    // The program dies in the middle of a run: what was trained is in a checkpoint.
    let mut command = place.command(&[&["train"], &args("again")[..]].concat());
    fs::remove_file(place.at("count")).unwrap();
    fs::write(place.at("deadly"), "").unwrap();
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let saved = list(&place.at("again")).unwrap();
    assert!(
        saved.len() == 1 && (1..6).contains(&saved[0].0),
        "{saved:?}"
    );
    fs::remove_file(place.at("deadly")).unwrap();
    place.train(&args("again"));
    let weights =
        |run: &str| place.files(run)[&std::path::PathBuf::from("model/model.safetensors")].clone();
    assert!(weights("again") == weights("whole"));
    assert_eq!(place.rows("again"), place.rows("whole"));
}

#[test]
fn the_number_of_threads_changes_no_byte() {
    let place = Place::new(7);
    let more = ["--reference", "behaviour", "--annotator", "bradley-terry"];
    for threads in ["1", "2"] {
        let all = args("dpo", threads, &more);
        let mut command = place.command(&[&["train"], &all[..]].concat());
        let output = command.env("RAYON_NUM_THREADS", threads).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    assert!(place.lasting("1") == place.lasting("2"));
}

/// Rows of a file have no stored numbers: they are held against the reference itself.
#[test]
fn a_file_is_evaluated_on_as_it_is_offline() {
    let place = Place::new(7);
    place.data("held.jsonl", 5, 2);
    place.model("other", 3);
    let eval = "--eval-data held.jsonl --eval-on-start --eval-every 4 --steps 4 --batch 3 --reference other --out";
    let train = |how: &str, out: &str| {
        let mut all = vec!["dpo", "--model", "model"];
        all.extend(how.split(' ').chain(eval.split(' ')));
        all.push(out);
        place.train(&all);
        let rows = place.rows(out);
        let first = rows.iter().find(|row| row["step"] == 0).unwrap();
        ["eval_loss", "eval_rewards/margins"].map(|name| first[name].as_f64().unwrap())
    };
    let offline = train("--data data.jsonl", "offline");
    let online = train(
        "--prompts data.jsonl --reward length:characters --max-new-tokens 9",
        "online",
    );
    assert!(apart(&online, &offline) < 1e-6, "{online:?} {offline:?}");
    // Against a reference of zeros it would be another loss.
    assert!(offline[1].abs() > 1e-3);
}

#[test]
fn what_is_written_at_evaluations_is_kept() {
    let place = Place::new(7);
    let eval = [
        "--eval-prompts",
        "data.jsonl",
        "--eval-reward",
        "length:characters",
        "--eval-every",
        "2",
    ];
    place.train(&args("dpo", "run", &eval));
    for step in [2, 4] {
        let text = place.read(&format!("run/evaluations/step-{step:06}.jsonl"));
        let rows: Vec<Value> = text
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect();
        assert_eq!(rows.len(), 7);
        let scores: Vec<f64> = rows
            .iter()
            .map(|row| row["score"].as_f64().unwrap())
            .collect();
        for (row, score) in rows.iter().zip(&scores) {
            assert_eq!(
                row["completion"].as_str().unwrap().chars().count() as f64,
                *score
            );
        }
        let mean = scores.iter().sum::<f64>() / 7.0;
        let told = place.rows("run");
        let told = told
            .iter()
            .find(|r| r["step"] == step && r.get("eval_objective/scores").is_some());
        assert!((told.unwrap()["eval_objective/scores"].as_f64().unwrap() - mean).abs() < 1e-12);
    }
}

#[test]
fn what_has_no_use_or_makes_no_sense_is_refused() {
    let place = Place::new(7);
    let online = |objective: &'static str, more: &str| {
        let mut all = vec![objective];
        all.extend(
            "--model model --prompts data.jsonl --reward length:characters --out out".split(' '),
        );
        all.extend(more.split_whitespace());
        place.refused(&all.iter().map(|s| &**s).collect::<Vec<_>>())
    };
    for (objective, more, expected) in [
        ("dpo", "--completions 3", "completions: it is 3"),
        ("rloo", "--completions 1", "completions: it is 1"),
        (
            "pg-zero",
            "--completions 1 --advantage leave-one-out",
            "completions: it is 1",
        ),
        ("dpo", "--phases 0", "phases: it is 0"),
        (
            "dpo",
            "--phases 9 --steps 4",
            "phases: it is 9, and there are 4 steps",
        ),
        (
            "dpo",
            "--phases 4 --steps 4 --phase-epochs 2",
            "phase_epochs: a phase has 1 steps",
        ),
        ("dpo", "--temperature 0", "temperature: it is 0"),
        ("dpo", "--temperature=-1", "temperature: it is -1"),
        ("dpo", "--reference ema:2", "reference: `ema:2` has no rate"),
        ("dpo", "--reference ema:", "reference: `ema:` has no rate"),
        (
            "sft",
            "--reference behaviour",
            "reference: nothing has a use for it",
        ),
        (
            "kto",
            "--reference behaviour",
            "reference: it moves, and the objective has z₀",
        ),
        (
            "dpo",
            "--reference ema:0.1 --dtype bf16",
            "reference: it is a moving average",
        ),
        ("dpo", "--above 1", "above: `dpo` has no use for it"),
        (
            "dpo",
            "--advantage group-mean",
            "advantage: `dpo` has no use for it",
        ),
        (
            "rloo",
            "--length-weight tokens",
            "length_weight: `rloo` has no use for it",
        ),
        (
            "rloo",
            "--annotator bradley-terry",
            "annotator: `rloo` has no use for it",
        ),
        (
            "rloo",
            "--old sampled --temperature 0.5",
            "old: it is sampled",
        ),
        ("dpo", "--data data.jsonl", "data: prompts are given"),
        (
            "dpo",
            "--reference behaviour --eval-data data.jsonl",
            "eval_data: the reference is behaviour",
        ),
        ("dpo", "--drop-last", "drop_last: prompts are given"),
        ("dpo", "--eval-rows 2", "eval_rows: prompts are given"),
        ("copr", "", "prompts: `copr`"),
        ("reward-model", "", "prompts: `reward-model`"),
        (
            "dpo",
            "--optimizer sgd --weight-decay 0.1",
            "weight_decay: sgd does not decay",
        ),
        (
            "dpo",
            "--optimizer sgd --dtype bf16",
            "optimizer: it is sgd",
        ),
        ("dpo", "--max-new-tokens 0", "max_new_tokens: it is 0"),
    ] {
        let said = online(objective, more);
        assert!(said.contains(expected), "{objective} {more}: {said}");
    }
    let offline = |more: &str| {
        let mut all = vec![
            "dpo",
            "--model",
            "model",
            "--data",
            "data.jsonl",
            "--out",
            "out",
        ];
        all.extend(more.split_whitespace());
        place.refused(&all)
    };
    for more in [
        "--reward length:characters",
        "--completions 2",
        "--phases 2",
        "--temperature 0.5",
        "--reference behaviour",
        "--reference ema:0.1",
        "--replay 1",
        "--old sampled",
    ] {
        let said = offline(more);
        assert!(
            said.contains("give prompts too, or leave it out"),
            "{more}: {said}"
        );
    }
    let said = place.refused(&[
        "dpo",
        "--model",
        "model",
        "--prompts",
        "data.jsonl",
        "--out",
        "out",
    ]);
    assert!(said.contains("reward: it is missing"), "{said}");
    let said = place.refused(&[
        "ppo-clip",
        "--model",
        "model",
        "--data",
        "data.jsonl",
        "--out",
        "out",
    ]);
    assert!(said.contains("give prompts in place of data"), "{said}");
    assert!(!place.at("out/config.toml").exists());
}
