//! Whole models in bf16 beside f64: on a CPU the very operations that a device runs.

use candle_core::{DType, Device, Tensor};
use pistar::llm::decoder::Decoder;
use pistar::llm::network::Network;
use pistar::llm::tape::{LeafGradients, Tape};

use crate::fixtures::{Expected, MODELS, folder, numbers};

/// Log-probabilities of completion tokens, and the gradient of a weighted sum of them.
fn results(model: &Decoder) -> (Vec<f64>, LeafGradients) {
    let sequences = Expected::of("llama").sequences();
    let sequences: Vec<_> = sequences.iter().collect();
    let tape = Tape::recording(model.leaves());
    let output = model.forward(&tape, &sequences).unwrap();
    let pieces = numbers(output.pieces.value());
    let weights = (0..pieces.len()).map(|i| (i as f64 * 0.7).sin() + 0.3);
    let weights = Tensor::from_iter(weights, &Device::Cpu).unwrap();
    let weights = weights.to_dtype(output.pieces.value().dtype()).unwrap();
    let mut leaves = LeafGradients::new(model.leaves());
    tape.backward([(output.pieces, weights)], &mut leaves)
        .unwrap();
    (pieces, leaves)
}

/// A model in bf16, and in f64 with the same, rounded, weights.
fn pair(name: &str) -> [Decoder; 2] {
    let load = |dtype| Decoder::load(folder(name), dtype, &Device::Cpu).unwrap();
    let (half, mut double) = (load(DType::BF16), load(DType::F64));
    for parameter in half.parameters().iter() {
        (double.parameters_mut())
            .set(&parameter.name, &parameter.tensor)
            .unwrap();
    }
    [half, double]
}

#[test]
fn every_gradient_points_where_that_in_f64_does() {
    for model in MODELS {
        let [half, double] = pair(model);
        let ((pieces, found), (wanted_pieces, wanted)) = (results(&half), results(&double));
        for (x, y) in pieces.iter().zip(&wanted_pieces) {
            assert!((x - y).abs() < 0.02 * y.abs(), "{model}: {x} {y}");
        }
        let mut last = 0.0;
        for (index, parameter) in half.parameters().iter().enumerate() {
            let name = &parameter.name;
            let [found, wanted] = [&found, &wanted].map(|gradients| {
                let gradient = gradients.get(index);
                gradient.unwrap_or_else(|| panic!("{model}: {name} has no gradient"))
            });
            assert_eq!(found.dtype(), DType::BF16, "{model}: {name}");
            let [found, wanted] = [found, wanted].map(numbers);
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            let (size, wanted_size) = (dot(&found, &found).sqrt(), dot(&wanted, &wanted).sqrt());
            if model == "gpt2" && name.ends_with("k_proj.bias") {
                // It adds the same to all scores of a query, which softmax does not see: roundings
                // are left, of what the weight before it gets.
                assert!(wanted_size < 1e-12, "{model}: {name} {wanted_size}");
                assert!(size < 0.01 * last, "{model}: {name}: {size} beside {last}");
                continue;
            }
            last = wanted_size;
            let cosine = dot(&found, &wanted) / (size * wanted_size);
            assert!(cosine > 0.99, "{model}: {name}'s cosine is {cosine}");
            let ratio = size / wanted_size;
            assert!((ratio - 1.0).abs() < 0.05, "{model}: {name}: {ratio}");
        }
    }
}
