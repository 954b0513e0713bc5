use serde_json::json;

use super::*;
use crate::llm::model::config::Config;
use crate::llm::tools::plan::{Machine, Phase, Role, StepShape};

/// Eight pairs of 96 tokens on a small Llama.
fn budget(precision: Precision, cpu: bool, in_backward: bool) -> Budget {
    let config = json!({
        "model_type": "llama", "vocab_size": 500, "hidden_size": 64, "intermediate_size": 160,
        "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 128,
        "tie_word_embeddings": false,
    });
    let step = StepShape::uniform(8, 2, [96, 1]);
    Budget {
        run: Run {
            config: Config::new(config.as_object().unwrap().clone()).unwrap(),
            role: Role::Policy,
            value: None,
            reference: Reference::Live,
            precision,
            adapter: None,
            members: 1,
            goes_on: false,
            recompute: false,
            in_backward,
            micro_batch: if in_backward { 1536 } else { 1000 },
            one_step: false,
            draws: Vec::new(),
            evaluates_kl: false,
            machine: Machine {
                threads: 2,
                ..Machine::new(cpu)
            },
        },
        steps: vec![step],
        beside: Vec::new(),
        of_data: false,
        sequence: false,
        tf32: false,
    }
}

/// Every run that differs from another in what may be advised, with the price of the difference: the
/// dearest setting is the highest digit.
fn all(budget: &Budget) -> Vec<(u32, Run)> {
    let of = &budget.run;
    let mut runs = Vec::new();
    let lower: &[(Precision, u32)] = match of.precision {
        Precision::F64 => &[
            (Precision::F64, 0),
            (Precision::F32, 1 << 4),
            (Precision::Bf16, 1 << 5),
        ],
        Precision::F32 => &[(Precision::F32, 0), (Precision::Bf16, 1 << 5)],
        Precision::Bf16 => &[(Precision::Bf16, 0)],
    };
    // Whole pairs, single responses, and as it is.
    let mut pieces: Vec<usize> = (1..8).map(|pairs| 192 * pairs).collect();
    pieces.extend([96, of.micro_batch, 1536]);
    for &(precision, of_precision) in lower {
        for reference in [Reference::Live, Reference::Numbers] {
            for adapter in [None, Some(AdapterConfig::new(16, 32.0, Target::AllLinear))] {
                for recompute in [of.recompute, true] {
                    for in_backward in [of.in_backward, true] {
                        for &micro_batch in &pieces {
                            let changed = [
                                reference != of.reference,
                                micro_batch < of.micro_batch,
                                recompute != of.recompute,
                                in_backward != of.in_backward,
                            ];
                            // Refused: a step has to be one part. Larger pieces have no other use.
                            let larger = micro_batch > of.micro_batch;
                            if in_backward && micro_batch < 1536 || larger && !in_backward {
                                continue;
                            }
                            let price: u32 =
                                (0..4).map(|i| u32::from(changed[i]) << i).sum::<u32>();
                            let price = price + of_precision;
                            let price = price + (u32::from(adapter.is_some()) << 6);
                            runs.push((
                                price,
                                Run {
                                    precision,
                                    reference: reference.clone(),
                                    adapter: adapter.clone(),
                                    recompute,
                                    in_backward,
                                    micro_batch,
                                    ..of.clone()
                                },
                            ));
                        }
                    }
                }
            }
        }
    }
    runs
}

/// What the flags of a change cost.
fn price(setting: &str) -> u32 {
    let backward = setting.contains("--optimizer-in-backward");
    [
        setting.contains("--reference"),
        setting.contains("--micro-batch-tokens") && !backward,
        setting.contains("--recompute"),
        backward,
        setting.contains("--dtype f32"),
        setting.contains("--dtype bf16"),
        setting.contains("--lora-rank"),
    ]
    .iter()
    .enumerate()
    .map(|(i, has)| u32::from(*has) << i)
    .sum()
}

#[test]
fn what_is_advised_is_the_cheapest_of_all_that_fit() {
    for (precision, cpu, in_backward) in [
        (Precision::F64, true, false),
        (Precision::F32, true, false),
        (Precision::F32, false, true),
        (Precision::Bf16, false, false),
    ] {
        let budget = budget(precision, cpu, in_backward);
        let now = budget.outcome().unwrap().bytes();
        let all: Vec<(u32, u64)> = (all(&budget).into_iter())
            .map(|(price, run)| (price, budget.with(&run).unwrap().bytes()))
            .collect();
        let least = all.iter().map(|(_, bytes)| *bytes).min().unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for share in 0..14 {
            let room = least + (now - least) * share / 14;
            let alone = budget.changes(room).unwrap();
            let alone = alone.into_iter().filter(|change| change.fits);
            let advised = match alone.map(|change| price(&change.setting)).min() {
                Some(price) => price,
                None => {
                    let together = budget.together(room).unwrap().unwrap();
                    assert!(together.fits && together.peak_bytes <= room);
                    assert!(!together.setting.contains("--max-length"), "{together:?}");
                    price(&together.setting)
                }
            };
            let fitting = all.iter().filter(|(_, bytes)| *bytes <= room);
            // A single change is told where there is one, though two cheaper ones may do.
            let single = |price: &u32| price.count_ones() == 1;
            let prices: Vec<u32> = fitting.map(|(price, _)| *price).collect();
            let best = (prices.iter().filter(|p| single(p)).min()).or(prices.iter().min());
            assert_eq!(Some(&advised), best, "{precision:?} {room}");
            seen.insert(advised);
        }
        assert!(seen.len() > 2, "{seen:?}");
        // Below the least of all, only shorter examples are left.
        let shorter = budget.together(least - 1).unwrap();
        assert!(shorter.unwrap().setting.contains("--max-length"));
        assert_eq!(budget.together(1000).unwrap(), None);
    }
}

#[test]
fn fewer_sequences_at_once_are_advised_where_generation_takes_most() {
    let mut budget = budget(Precision::F32, true, false);
    budget.run.reference = Reference::None;
    budget.run.draws = vec![Draw {
        sequences: 1024,
        samples: 1,
        prompt: 20,
        longest: 128,
    }];
    let now = budget.outcome().unwrap();
    assert_eq!(now.peak().unwrap().at.phase, Phase::Generation);
    let room = now.bytes() * 3 / 4;
    let changes = budget.changes(room).unwrap();
    let change = (changes.iter())
        .find(|change| change.setting.starts_with("--generation-batch"))
        .unwrap();
    assert!(change.fits);
    let most: usize = change.setting.rsplit(' ').next().unwrap().parse().unwrap();
    let bytes = |sequences: usize| {
        let run = Run {
            draws: at_once(&budget.run.draws, sequences),
            ..budget.run.clone()
        };
        budget.with(&run).unwrap().bytes()
    };
    assert!(bytes(most) <= room && bytes(most + 1) > room);
}
