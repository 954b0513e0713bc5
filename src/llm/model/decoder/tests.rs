//! That every operation of every family counts.

use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device};

use super::Decoder;
use crate::llm::model::graph::Graph;
use crate::llm::model::sequence::Packed;

/// The fixtures with a language model of their own.
fn models() -> Vec<(String, Decoder)> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/llm/fixtures");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(fixtures).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.path().join("config.json").exists() && name != "reward" {
            let model = Decoder::load(entry.path(), DType::F32, &Device::Cpu).unwrap();
            found.push((name, model));
        }
    }
    assert!(found.len() >= 12);
    found
}

/// Logits of sequences that the fixtures of all families take.
fn logits(model: &Decoder) -> Vec<f32> {
    let sequences: [&[u32]; 3] = [
        &[1, 7, 7, 30, 12, 2],
        &[2, 0, 17, 18, 19],
        &[
            1, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 6,
        ],
    ];
    let logits = model.logits(&Packed::new(sequences)).unwrap();
    logits.flatten_all().unwrap().to_vec1().unwrap()
}

/// The same weights with another graph.
fn with(model: &Decoder, graph: Graph) -> Decoder {
    let (dtype, device) = (DType::F32, &Device::Cpu);
    Decoder::build(Arc::new(graph), true, dtype, device, &mut |weight| {
        let id = model.parameters.find(&weight.name).unwrap();
        Ok(model.parameters.get(id).tensor.clone())
    })
    .unwrap()
}

#[test]
fn whatever_is_left_out_shows_in_the_logits() {
    let mut count = 0;
    for (name, model) in models() {
        let wanted = logits(&model);
        let turned = !model.graph.rotations.is_empty();
        for (change, mutant) in model.graph.mutants() {
            let found = logits(&with(&model, mutant));
            let far = (found.iter().zip(&wanted))
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f32::max);
            if change.ends_with("k_proj.bias") && !turned {
                // It adds the same to all scores of a query, which softmax does not see.
                assert!(far < 1e-5, "{name}, {change}: {far}");
            } else {
                assert!(far > 1e-2, "{name}, {change}: {far}");
                count += 1;
            }
        }
    }
    println!("{count} faults");
    assert!(count > 300);
}
