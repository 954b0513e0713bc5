//! What a run drew, held against its checkpoints by another way; and faults, each of which must show.

use std::fs;

use pistar::llm::model::decoder::Decoder;
use pistar::llm::model::sequence::Sequence;
use pistar::llm::sample::generate::Prompt;
use pistar::llm::text::data::Reading;
use pistar::llm::text::tokenizer::Tokenizer;
use pistar::observer::Silent;
use serde_json::Value;

use super::{after, args, load};
use crate::place::Place;

/// What a phase drew, and how many steps were done before it.
#[derive(Debug, Clone)]
pub struct Phase {
    pub first: u64,
    pub metrics: Value,
    pub rows: Vec<Value>,
}

/// The phases of a run, of so many steps each.
pub fn phases(place: &Place, run: &str, each: u64) -> Vec<Phase> {
    let count = fs::read_dir(place.at(&format!("{run}/rollouts")))
        .unwrap()
        .count() as u64;
    (0..count)
        .map(|phase| {
            let text = place.read(&format!("{run}/rollouts/phase-{phase:06}.jsonl"));
            let mut lines = text
                .lines()
                .map(|l| serde_json::from_str::<Value>(l).unwrap());
            let head = lines.next().unwrap();
            Phase {
                first: phase * each,
                metrics: head["metrics"].clone(),
                rows: lines.collect(),
            }
        })
        .collect()
}

pub fn prompts(place: &Place) -> Vec<Prompt> {
    let tokenizer = Tokenizer::load(place.at("model")).unwrap();
    let (file, reading) = (place.at("data.jsonl"), Reading::default());
    Prompt::read(&file, &reading, &tokenizer, 64, &Silent)
        .unwrap()
        .0
}

pub fn sequence(prompt: &[u32], completion: &[u32]) -> Sequence {
    Sequence::new([prompt, completion].concat(), prompt.len()).unwrap()
}

/// How a run was made.
#[derive(Clone, Copy)]
struct Made {
    most: usize,
    pairs: bool,
    behaviour: bool,
}

/// What is wrong with a phase, if something is: the policy is that at its beginning, the reference that or another.
fn wrong(
    place: &Place,
    phase: &Phase,
    policy: &Decoder,
    given: &Decoder,
    made: Made,
) -> Option<&'static str> {
    let (prompts, tokenizer) = (prompts(place), Tokenizer::load(place.at("model")).unwrap());
    let near = |a: f64, b: f64| (a - b).abs() < 1e-9 * b.abs().max(1.0);
    let mut scores = Vec::new();
    for row in &phase.rows {
        let prompt = &prompts[row["index"].as_u64().unwrap() as usize];
        if row["prompt"] != prompt.text.as_str() {
            return Some("prompt");
        }
        let completions = row["completions"].as_array().unwrap();
        for c in completions {
            let tokens: Vec<u32> = (c["tokens"].as_array().unwrap().iter())
                .map(|t| t.as_u64().unwrap() as u32)
                .collect();
            let ended = c["ended"] == true;
            if ended != (tokens.last() == Some(&2)) || (!ended && tokens.len() < made.most) {
                return Some("end");
            }
            if tokens[..tokens.len() - 1].contains(&2) || tokens.len() > made.most {
                return Some("length");
            }
            let words = &tokens[..tokens.len() - usize::from(ended)];
            let whole = tokenizer
                .decode(&[&prompt.tokens[..], words].concat())
                .unwrap();
            let before = tokenizer.decode(&prompt.tokens).unwrap();
            if whole.strip_prefix(&before) != c["text"].as_str() {
                return Some("text");
            }
            let score = c["text"].as_str().unwrap().chars().count() as f64;
            if c["score"].as_f64() != Some(score) {
                return Some("score");
            }
            scores.push(score);
            let sequence = sequence(&prompt.tokens, &tokens);
            let old = policy.sums(&[&sequence]).unwrap()[0];
            if !near(c["old"].as_f64().unwrap(), old) {
                return Some("old");
            }
            let reference = if made.behaviour {
                old
            } else {
                given.sums(&[&sequence]).unwrap()[0]
            };
            if !near(c["reference"].as_f64().unwrap(), reference) {
                return Some("reference");
            }
        }
        if made.pairs {
            let score = |i: usize| completions[i]["score"].as_f64().unwrap();
            if score(0) == score(1) {
                return Some("tie");
            }
            let preferred = row["preferred"][0].as_u64().unwrap() as usize;
            if score(preferred) < score(1 - preferred) {
                return Some("label");
            }
        }
    }
    let mean = scores.iter().sum::<f64>() / scores.len() as f64;
    let told = phase.metrics.as_array().unwrap().iter();
    let told = told
        .filter(|m| m[0] == "objective/scores")
        .map(|m| m[1].as_f64().unwrap());
    if told
        .collect::<Vec<_>>()
        .iter()
        .any(|told| !near(*told, mean))
    {
        return Some("metric");
    }
    None
}

fn at(mut model: Decoder, temperature: f64) -> Decoder {
    model.set_temperature(temperature);
    model
}

#[test]
fn what_is_stored_is_of_the_policy_that_wrote_it() {
    let place = Place::new(7);
    for (out, objective, more, temperature) in [
        (
            "dpo",
            "dpo",
            &["--reference", "behaviour", "--temperature", "0.7"][..],
            1.0,
        ),
        ("copg", "copg", &["--temperature", "0.7"], 0.7),
        (
            "ppo",
            "ppo-clip",
            &["--temperature", "1.6", "--phases", "2"],
            1.6,
        ),
        ("sampled", "ppo-clip", &["--old", "sampled"], 1.0),
        (
            "ema",
            "dpo",
            &["--reference", "behaviour", "--phases", "2"],
            1.0,
        ),
    ] {
        // So small that no policy becomes certain, of which temperatures are alike.
        let mut all = args(objective, out, more);
        let lr = all.iter().position(|a| *a == "0.05").unwrap();
        all[lr] = "0.002";
        place.train(&all);
        let each = if more.contains(&"--phases") { 2 } else { 1 };
        let made = Made {
            most: 9,
            pairs: objective == "dpo",
            behaviour: more.contains(&"behaviour"),
        };
        let all = phases(&place, out, each);
        assert_eq!(all.len() as u64, 4 / each);
        for phase in &all {
            let policy = at(load(&place, &after(out, phase.first)), temperature);
            let given = at(load(&place, "model"), temperature);
            assert_eq!(
                wrong(&place, phase, &policy, &given, made),
                None,
                "{out} {}",
                phase.first
            );
        }
        // Faults: each shows.
        let last = all.last().unwrap();
        let policy = |steps: u64, t: f64| at(load(&place, &after(out, steps)), t);
        let given = |t: f64| at(load(&place, "model"), t);
        let found = |phase: &Phase, steps: u64, t: f64| {
            wrong(&place, phase, &policy(steps, t), &given(t), made)
        };
        let old = if objective == "copg" {
            "reference"
        } else {
            "old"
        };
        if objective != "copg" {
            // Generation or ln π_old by stale weights.
            assert_eq!(
                found(last, last.first - 1, temperature),
                Some("old"),
                "{out}"
            );
        }
        // Another temperature.
        let other = if temperature == 1.0 { 0.7 } else { 1.0 };
        let shown = found(last, last.first, other);
        assert!(
            shown == Some(old) || shown == Some("old"),
            "{out}: {shown:?}"
        );
        // A reference that did not move, or did.
        let moved = Made {
            behaviour: !made.behaviour,
            ..made
        };
        let shown = wrong(
            &place,
            last,
            &policy(last.first, temperature),
            &given(temperature),
            moved,
        );
        assert_eq!(shown, Some("reference"), "{out}");
        let spoiled = |f: &dyn Fn(&mut Vec<Value>)| {
            let mut phase = last.clone();
            f(&mut phase.rows);
            found(&phase, last.first, temperature)
        };
        // The reward of another row.
        let shown = spoiled(&|rows| {
            let [a, b] = [0, 1].map(|i| rows[i]["completions"][0]["score"].clone());
            if a == b {
                rows[0]["completions"][0]["score"] = 1000.0.into();
            } else {
                rows[0]["completions"][0]["score"] = b;
            }
        });
        assert_eq!(shown, Some("score"), "{out}");
        // The prompt of another row.
        let shown = spoiled(&|rows| rows[0]["index"] = rows[1]["index"].clone());
        assert_eq!(shown, Some("prompt"), "{out}");
        // A token dropped at the end, EOS or not.
        let shown = spoiled(&|rows| {
            let tokens = rows[0]["completions"][0]["tokens"].as_array_mut().unwrap();
            if tokens.len() > 1 {
                tokens.pop();
            } else {
                tokens.push(3.into());
            }
        });
        assert!(matches!(shown, Some("end" | "length")), "{out}: {shown:?}");
        if made.pairs {
            // Labels turned round, and a tie that was kept.
            let shown = spoiled(&|rows| {
                let label = rows[0]["preferred"][0].as_u64().unwrap();
                rows[0]["preferred"][0] = (1 - label).into();
            });
            assert_eq!(shown, Some("label"), "{out}");
            let shown = spoiled(&|rows| {
                let first = rows[0]["completions"][0].clone();
                rows[0]["completions"][1] = first;
            });
            assert_eq!(shown, Some("tie"), "{out}");
        }
    }
}

/// Moments of AdamW live on from phase to phase: it has counted every step.
#[test]
fn the_optimiser_lives_on_across_phases() {
    let place = Place::new(7);
    let mut all = args("dpo", "run", &["--reference", "behaviour"]);
    let at = all.iter().position(|a| *a == "--optimizer").unwrap();
    all.drain(at..at + 2);
    place.train(&all);
    let path = place.at("run/checkpoint-4/optimizer.safetensors");
    let state = candle_core::safetensors::load(path, &candle_core::Device::Cpu).unwrap();
    let steps: Vec<(&String, String)> = (state.iter())
        .filter(|(name, _)| name.contains("step"))
        .map(|(name, t)| (name, t.to_string()))
        .collect();
    assert!(!steps.is_empty(), "{:?}", state.keys());
    assert!(steps.iter().all(|(_, t)| t.contains('4')), "{steps:?}");
}
