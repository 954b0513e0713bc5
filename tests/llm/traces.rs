//! Ten steps of training against a plain PyTorch loop.

use std::collections::BTreeMap;

use candle_core::{DType, Device};
use pistar::llm::internals::model::inference::numbers;
use pistar::llm::internals::tensor::optimizer::{AdamW, Config};
use pistar::llm::internals::tensor::tape::LeafGradients;
use pistar::llm::internals::train::step::Step;
use pistar::llm::model::decoder::Decoder;
use pistar::llm::model::network::{Network, Reduction};
use pistar::llm::model::sequence::Sequence;
use pistar::llm::text::example::{Beside, Example, Response};
use pistar::llm::text::objective::{TextObjective, TokenReduction, mismatched};
use pistar::loss::InputKind;
use serde::Deserialize;

use crate::fixtures::{self, folder};

#[derive(Deserialize)]
struct Traces {
    lr: f64,
    beta: f64,
    batches: Vec<Vec<Row>>,
    traces: BTreeMap<String, Trace>,
}

#[derive(Deserialize)]
struct Row {
    prompt: Vec<u32>,
    answers: [Vec<u32>; 2],
}

/// What PyTorch saw: the loss before each step, and the first weights of every tensor at the end.
#[derive(Deserialize)]
struct Trace {
    mean: bool,
    losses: Vec<f64>,
    weights: BTreeMap<String, Vec<f64>>,
}

fn examples(rows: &[Row], kind: InputKind) -> Vec<Example> {
    let example = |(index, row): (usize, &Row)| {
        let count = if kind == InputKind::Rated { 1 } else { 2 };
        let response = |answer: &Vec<u32>| {
            let tokens = [&row.prompt[..], answer].concat();
            let sequence = Sequence::new(tokens, row.prompt.len()).unwrap();
            // The first and third of a batch are desirable.
            Response::new(sequence, f64::from(u8::from(index % 2 == 0)))
        };
        Example {
            row: index as u64,
            responses: row.answers[..count].iter().map(response).collect(),
            beside: Beside::default(),
        }
    };
    rows.iter().enumerate().map(example).collect()
}

/// Losses before each step, and the model after the last.
fn train(
    name: &str,
    data: &Traces,
    mean: bool,
    dtype: DType,
    micro_batch: usize,
) -> (Vec<f64>, Decoder) {
    let load = || Decoder::load(folder("llama"), dtype, &Device::Cpu).unwrap();
    let (model, reference) = (load(), load());
    let token_reduction = if mean {
        TokenReduction::Mean
    } else {
        TokenReduction::Sum
    };
    let objective = TextObjective::new(name, &data.beta.into(), Some(token_reduction)).unwrap();
    let reduction: Reduction = objective.reduction();
    let of = |network: &dyn Network, sequences: &[Sequence]| -> Vec<f64> {
        let found = numbers(network, reduction, sequences, micro_batch).unwrap();
        found.sequences
    };
    let mut optimizer = AdamW::new(model.parameters(), Config::default()).unwrap();
    let mut losses = Vec::new();
    for rows in &data.batches {
        let mut text = objective.batch(&examples(rows, objective.kind()));
        text.log_reference = of(&reference, &text.sequences);
        if objective.anchored() {
            let others = mismatched(&text, usize::MAX).unwrap();
            let (ours, theirs) = (of(&model, &others), of(&reference, &others));
            let sum: f64 = ours.iter().zip(&theirs).map(|(a, b)| a - b).sum();
            text.held.fill((sum / others.len() as f64).max(0.0));
        }
        let step = Step {
            kind: objective.kind(),
            policy: &model,
            value: None,
            reduction,
            micro_batch,
        };
        let mut gradients = LeafGradients::new(model.leaves());
        let none = &mut LeafGradients::new(0);
        let loss = |batch: &_| objective.cotangents(batch);
        losses.push(step.run(&text, loss, &mut gradients, none).unwrap().loss);
        optimizer
            .step(model.parameters(), &gradients, data.lr, 1.0)
            .unwrap();
    }
    (losses, model)
}

#[test]
fn dpo_ipo_and_kto_take_the_steps_of_pytorch() {
    let data: Traces = fixtures::json("traces.json");
    assert_eq!(data.traces.len(), 4);
    for (name, trace) in &data.traces {
        let objective = name.trim_end_matches("-mean");
        for (dtype, micro_batch) in [(DType::F32, usize::MAX), (DType::F32, 20), (DType::F64, 20)] {
            let (losses, model) = train(objective, &data, trace.mean, dtype, micro_batch);
            assert_eq!(losses.len(), 10);
            let relative = |a: f64, b: f64| (a - b).abs() / b.abs();
            let error = |a: &[f64], b: &[f64]| {
                a.iter()
                    .zip(b)
                    .map(|(&a, &b)| relative(a, b))
                    .fold(0.0, f64::max)
            };
            let worst = error(&losses, &trace.losses);
            let mut moved: f64 = 0.0;
            for (parameter, wanted) in &trace.weights {
                let id = model.parameters().find(parameter).unwrap();
                let found = fixtures::numbers(&model.parameters().get(id).tensor);
                moved = moved.max(error(&found[..wanted.len()], wanted));
            }
            println!("{name:9} {dtype:?} losses {worst:.1e}  weights {moved:.1e}");
            assert!(worst < 1e-4, "{name}: {losses:?} for {:?}", trace.losses);
            assert!(moved < 1e-4, "{name}: weights are off by {moved}");
        }
    }
}
