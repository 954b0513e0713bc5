//! A step does not know in how many pieces it was run.

use candle_core::{DType, Device};
use pistar::llm::internals::tensor::tape::LeafGradients;
use pistar::llm::internals::train::step::Step;
use pistar::llm::model::decoder::Decoder;
use pistar::llm::model::network::{Network, Reduction};
use pistar::llm::model::sequence::Sequence;
use pistar::llm::text::batch::TextBatch;
use pistar::llm::text::example::{Beside, Example, Response, collate, in_parts};
use pistar::loss::{Given, InputKind, Objective};
use pistar::random::{Purpose, Stream};

use crate::smoke::tiny;

/// Eight examples of ragged lengths, some with weights.
fn examples(kind: InputKind) -> Vec<Example> {
    let mut stream = Stream::new(5, Purpose::Problem, kind as u64);
    (0..8)
        .map(|row| {
            let count = match kind {
                InputKind::ScoredPairs | InputKind::LabelledPairs => 2,
                InputKind::Singles | InputKind::Rated => 1,
                InputKind::Groups | InputKind::Lists => 2 + stream.below(3) as usize,
                other => panic!("a new variant: {other:?}"),
            };
            let prompt: Vec<u32> = (0..1 + stream.below(3)).map(|_| stream.below(11)).collect();
            let response = |stream: &mut Stream| {
                let mut tokens = prompt.clone();
                tokens.extend((0..1 + stream.below(4)).map(|_| stream.below(11)));
                let reward = match kind {
                    InputKind::Rated => f64::from(stream.below(2)),
                    _ => stream.uniform(),
                };
                let mut sequence = Sequence::new(tokens, prompt.len()).unwrap();
                if stream.below(2) == 1 {
                    let count = sequence.completion().len();
                    let weights = (0..count).map(|_| f64::from(stream.below(3)) / 2.0);
                    sequence = sequence.weighted(weights.collect()).unwrap();
                }
                Response::new(sequence, reward)
            };
            let responses = (0..count).map(|_| response(&mut stream)).collect();
            Example {
                row,
                responses,
                beside: Beside::default(),
            }
        })
        .collect()
}

fn gradients(
    model: &Decoder,
    objective: Objective,
    parts: &[TextBatch],
    micro_batch: usize,
    reduction: Reduction,
) -> (f64, Vec<Vec<f64>>) {
    let step = Step {
        kind: objective.spec().inputs,
        policy: model,
        value: None,
        reduction,
        micro_batch,
    };
    let given = Given::from(0.3).with("margin", 2.0).with("baseline", 0.2);
    let bound = objective.bind(&given).unwrap();
    let mut sums = LeafGradients::new(model.leaves());
    let mut total = 0.0;
    for part in parts {
        let loss = |batch: &_| bound.on_tape(batch);
        let none = &mut LeafGradients::new(0);
        total += step.run(part, loss, &mut sums, none).unwrap().loss;
    }
    let each = (0..model.leaves()).map(|leaf| {
        let gradient = sums.get(leaf).expect("a gradient for every parameter");
        gradient.flatten_all().unwrap().to_vec1().unwrap()
    });
    (total, each.collect())
}

#[test]
fn every_objective_is_the_same_in_any_pieces() {
    let model = Decoder::random(tiny(), 0.5, 1, DType::F64, &Device::Cpu).unwrap();
    for objective in Objective::ALL {
        let kind = objective.spec().inputs;
        let examples = examples(kind);
        let batch = |some: &[_]| collate(kind, some, |e, i| -1.0 - e.row as f64 - 0.5 * i as f64);
        let whole = batch(&examples);
        for reduction in [Reduction::Sum, Reduction::Mean] {
            let one = gradients(
                &model,
                objective,
                std::slice::from_ref(&whole),
                usize::MAX,
                reduction,
            );
            assert!(one.1.iter().flatten().any(|g| *g != 0.0));
            for (part, micro) in [(30, 30), (12, 5), (usize::MAX, 7), (1, usize::MAX), (1, 1)] {
                let parts = in_parts(&whole, &examples, part, batch);
                let other = gradients(&model, objective, &parts, micro, reduction);
                let name = objective.name();
                assert!(
                    (one.0 - other.0).abs() < 1e-12 * one.0.abs().max(1.0),
                    "{name}"
                );
                for (a, b) in one.1.iter().flatten().zip(other.1.iter().flatten()) {
                    assert!((a - b).abs() < 1e-12 * a.abs().max(1.0), "{name}: {a} {b}");
                }
            }
        }
    }
}
