//! A second source beside the policy: what it gives, what is made of it, and that runs can be stopped while they draw.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pistar::llm::text::example::{Beside, Example, Response};
use pistar::llm::train::reference::Reference;
use pistar::llm::train::{
    Batches, Ended, OptimizerKind, Settings, Trainer, schedule::Shape, train_until,
};
use pistar::observer::{Observer, Silent, Work};
use serde_json::Value;

use super::{after, apart, args, audit, load, moved};
use crate::place::Place;
use crate::train::{settings, weights};
use audit::Phase;

fn tokens(c: &Value) -> Vec<u32> {
    let all = c["tokens"].as_array().unwrap().iter();
    all.map(|t| t.as_u64().unwrap() as u32).collect()
}

/// Trains one step by hand on what a phase drew: pairs of the demonstration and each completion, in the order that
/// `first` says and with the rewards that were stored, against the model of a folder.
fn by_hand(
    place: &Place,
    run: &str,
    phase: &Phase,
    objective: &str,
    reference: &str,
    first: impl Fn(&Value, &Value) -> bool,
) -> Vec<f64> {
    let prompts = audit::prompts(place);
    let mut examples = Vec::new();
    for drawn in &phase.rows {
        let prompt = &prompts[drawn["index"].as_u64().unwrap() as usize].tokens;
        let response = |c: &Value| {
            let reward = c["score"].as_f64().unwrap();
            Response::new(audit::sequence(prompt, &tokens(c)), reward)
        };
        let theirs = &drawn["demonstration"];
        for own in drawn["completions"].as_array().unwrap() {
            let mut responses = vec![response(theirs), response(own)];
            if !first(theirs, own) {
                responses.reverse();
            }
            examples.push(Example {
                row: examples.len() as u64,
                responses,
                beside: Beside::default(),
            });
        }
    }
    let settings = Settings {
        optimizer: OptimizerKind::Sgd,
        schedule: Shape::Constant,
        lr: Some(0.05),
        clip: 0.0,
        batch: examples.len(),
        steps: Some(1),
        shuffle: false,
        ..settings(objective)
    };
    let reference = Reference::Live(Box::new(load(place, reference)));
    let policy = Box::new(load(place, &after(run, phase.first)));
    let plan = Batches::new(&settings, 64, &examples).unwrap();
    let mut trainer = Trainer::new(&settings, plan, policy, None, reference).unwrap();
    trainer.step(None).unwrap();
    weights(trainer.policy.model.parameters())
}

fn score(c: &Value) -> f64 {
    c["score"].as_f64().unwrap()
}

#[test]
fn a_demonstration_makes_a_pair_with_each_completion() {
    let place = Place::new(7);
    let file = place.read("data.jsonl");
    let data: Vec<Value> = (file.lines())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let always = |_: &Value, _: &Value| true;
    let greater = |a: &Value, b: &Value| score(a) > score(b);
    for (out, objective, more, first) in [
        (
            "spin",
            "dpo",
            &["--annotator", "demonstration", "--reference", "behaviour"][..],
            &always as &dyn Fn(&Value, &Value) -> bool,
        ),
        ("greater", "dpo", &["--redraws", "50"], &greater),
        ("copg", "copg", &[], &always),
    ] {
        let both = ["--demonstrations", "--completions", "2", "--beta", "0.3"];
        place.train(&args(objective, out, &[&both[..], more].concat()));
        let phases = audit::phases(&place, out, 1);
        assert_eq!(phases.len(), 4);
        for phase in &phases {
            let behaviour = more.contains(&"behaviour");
            let reference = if behaviour {
                after(out, phase.first)
            } else {
                "model".into()
            };
            let [policy, given] =
                [after(out, phase.first), reference.clone()].map(|dir| load(&place, &dir));
            let prompts = audit::prompts(&place);
            for row in &phase.rows {
                let index = row["index"].as_u64().unwrap() as usize;
                let theirs = &row["demonstration"];
                assert_eq!(theirs["text"], data[index]["completion"]);
                assert_eq!(theirs["ended"], true);
                assert_eq!(tokens(theirs).last(), Some(&2));
                let length = theirs["text"].as_str().unwrap().chars().count();
                assert_eq!(score(theirs), length as f64);
                let sequence = audit::sequence(&prompts[index].tokens, &tokens(theirs));
                for (model, name) in [(&policy, "old"), (&given, "reference")] {
                    let sum = model.sums(&[&sequence]).unwrap()[0];
                    // ln π_old is that of the sampler where nobody reads it.
                    let told = theirs[name].as_f64().unwrap();
                    assert!((sum - told).abs() < 1e-9 * sum.abs(), "{out} {name}");
                }
                for own in row["completions"].as_array().unwrap() {
                    assert_ne!(tokens(own), tokens(theirs), "{out}");
                }
            }
            let found = weights(load(&place, &after(out, phase.first + 1)).parameters());
            let size = moved(&place, out, 4);
            let wanted = by_hand(&place, out, phase, objective, &reference, first);
            assert!(apart(&found, &wanted) < 1e-9 * size.max(1e-3), "{out}");
            // Pairs the other way round are another step.
            if objective == "dpo" {
                let turned = |a: &Value, b: &Value| !first(a, b);
                let wrong = by_hand(&place, out, phase, objective, &reference, turned);
                assert!(apart(&found, &wrong) > 1e-6 * size, "{out}");
            }
        }
    }
}

#[test]
fn demonstrations_that_cannot_be_are_refused() {
    let place = Place::new(7);
    std::fs::write(place.at("bare.jsonl"), "{\"prompt\": \" w1\"}\n").unwrap();
    for (objective, more, wanted) in [
        ("dpo", &["--annotator", "demonstration"][..], "annotator"),
        ("ppo-clip", &["--demonstrations"], "demonstrations"),
        ("copg", &["--demonstrations", "--old", "sampled"], "old"),
        (
            "copg",
            &["--demonstrations", "--completions", "0"],
            "completions",
        ),
        (
            "copg",
            &["--demonstrations", "--prompts", "bare.jsonl"],
            "bare.jsonl:1",
        ),
    ] {
        let mut all = args(objective, "no", more);
        if more.contains(&"bare.jsonl") {
            let at = all.iter().position(|a| *a == "--prompts").unwrap();
            all.drain(at..at + 2);
        }
        let said = place.refused(&all);
        assert!(said.contains(wanted), "{more:?}: {said}");
    }
}

/// Sets a flag once the policy generates for so many a time.
struct Stops<'a> {
    at: u64,
    draws: AtomicU64,
    stop: &'a AtomicBool,
}

impl Observer for Stops<'_> {
    fn tell(&self, _: &str) {}

    fn begin(&self, name: &str, _: u64) -> Box<dyn Work + '_> {
        if name == "generating" && self.draws.fetch_add(1, Ordering::Relaxed) + 1 == self.at {
            self.stop.store(true, Ordering::Relaxed);
        }
        Box::new(Silent)
    }
}

#[test]
fn a_run_is_stopped_while_it_draws() {
    let place = Place::new(7);
    place.train(&args("copg", "whole", &[]));
    let settings = |out: &str| Settings {
        objective: Some("copg".into()),
        model: Some(place.at("model")),
        prompts: Some(place.at("data.jsonl")),
        reward: vec!["length:characters".into()],
        batch: 3,
        steps: Some(4),
        max_new_tokens: 9,
        dtype: pistar::llm::train::Precision::F64,
        optimizer: OptimizerKind::Sgd,
        lr: Some(0.05),
        schedule: Shape::Constant,
        clip: 0.0,
        checkpoint_every: 1,
        keep: 0,
        out: Some(place.at(out)),
        ..Settings::default()
    };
    for at in 1..=4 {
        let stop = AtomicBool::new(false);
        let observer = Stops {
            at,
            draws: AtomicU64::new(0),
            stop: &stop,
        };
        let out = format!("stopped-{at}");
        let ended = train_until(settings(&out), &stop, &observer).unwrap();
        // The step after the draw was not done, and what was being drawn was not written.
        let Ended::Interrupted { steps, .. } = ended else {
            panic!("{ended:?}");
        };
        assert_eq!(steps, at - 1);
        let phase = place.at(&format!("{out}/rollouts/phase-{:06}.jsonl", at - 1));
        assert!(!phase.exists());
        let again = Settings {
            resume: Some("latest".into()),
            ..settings(&out)
        };
        train_until(again, &AtomicBool::new(false), &Silent).unwrap();
        let weights = |run: &str| weights(load(&place, &after(run, 4)).parameters());
        assert!(weights(&out) == weights("whole"));
    }
}
