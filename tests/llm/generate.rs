//! Generation: the same function as the full forward, the same tokens as transformers.

mod command;
mod independent;
mod law;

use crate::observer::Heard;
use candle_core::{DType, Device};
use pistar::llm::model::decoder::Decoder;
use pistar::llm::model::sequence::{Packed, Sequence};
use pistar::llm::sample::generate::{Generated, Sampling, Session, generate};
use pistar::observer::Silent;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

use crate::fixtures::{self, Expected, folder, largest, models, numbers};

/// Adapters, and their bases.
const ADAPTERS: [(&str, &str); 7] = [
    ("lora-llama", "llama"),
    ("lora-all", "qwen2"),
    ("lora-regex", "mistral"),
    ("lora-gpt2", "gpt2"),
    ("lora-head", "llama"),
    ("lora-bloom", "bloom"),
    ("lora-gptj", "gptj"),
];

/// A model of the fixtures, or an adapter on its base.
fn load(name: &str, dtype: DType) -> Decoder {
    let adapter = ADAPTERS.iter().find(|(adapter, _)| *adapter == name);
    let base = adapter.map_or(name, |(_, base)| base);
    let mut model = Decoder::load(folder(base), dtype, &Device::Cpu).unwrap();
    if adapter.is_some() {
        model.load_adapter(folder(name)).unwrap();
    }
    model
}

fn all() -> impl Iterator<Item = &'static str> {
    (models().into_iter()).chain(ADAPTERS.map(|(adapter, _)| adapter))
}

fn greedy(tokens: usize) -> Sampling {
    Sampling {
        temperature: 0.0,
        max_new_tokens: tokens,
        ..Sampling::default()
    }
}

#[test]
fn a_token_at_a_time_has_the_logits_of_the_whole() {
    for name in all() {
        for (dtype, tolerance) in [(DType::F32, 1e-5), (DType::F64, 1e-10)] {
            let model = load(name, dtype);
            let vocabulary = model.sizes().vocabulary;
            let mut worst = 0.0f64;
            for tokens in Expected::of("llama").sequences {
                let whole = model.logits(&Packed::new([&tokens[..]])).unwrap();
                let whole = numbers(&whole);
                let mut session = Session::new(&model).unwrap();
                for (token, whole) in tokens.iter().zip(whole.chunks(vocabulary)) {
                    let found = session.feed(&[*token]).unwrap();
                    worst = worst.max(largest(&found, whole));
                }
                // In two pieces, the same to the bit.
                let mut pieces = Session::new(&model).unwrap();
                let (first, second) = tokens.split_at(tokens.len() / 2);
                pieces.feed(first).unwrap();
                let mut again = Session::new(&model).unwrap();
                assert_eq!(pieces.feed(second).unwrap(), again.feed(&tokens).unwrap());
            }
            println!("{name:14} {dtype:?} {worst:.1e}");
            assert!(worst < tolerance, "{name} {dtype:?}: {worst}");
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    text: String,
    prompt: Vec<u32>,
    tokens: Vec<u32>,
}

#[test]
fn the_most_probable_tokens_are_those_of_transformers() {
    let mut all_answers: BTreeMap<String, Vec<Answer>> = fixtures::json("greedy.json");
    let more: BTreeMap<String, Vec<Answer>> = fixtures::json("greedy-families.json");
    all_answers.extend(more);
    for name in all() {
        let answers = all_answers.remove(name).unwrap();
        let model = load(name, DType::F32);
        let prompts: Vec<Vec<u32>> = answers.iter().map(|a| a.prompt.clone()).collect();
        // Up to the context, which is no reason to give less.
        let open = generate(&model, &[], &prompts, &greedy(100), 0, 3, &Silent).unwrap();
        for (found, answer) in open.iter().zip(&answers) {
            assert_eq!(found.tokens, answer.tokens, "{name}");
            assert!(found.context_full && !found.ended);
        }
        // And up to EOS.
        let ended = generate(&model, &[2], &prompts, &greedy(20), 0, 16, &Silent).unwrap();
        for (found, answer) in ended.iter().zip(&answers) {
            let end = answer.tokens.iter().take(20).position(|&t| t == 2);
            let length = end.map_or(20, |end| end + 1);
            assert_eq!(found.tokens, answer.tokens[..length], "{name}");
            assert_eq!(found.ended, end.is_some());
            assert!(!found.context_full);
        }
    }
}

#[test]
fn stories_are_those_of_transformers() {
    let Some(data) = std::env::var_os("PISTAR_DATA") else {
        println!("skipped: PISTAR_DATA does not name a folder that holds stories260K_hf");
        return;
    };
    let path = Path::new(&data).join("stories260K_hf");
    let model = Decoder::load(&path, DType::F32, &Device::Cpu).unwrap();
    let words = pistar::llm::text::tokenizer::Tokenizer::load(&path).unwrap();
    let answers: Vec<Answer> = fixtures::json("stories.json");
    let prompts: Vec<Vec<u32>> = (answers.iter())
        .map(|a| pistar::llm::sample::generate::prompt_tokens(&words, &a.text).unwrap())
        .collect();
    let found = generate(&model, &[], &prompts, &greedy(200), 0, 16, &Silent).unwrap();
    assert_eq!(found.len(), 10);
    for ((found, answer), prompt) in found.iter().zip(&answers).zip(&prompts) {
        assert_eq!(*prompt, answer.prompt);
        assert_eq!(found.tokens, answer.tokens, "{}", answer.text);
    }
}

/// `Σ ln π` and `Σ` entropy over a completion, by definition.
fn by_definition(model: &Decoder, prompt: &[u32], tokens: &[u32]) -> [f64; 2] {
    let whole = [prompt, tokens].concat();
    let logits = numbers(&model.logits(&Packed::new([&whole[..]])).unwrap());
    let rows = logits.chunks(model.sizes().vocabulary);
    let mut sums = [0.0; 2];
    for (row, &token) in rows.skip(prompt.len() - 1).zip(tokens) {
        let lse = row.iter().map(|l| l.exp()).sum::<f64>().ln();
        sums[0] += row[token as usize] - lse;
        sums[1] -= row.iter().map(|l| (l - lse).exp() * (l - lse)).sum::<f64>();
    }
    sums
}

#[test]
fn what_was_drawn_has_the_log_probability_that_training_gives_it() {
    for name in all() {
        // A token's error in f32 and f64.
        for (dtype, tolerance) in [(DType::F32, 1e-5), (DType::F64, 1e-12)] {
            let model = load(name, dtype);
            let sampling = Sampling {
                temperature: 1.3,
                top_k: Some(30),
                top_p: 0.95,
                max_new_tokens: 20,
                samples: 3,
                ..Sampling::default()
            };
            let prompts = [vec![1], vec![1, 7, 9, 30], vec![5, 5]];
            let all = generate(&model, &[2], &prompts, &sampling, 5, 4, &Silent).unwrap();
            let sequences: Vec<Sequence> = (all.iter().enumerate())
                .map(|(i, g)| {
                    let prompt = &prompts[i / 3];
                    let tokens = [prompt, &g.tokens[..]].concat();
                    Sequence::new(tokens, prompt.len()).unwrap()
                })
                .collect();
            let sums = model.sums(&sequences.iter().collect::<Vec<_>>()).unwrap();
            for (
                i,
                (
                    Generated {
                        tokens,
                        log_prob,
                        entropy,
                        ..
                    },
                    sum,
                ),
            ) in all.iter().zip(sums).enumerate()
            {
                let tolerance = tolerance * tokens.len() as f64;
                assert!(
                    (log_prob - sum).abs() < tolerance,
                    "{name}: {log_prob} {sum}"
                );
                let [log, mean] = by_definition(&model, &prompts[i / 3], tokens);
                assert!(
                    (log_prob - log).abs() < tolerance,
                    "{name}: {log_prob} {log}"
                );
                assert!(
                    (entropy - mean).abs() < 3.0 * tolerance,
                    "{name}: {entropy} {mean}"
                );
            }
        }
    }
}

#[test]
fn lengths_are_kept_and_ends_held_back() {
    let model = load("gpt2", DType::F32);
    let prompts = vec![vec![1, 7, 9]; 1];
    let run = |sampling: &Sampling, ends: &[u32]| {
        generate(&model, ends, &prompts, sampling, 1, 8, &Silent).unwrap()
    };
    let ends: Vec<u32> = (0..20).collect();
    let sampling = Sampling {
        min_new_tokens: 5,
        max_new_tokens: 8,
        samples: 40,
        ..Sampling::default()
    };
    let all = run(&sampling, &ends);
    assert_eq!(all.len(), 40);
    for g in &all {
        assert!((5..=8).contains(&g.tokens.len()));
        // Half of the tokens are ends.
        assert_eq!(g.ended, g.tokens.last().is_some_and(|t| *t < 20));
        assert!(
            g.tokens[..5.min(g.tokens.len() - 1)]
                .iter()
                .all(|t| *t >= 20)
        );
        assert!(!g.context_full);
    }
    assert!(all.iter().any(|g| g.tokens.len() > 6));
    let first = Sampling {
        min_new_tokens: 0,
        ..sampling.clone()
    };
    assert!(
        run(&first, &ends)
            .iter()
            .any(|g| g.tokens.len() == 1 && g.ended)
    );
    // What was told adds up.
    let heard = Heard::default();
    generate(&model, &ends, &prompts, &sampling, 1, 3, &heard).unwrap();
    assert_eq!(heard.works(), [("generating".to_string(), 40)]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let model = load("llama", DType::F32);
    let says = |sampling: Sampling, prompts: &[Vec<u32>], batch: usize| {
        let result = generate(&model, &[2], prompts, &sampling, 0, batch, &Silent);
        result.map_or_else(|e| e.to_string(), |_| String::new())
    };
    let good = Sampling {
        max_new_tokens: 2,
        ..Sampling::default()
    };
    let one = [vec![1]];
    assert_eq!(says(good.clone(), &one, 1), "");
    assert_eq!(says(good.clone(), &[], 1), "");
    for t in [-0.5, f64::NAN, f64::INFINITY] {
        let said = says(
            Sampling {
                temperature: t,
                ..good.clone()
            },
            &one,
            1,
        );
        assert!(said.contains("temperature: it is"), "{said}");
    }
    for p in [0.0, 2.0, -1.0, f64::NAN] {
        let said = says(
            Sampling {
                top_p: p,
                ..good.clone()
            },
            &one,
            1,
        );
        assert!(
            said.contains("top_p: it is") && said.contains("1 cuts nothing"),
            "{said}"
        );
    }
    let said = says(
        Sampling {
            top_k: Some(0),
            ..good.clone()
        },
        &one,
        1,
    );
    assert!(said.contains("top_k: it is 0"), "{said}");
    let said = says(
        Sampling {
            max_new_tokens: 0,
            ..good.clone()
        },
        &one,
        1,
    );
    assert!(said.contains("max_new_tokens: it is 0"), "{said}");
    let said = says(
        Sampling {
            min_new_tokens: 3,
            ..good.clone()
        },
        &one,
        1,
    );
    assert!(
        said.contains("min_new_tokens: it is 3; give at most"),
        "{said}"
    );
    let said = says(
        Sampling {
            samples: 0,
            ..good.clone()
        },
        &one,
        1,
    );
    assert!(said.contains("samples: it is 0"), "{said}");
    assert!(says(good.clone(), &one, 0).contains("batch: it is 0"));
    let said = says(good.clone(), &[vec![1], vec![]], 1);
    assert!(said.contains("prompts[1]: it has no token"), "{said}");
    let said = says(good.clone(), &[vec![1, 40]], 1);
    assert!(
        said.contains("token 40 is not below the vocabulary's 40"),
        "{said}"
    );
    let said = says(good.clone(), &[vec![1; 32]], 1);
    assert!(
        said.contains("it has 32 tokens; the model takes 32"),
        "{said}"
    );
    assert_eq!(says(good, &[vec![1; 31]], 1), "");
    let mut session = Session::new(&model).unwrap();
    session.feed(&[1; 32]).unwrap();
    let said = session.feed(&[1]).unwrap_err().to_string();
    assert!(said.contains("the model takes"), "{said}");
}

#[test]
fn weights_that_are_no_numbers_are_told() {
    let mut model = load("llama", DType::F32);
    let broken = candle_core::Tensor::full(f32::NAN, 16, &Device::Cpu).unwrap();
    model
        .parameters_mut()
        .set("model.norm.weight", &broken)
        .unwrap();
    for temperature in [0.0, 1.0] {
        let sampling = Sampling {
            temperature,
            ..Sampling::default()
        };
        let said = generate(&model, &[2], &[vec![1]], &sampling, 0, 1, &Silent);
        let said = said.unwrap_err().to_string();
        assert!(said.contains("not finite"), "{said}");
    }
}
