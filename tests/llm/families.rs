//! Every family trains, and scalar heads with it.

use candle_core::{DType, Device, Tensor};
use pistar::llm::internals::tensor::tape::{LeafGradients, Tape};
use pistar::llm::model::config::Config;
use pistar::llm::model::decoder::Decoder;
use pistar::llm::model::heads::{
    AdvantageScorer, PolicyWithValue, ScalarHead, Scorer, TokenValues,
};
use pistar::llm::model::network::{Network, ValueRows};
use pistar::llm::model::sequence::{Predictions, Sequence};
use pistar::random::{Purpose, Stream};
use serde_json::json;

use crate::fixtures::{self, Expected, folder, has_kinks, models, numbers};

/// A number of a network that weighs every piece differently, and its gradient if asked for.
fn weighed(network: &dyn Network, sequences: &[Sequence], gradient: bool) -> (f64, LeafGradients) {
    let mut leaves = LeafGradients::new(network.leaves());
    let tape = if gradient {
        Tape::recording(network.leaves())
    } else {
        Tape::idle()
    };
    let sequences: Vec<_> = sequences.iter().collect();
    let output = network.forward(&tape, &sequences).unwrap();
    let mut total = 0.0;
    let mut seeds = Vec::new();
    for node in std::iter::once(output.pieces).chain(output.values.map(|v| v.node)) {
        let pieces = numbers(node.value());
        let weights: Vec<f64> = (0..pieces.len())
            .map(|i| (i as f64 * 0.7).sin() + 0.3)
            .collect();
        total += pieces.iter().zip(&weights).map(|(p, w)| p * w).sum::<f64>();
        let weights = Tensor::new(weights, &Device::Cpu).unwrap();
        seeds.push((
            node.clone(),
            weights.to_dtype(node.value().dtype()).unwrap(),
        ));
    }
    if gradient {
        tape.backward(seeds, &mut leaves).unwrap();
    }
    (total, leaves)
}

/// Every tensor's gradient is there and not 0, and a sample of its entries is the slope of central
/// differences.
fn check<N: Network>(what: &str, network: &mut N, decoder: fn(&mut N) -> &mut Decoder) {
    let sequences = Expected::of("llama").sequences();
    let (_, gradients) = weighed(network, &sequences, true);
    let h = 1e-5;
    let count = decoder(network).parameters().len();
    let mut stream = Stream::new(1, Purpose::Order, 0);
    let mut checked = 0;
    for index in 0..count {
        let parameter = decoder(network).parameters().iter().nth(index).unwrap();
        let (name, tensor) = (parameter.name.clone(), parameter.tensor.clone());
        let gradient = gradients.get(index);
        let gradient = numbers(gradient.unwrap_or_else(|| panic!("{what}: {name} has none")));
        let original = numbers(&tensor);
        let size = gradient.iter().fold(0.0, |m: f64, g| m.max(g.abs()));
        // Llama's kin turn keys, GPT-2's and OPT's and BLOOM's do not.
        let turned = !decoder(network).graph().rotations.is_empty();
        if !turned && name.ends_with("k_proj.bias") {
            // It adds the same to all scores of a query, which softmax does not see. (Rotary
            // embedding turns it differently at each position.)
            assert!(size < 1e-12, "{what}: {name} has gradient {size}");
            continue;
        }
        assert!(size > 1e-6, "{what}: {name}'s gradient is at most {size}");
        // A token or position that stands nowhere has none in an embedding that is no head.
        let share = gradient.iter().filter(|g| **g != 0.0).count() as f64 / gradient.len() as f64;
        // A unit of a ReLU may be off for every token.
        let off = has_kinks(decoder(network)) && name.contains(".mlp.");
        let enough = match (name.contains("embed_"), off) {
            (true, _) => 0.1,
            (_, true) => 0.5,
            _ => 0.9,
        };
        assert!(
            share > enough,
            "{what}: only {share} of {name}'s gradient is not 0"
        );
        for _ in 0..4 {
            let entry = stream.below(original.len() as u32) as usize;
            let mut at = |shift: f64| {
                let mut moved = original.clone();
                moved[entry] += shift;
                let moved = Tensor::from_vec(moved, tensor.dims(), &Device::Cpu).unwrap();
                let parameters = decoder(network).parameters_mut();
                parameters.set(&name, &moved).unwrap();
                weighed(network, &sequences, false).0
            };
            let slope = (at(h) - at(-h)) / (2.0 * h);
            at(0.0);
            let error = (slope - gradient[entry]).abs() / slope.abs().max(1.0);
            assert!(
                error < 1e-7,
                "{what}: {name}[{entry}]: {} for {slope}",
                gradient[entry]
            );
            checked += 1;
        }
    }
    println!("{what}: {checked} entries of {count} tensors");
    assert!(checked >= 4 * (count - 2));
}

#[test]
fn every_tensor_of_every_family_has_the_gradient_of_finite_differences() {
    for name in models() {
        let mut model = Decoder::load(folder(name), DType::F64, &Device::Cpu).unwrap();
        check(name, &mut model, |m| m);
    }
}

#[test]
fn so_have_scalar_heads_and_what_is_below_them() {
    for name in models() {
        for head in ScalarHead::ALL {
            let mut decoder = Decoder::load_body(folder(name), DType::F64, &Device::Cpu).unwrap();
            head.add(&mut decoder, 1).unwrap();
            let mut scorer = Scorer { decoder, head };
            check(&format!("{name} {head:?}"), &mut scorer, |s| &mut s.decoder);
        }
        let mut decoder = Decoder::load(folder(name), DType::F64, &Device::Cpu).unwrap();
        ScalarHead::Value.add(&mut decoder, 1).unwrap();
        let mut shared = PolicyWithValue(decoder, ValueRows::Prompt);
        check(&format!("{name} shared"), &mut shared, |s| &mut s.0);
    }
}

/// The numbers that a network gives sequences, those of a head, and gradients of a sum that weighs each differently:
/// sequences are run as many together as a part has.
fn in_parts(network: &dyn Network, parts: &[&[&Sequence]]) -> [Vec<f64>; 3] {
    let mut leaves = LeafGradients::new(network.leaves());
    let [mut pieces, mut values] = [Vec::new(), Vec::new()];
    for part in parts {
        let tape = Tape::recording(network.leaves());
        let output = network.forward(&tape, part).unwrap();
        let nodes = [Some(output.pieces), output.values.map(|v| v.node)];
        let seeds = nodes.into_iter().zip([&mut pieces, &mut values]);
        let seeds = seeds.filter_map(|(node, all)| {
            let node = node?;
            let new = numbers(node.value());
            let weights = (all.len()..all.len() + new.len()).map(|i| (i as f64 * 0.7).sin() + 0.3);
            let weights = Tensor::new(weights.collect::<Vec<f64>>(), &Device::Cpu).unwrap();
            all.extend(new);
            Some((node, weights))
        });
        tape.backward(seeds.collect::<Vec<_>>(), &mut leaves)
            .unwrap();
    }
    let each = (0..network.leaves()).filter_map(|leaf| leaves.get(leaf).map(numbers));
    [pieces, values, each.flatten().collect()]
}

#[test]
fn a_prompt_that_is_shared_is_as_one_for_each() {
    // Gemma's padding is 0: it begins behind the prompt, or within.
    let all = [
        (&[1, 5, 6, 7, 8, 9][..], 4),
        (&[1, 5, 6, 7, 4], 4),
        (&[1, 5, 6, 7, 0], 4),
        (&[1, 5, 6, 7, 3, 2, 8, 8, 4, 6, 7], 4),
        (&[1, 5, 0, 7, 3], 3),
        (&[1, 5, 0, 0], 3),
        (&[1, 5, 0, 4], 3),
        (&[1, 9, 9, 9], 1),
        (&[1, 8], 1),
    ];
    let all = all.map(|(tokens, prompt)| Sequence::new(tokens.to_vec(), prompt).unwrap());
    let all: Vec<&Sequence> = all.iter().collect();
    let alone: Vec<&[&Sequence]> = all.chunks(1).collect();
    for name in models() {
        let load = || Decoder::load(folder(name), DType::F64, &Device::Cpu).unwrap();
        let with = |heads: &[ScalarHead], mut decoder: Decoder| {
            for (seed, head) in heads.iter().enumerate() {
                head.add(&mut decoder, seed as u64).unwrap();
            }
            decoder
        };
        let body = |heads: &[ScalarHead]| {
            let decoder = Decoder::load_body(folder(name), DType::F64, &Device::Cpu).unwrap();
            with(heads, decoder)
        };
        let scorer = |head| Scorer {
            decoder: body(&[head]),
            head,
        };
        let shared = |rows| PolicyWithValue(with(&[ScalarHead::Value], load()), rows);
        let networks: [Box<dyn Network>; 7] = [
            Box::new(load()),
            Box::new(shared(ValueRows::Prompt)),
            Box::new(shared(ValueRows::Completion)),
            Box::new(scorer(ScalarHead::Reward)),
            Box::new(scorer(ScalarHead::Value)),
            Box::new(TokenValues(body(&[ScalarHead::Value]))),
            Box::new(AdvantageScorer(body(&[
                ScalarHead::Reward,
                ScalarHead::Expected,
            ]))),
        ];
        for (i, network) in networks.iter().enumerate() {
            let [together, apart] =
                [&[&all[..]][..], &alone].map(|parts| in_parts(&**network, parts));
            for (a, b) in together.iter().zip(&apart) {
                let size = b.iter().fold(1.0f64, |most, x| most.max(x.abs()));
                let off = fixtures::largest(a, b);
                assert!(off < 1e-12 * size, "{name} {i}: {off:e} of {size}");
            }
            assert!(together[2].iter().any(|g| g.abs() > 1e-3), "{name} {i}");
        }
    }
    // All but the last token is fed: prompts of 4, 3 and 1, and what follows them.
    let packed = Predictions::new(&all).packed;
    assert_eq!(packed.tokens.len(), 4 + (1 + 6) + 3 + 1 + 1 + 2);
}

/// At every place that a token is predicted from, a head says what it says of the sequence up to there.
#[test]
fn a_head_is_read_at_every_row() {
    for name in models() {
        let mut decoder = Decoder::load_body(folder(name), DType::F64, &Device::Cpu).unwrap();
        let head = ScalarHead::Value;
        head.add(&mut decoder, 1).unwrap();
        let sequences = Expected::of(name).sequences();
        let read = |sequences: &[&Sequence], every: bool| {
            let (tape, predictions) = (Tape::idle(), Predictions::new(sequences));
            let hidden = decoder.hidden(&tape, &predictions.packed).unwrap();
            let rows = if every {
                predictions.rows.clone()
            } else {
                let last = predictions.starts[1..].iter();
                last.map(|&end| predictions.rows[end - 1]).collect()
            };
            let found = head.values(&tape, decoder.parameters(), &hidden, &rows);
            numbers(found.unwrap().value())
        };
        let found = read(&sequences.iter().collect::<Vec<_>>(), true);
        let mut wanted = Vec::new();
        for sequence in &sequences {
            let prompt = sequence.prompt().len();
            for end in prompt + 1..=sequence.tokens().len() {
                let prefix = Sequence::new(sequence.tokens()[..end].to_vec(), prompt).unwrap();
                wanted.extend(read(&[&prefix], false));
            }
        }
        assert!(fixtures::largest(&found, &wanted) < 1e-12, "{name}");
        assert!(found.windows(2).any(|w| (w[0] - w[1]).abs() > 1e-3));
    }
}

#[test]
fn a_random_model_follows_its_configuration() {
    for name in models() {
        let path = folder(name).join("config.json");
        let make = |seed| Decoder::from_config(&path, seed, DType::F64, &Device::Cpu).unwrap();
        let (model, again, other) = (make(1), make(1), make(2));
        let config = Config::read(&path).unwrap();
        let mut matrices: Vec<f64> = Vec::new();
        let mut residual: Vec<f64> = Vec::new();
        for ((p, q), r) in (model.parameters().iter().zip(again.parameters().iter()))
            .zip(other.parameters().iter())
        {
            let values = numbers(&p.tensor);
            assert_eq!(values, numbers(&q.tensor), "{name}: {}", p.name);
            if p.tensor.rank() == 1 {
                let zero = p.name.ends_with("bias") || name == "gemma";
                let identity = if zero { 0.0 } else { 1.0 };
                assert!(values.iter().all(|&x| x == identity), "{name}: {}", p.name);
                continue;
            }
            assert_ne!(values, numbers(&r.tensor), "{name}: {}", p.name);
            if p.name.ends_with("o_proj.weight") || p.name.ends_with("down_proj.weight") {
                residual.extend(values)
            } else {
                matrices.extend(values.iter().filter(|x| **x != 0.0))
            }
        }
        let deviation = |x: &[f64]| (x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64).sqrt();
        let smaller = if name == "gpt2" { 0.5 } else { 1.0 };
        for (values, wanted) in [(matrices, 0.02), (residual, 0.02 * smaller)] {
            // Standard error of a deviation from n draws: 1/√(2n) of it.
            let error = (deviation(&values) / wanted - 1.0).abs();
            let sigma = (2.0 * values.len() as f64).sqrt().recip();
            assert!(
                error < 4.0 * sigma,
                "{name}: off by {} standard errors",
                error / sigma
            );
        }
        // transformers begins the padding token's embedding at 0.
        let first = &model.parameters().iter().next().unwrap().tensor;
        let first_width = first.dim(1).unwrap();
        let first = numbers(first);
        let zeros = first
            .chunks(first_width)
            .filter(|row| row.iter().all(|&x| x == 0.0))
            .count();
        assert_eq!(zeros, usize::from(config.padding.is_some()), "{name}");
        assert_eq!(config.padding.is_some(), name == "gemma");
    }
}

#[test]
fn reward_models_score_as_in_transformers() {
    #[derive(serde::Deserialize)]
    struct Scores {
        sequences: Vec<Vec<u32>>,
        scores: Vec<f64>,
    }
    let expected: Scores = fixtures::json("reward/expected.json");
    let dir = folder("reward");
    let mut decoder = Decoder::load_body(&dir, DType::F32, &Device::Cpu).unwrap();
    let head = ScalarHead::Reward;
    head.load(&mut decoder, &dir).unwrap();
    let scores = |decoder, sequences: &[Vec<u32>]| {
        let scorer = Scorer { decoder, head };
        let sequences: Vec<_> = (sequences.iter())
            .map(|tokens| Sequence::new(tokens.clone(), 1).unwrap())
            .collect();
        let sequences: Vec<_> = sequences.iter().collect();
        let output = scorer.forward(&Tape::idle(), &sequences).unwrap();
        (numbers(output.pieces.value()), scorer.decoder)
    };
    let (found, decoder) = scores(decoder, &expected.sequences);
    assert!(fixtures::largest(&found, &expected.scores) < 1e-5);
    // Saved and loaded again, and a score depends on nothing but its own sequence.
    let dir = tempfile::tempdir().unwrap();
    decoder.save(dir.path(), &Default::default()).unwrap();
    let config = Config::read(dir.path().join("config.json")).unwrap();
    assert_eq!(
        config.fields["architectures"],
        json!(["LlamaForSequenceClassification"])
    );
    let mut again = Decoder::load_body(dir.path(), DType::F32, &Device::Cpu).unwrap();
    head.load(&mut again, dir.path()).unwrap();
    let (alone, _) = scores(again, &expected.sequences[2..3]);
    assert!((alone[0] - found[2]).abs() < 1e-6);
}

#[test]
fn a_value_reads_the_prompt_only() {
    let mut decoder = Decoder::load(folder("llama"), DType::F64, &Device::Cpu).unwrap();
    ScalarHead::Value.add(&mut decoder, 3).unwrap();
    let values = |model: &PolicyWithValue, tokens: &[u32]| {
        let sequence = Sequence::new(tokens.to_vec(), 3).unwrap();
        let output = model.forward(&Tape::idle(), &[&sequence]).unwrap();
        numbers(output.values.unwrap().node.value())[0]
    };
    let shared = PolicyWithValue(decoder, ValueRows::Prompt);
    let value = values(&shared, &[1, 5, 6, 7, 8]);
    assert_eq!(value, values(&shared, &[1, 5, 6, 9]));
    assert_ne!(value, values(&shared, &[1, 5, 7, 7, 8]));
    let apart = Scorer {
        decoder: shared.0,
        head: ScalarHead::Value,
    };
    let sequence = Sequence::new(vec![1, 5, 6, 7, 8], 3).unwrap();
    let output = apart.forward(&Tape::idle(), &[&sequence]).unwrap();
    assert!((numbers(output.pieces.value())[0] - value).abs() < 1e-14);
    // Saved beside the language model, which stays one.
    let dir = tempfile::tempdir().unwrap();
    apart.decoder.save(dir.path(), &Default::default()).unwrap();
    let mut again = Decoder::load(dir.path(), DType::F64, &Device::Cpu).unwrap();
    ScalarHead::Value.load(&mut again, dir.path()).unwrap();
    assert_eq!(
        values(&PolicyWithValue(again, ValueRows::Prompt), &[1, 5, 6, 7, 8]),
        value
    );
}
