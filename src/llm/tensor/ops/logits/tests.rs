use candle_core::{Device, Tensor};

use super::cpu::{CHUNK, KEPT};
use super::{Teacher, cross_entropy, logit_difference, token_log_probs};
use crate::error::Result;
use crate::llm::tensor::tape::{LeafGradients, Node, Tape};

fn numbers(shape: (usize, usize), seed: f64) -> Tensor {
    let numbers = (0..shape.0 * shape.1).map(|i| (seed * i as f64).sin());
    Tensor::from_iter(numbers, &Device::Cpu)
        .and_then(|t| t.reshape(shape))
        .unwrap()
}

/// Value and gradients of what is made of each row of logits.
fn results(of: impl Fn(&Tape, [&Node; 2], Option<&Node>) -> Result<Node>) -> Vec<Vec<f64>> {
    let tape = Tape::recording(3);
    let hidden = tape.leaf(0, numbers((23, 5), 1.3));
    let head = tape.leaf(1, numbers((7, 5), 0.7));
    let bias = tape.leaf(2, numbers((7, 1), 0.4).squeeze(1).unwrap());
    let output = of(&tape, [&hidden, &head], Some(&bias)).unwrap();
    let mut all = vec![output.value().clone()];
    let mut leaves = LeafGradients::new(3);
    let cotangent = numbers((23, 1), 0.9).squeeze(1).unwrap();
    tape.backward([(output, cotangent)], &mut leaves).unwrap();
    all.extend((0..3).map(|i| leaves.get(i).unwrap().clone()));
    (all.iter())
        .map(|t| t.flatten_all().unwrap().to_vec1().unwrap())
        .collect()
}

/// The same on so many logits at a time, with up to so many kept.
fn unchanged(of: impl Fn(&Tape, [&Node; 2], Option<&Node>, [usize; 2]) -> Result<Node>) {
    let at = |limits: [usize; 2]| results(|tape, inputs, bias| of(tape, inputs, bias, limits));
    let whole = at([CHUNK, KEPT]);
    for limits in [[28, KEPT], [28, 0], [CHUNK, 0], [1, 0]] {
        for (found, wanted) in at(limits).iter().zip(&whole) {
            assert_eq!(found.len(), wanted.len());
            for (x, y) in found.iter().zip(wanted) {
                assert!((x - y).abs() < 1e-14, "{limits:?}: {x} {y}");
            }
        }
    }
}

#[test]
fn chunks_and_logits_made_again_change_nothing() {
    for temperature in [1.0, 0.6] {
        let targets = (0..23).map(|i| i * 3 % 7).collect();
        unchanged(|tape, inputs, bias, limits| {
            token_log_probs::cpu::within::<f64>(tape, inputs, bias, &targets, temperature, limits)
        });
    }
    let teacher = Teacher {
        hidden: numbers((23, 3), 1.7),
        head: numbers((7, 3), 0.8),
        bias: Some(numbers((7, 1), 2.1).squeeze(1).unwrap()),
    };
    unchanged(|tape, inputs, bias, limits| {
        cross_entropy::cpu::within::<f64>(tape, inputs, bias, &teacher, limits)
    });
    unchanged(|tape, inputs, bias, limits| {
        logit_difference::cpu::within::<f64>(tape, inputs, bias, &teacher, limits)
    });
}
