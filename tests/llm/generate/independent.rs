//! What is generated depends on the seed, the prompt and the sample, and on nothing else.

use candle_core::{DType, Device};
use pistar::llm::language::Language;
use pistar::llm::model::architecture::Architecture;
use pistar::llm::model::decoder::Decoder;
use pistar::llm::model::sequence::Packed;
use pistar::llm::sample::generate::{Generated, Sampling, Session, generate};
use pistar::observer::Silent;

use crate::fixtures::{largest, numbers};

/// A random Llama with two key heads for four, whose `vocabulary` decides whether threads share
/// sequences or products.
fn llama(vocabulary: usize, window: Option<usize>, dtype: DType) -> Decoder {
    let like = Language::with_prompts(3, 2, 1).unwrap().architecture(64, 2);
    let architecture = Architecture {
        vocabulary,
        heads: 4,
        kv_heads: 2,
        head_dim: 16,
        context: 700,
        window,
        intermediate: 200,
        positions: match like.positions {
            pistar::llm::model::architecture::Positions::Rotary { factor, .. } => {
                let frequency = |i: i32| 0.3f64.powi(i);
                pistar::llm::model::architecture::Positions::Rotary {
                    frequencies: (0..8).map(frequency).collect(),
                    factor,
                }
            }
            learned => learned,
        },
        ..like
    };
    Decoder::random(architecture, 0.2, 3, dtype, &Device::Cpu).unwrap()
}

fn tokens(count: usize, vocabulary: usize) -> Vec<u32> {
    (0..count)
        .map(|i| ((i * i + 7 * i) % vocabulary) as u32)
        .collect()
}

#[test]
fn long_sequences_in_any_pieces() {
    // Beyond a tile of the cache, a chunk of the engine and a window.
    for (window, dtype, tolerance) in [
        (None, DType::F64, 1e-10),
        (Some(40), DType::F64, 1e-10),
        (Some(64), DType::F32, 1e-4),
    ] {
        let model = llama(50, window, dtype);
        let all = tokens(600, 50);
        let whole = numbers(&model.logits(&Packed::new([&all[..]])).unwrap());
        let mut each = Session::new(&model).unwrap();
        for (i, token) in all.iter().enumerate() {
            let found = each.feed(&[*token]).unwrap();
            let off = largest(&found, &whole[i * 50..][..50]);
            assert!(off < tolerance, "{window:?} {dtype:?} {i}: {off}");
            if [32, 33, 257, 599].contains(&i) {
                let mut once = Session::new(&model).unwrap();
                assert_eq!(once.feed(&all[..=i]).unwrap(), found);
            }
        }
    }
}

fn in_pool(threads: usize, work: impl FnOnce() -> Vec<Generated> + Send) -> Vec<Generated> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.unwrap().install(work)
}

#[test]
fn neither_batch_nor_threads_nor_neighbours_matter() {
    // Small enough for threads to share sequences, and too large.
    for vocabulary in [50, 20_000] {
        let model = llama(vocabulary, None, DType::F32);
        let prompts: Vec<Vec<u32>> = [3, 1, 40, 7].map(|n| tokens(n, 50)).to_vec();
        let sampling = Sampling {
            temperature: 1.5,
            top_k: Some(40),
            top_p: 0.9,
            max_new_tokens: 12,
            samples: 3,
            ..Sampling::default()
        };
        let run = |prompts: &[Vec<u32>], batch: usize, threads: usize| {
            in_pool(threads, || {
                generate(&model, &[5, 6], prompts, &sampling, 11, batch, &Silent).unwrap()
            })
        };
        let all = run(&prompts, 1, 1);
        assert_eq!(all.len(), 12);
        let distinct: std::collections::BTreeSet<_> = all.iter().map(|g| &g.tokens).collect();
        assert!(distinct.len() > 8);
        for (batch, threads) in [(1, 2), (4, 1), (5, 2), (100, 2), (100, 3)] {
            assert_eq!(all, run(&prompts, batch, threads), "{batch} {threads}");
        }
        assert_eq!(all[..6], run(&prompts[..2], 4, 2));
        let mut other = prompts.clone();
        other[1] = tokens(200, 50);
        let other = run(&other, 4, 2);
        assert_eq!(all[..3], other[..3]);
        assert_eq!(all[6..], other[6..]);
        let seed = in_pool(2, || {
            generate(&model, &[5, 6], &prompts, &sampling, 12, 4, &Silent).unwrap()
        });
        assert_ne!(all, seed);
    }
}
