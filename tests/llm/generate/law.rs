//! Samples follow the exact distribution of the enumerable language, cuts included.

use candle_core::{DType, Device};
use pistar::llm::language::{Language, walk};
use pistar::llm::model::decoder::Decoder;
use pistar::llm::model::sequence::Packed;
use pistar::llm::sample::generate::{Sampling, generate};
use pistar::observer::Silent;

use crate::fixtures::numbers;

const DRAWS: usize = 100_000;

/// The law of the next token, with the cuts of transformers as they are defined: a list sorted by
/// probability, of which k are kept, and then those before which less than p has come.
fn next(model: &Decoder, tokens: &[u32], sampling: &Sampling) -> Vec<f64> {
    let logits = numbers(&model.logits(&Packed::new([tokens])).unwrap());
    let last = &logits[logits.len() - model.sizes().vocabulary..];
    let weights: Vec<f64> = last
        .iter()
        .map(|l| (l / sampling.temperature).exp())
        .collect();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]));
    order.truncate(sampling.top_k.unwrap_or(order.len()));
    let total: f64 = order.iter().map(|&t| weights[t]).sum();
    let (mut before, mut law) = (0.0, vec![0.0; weights.len()]);
    for token in order {
        if before < sampling.top_p {
            law[token] = weights[token];
        }
        before += weights[token] / total;
    }
    let total: f64 = law.iter().sum();
    law.iter().map(|w| w / total).collect()
}

/// The probability of every response to a prompt: the product of its tokens'.
fn law(model: &Decoder, language: &Language, x: usize, sampling: &Sampling) -> Vec<f64> {
    let prompt = &language.prompts()[x];
    let probability = |arm| {
        let completion = language.completion(arm);
        (0..completion.len())
            .map(|i| {
                let so_far = [prompt, &completion[..i]].concat();
                next(model, &so_far, sampling)[completion[i] as usize]
            })
            .product()
    };
    (0..language.responses()).map(probability).collect()
}

#[test]
fn samples_follow_the_exact_law() {
    let language = Language::with_prompts(3, 2, 2).unwrap();
    let architecture = language.architecture(8, 1);
    let model = Decoder::random(architecture, 0.5, 1, DType::F64, &Device::Cpu).unwrap();
    let walked = walk(&model, &language).unwrap();
    let own = Sampling {
        max_new_tokens: 2,
        ..Sampling::default()
    };
    let cases = [
        own.clone(),
        Sampling {
            temperature: 0.6,
            ..own.clone()
        },
        Sampling {
            temperature: 2.0,
            top_k: Some(3),
            ..own.clone()
        },
        Sampling {
            top_p: 0.8,
            ..own.clone()
        },
        Sampling {
            temperature: 1.4,
            top_k: Some(3),
            top_p: 0.7,
            ..own.clone()
        },
    ];
    for (seed, case) in cases.into_iter().enumerate() {
        let sampling = Sampling {
            samples: DRAWS,
            ..case
        };
        let ends = [language.boundary()];
        let prompts = language.prompts();
        // One prompt a case: both would take twice as long.
        let x = seed % prompts.len();
        let all = generate(
            &model,
            &ends,
            &prompts[x..=x],
            &sampling,
            seed as u64,
            256,
            &Silent,
        );
        let expected = law(&model, &language, x, &sampling);
        let total: f64 = expected.iter().sum();
        assert!((total - 1.0).abs() < 1e-12, "{total}");
        let mut counts = vec![0u32; language.responses()];
        let mut entropy = 0.0;
        for generated in all.unwrap() {
            let arm = language.arm(&generated.tokens).unwrap();
            counts[arm] += 1;
            // What it says of itself is the model's own probability, whatever the cuts.
            assert!((generated.log_prob - walked.log()[x][arm]).abs() < 1e-12);
            entropy += generated.entropy / DRAWS as f64;
        }
        let (mut chi_square, mut outcomes) = (0.0, 0);
        for (&count, &p) in counts.iter().zip(&expected) {
            let mean = p * DRAWS as f64;
            if p > 0.0 {
                assert!(mean > 5.0, "too rare for a test: {mean}");
                chi_square += (f64::from(count) - mean).powi(2) / mean;
                outcomes += 1;
            } else {
                assert_eq!(count, 0)
            }
        }
        let freedom = f64::from(outcomes - 1);
        println!("{sampling:?}: {outcomes} outcomes, chi-square {chi_square:.1}");
        assert!(outcomes > 2);
        // Five standard deviations: 1e-5 for so few degrees of freedom.
        assert!(
            chi_square < freedom + 5.0 * (2.0 * freedom).sqrt(),
            "{chi_square} of {freedom}"
        );
        if sampling
            == (Sampling {
                samples: DRAWS,
                ..own.clone()
            })
        {
            let exact: f64 = expected.iter().map(|p| -p * p.ln()).sum();
            assert!((entropy - exact).abs() < 0.01, "{entropy} {exact}");
        }
    }
}
