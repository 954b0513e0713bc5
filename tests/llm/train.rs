//! The training loop: bugs that trainers really had, each excluded for every objective.

use std::collections::BTreeMap;

use candle_core::{DType, Device};
use pistar::llm::decoder::Decoder;
use pistar::llm::example::{Example, Response};
use pistar::llm::network::Network;
use pistar::llm::objective::TextObjective;
use pistar::llm::reference::Reference;
use pistar::llm::sequence::Sequence;
use pistar::llm::train::{Model, Plan, Settings, Stepped, Trainer};
use pistar::loss::InputKind;
use pistar::random::{Purpose, Stream};

use crate::smoke::tiny;

/// Settings of a short run.
pub fn settings(objective: &str) -> Settings {
    let with = |objective: &str, name, number| (objective == name).then_some(number);
    Settings {
        objective: Some(objective.into()),
        margin: with(objective, "advantage-model-distinct", 2.0),
        baseline: with(objective, "pg", 0.3),
        beta: 0.3,
        lr: Some(1e-2),
        steps: Some(3),
        ..Settings::default()
    }
    .resolve()
    .unwrap()
}

/// Eight examples of ragged lengths.
pub fn examples(kind: InputKind) -> Vec<Example> {
    let mut stream = Stream::new(5, Purpose::Problem, 0);
    (0..8)
        .map(|row| {
            let count = match kind {
                InputKind::ScoredPairs | InputKind::LabelledPairs => 2,
                InputKind::Singles | InputKind::Rated => 1,
                InputKind::Groups | InputKind::Lists => 2 + stream.below(3) as usize,
            };
            let prompt: Vec<u32> = (0..1 + stream.below(3)).map(|_| stream.below(11)).collect();
            let response = |stream: &mut Stream| {
                let mut tokens = prompt.clone();
                tokens.extend((0..1 + stream.below(4)).map(|_| stream.below(11)));
                let reward = match kind {
                    InputKind::Rated => f64::from(row % 2 == 0),
                    _ => stream.uniform(),
                };
                Response {
                    sequence: Sequence::new(tokens, prompt.len()).unwrap(),
                    reward,
                }
            };
            let responses = (0..count).map(|_| response(&mut stream)).collect();
            Example { row, responses }
        })
        .collect()
}

pub fn model(seed: u64) -> Decoder {
    Decoder::random(tiny(), 0.3, seed, DType::F64, &Device::Cpu).unwrap()
}

#[test]
fn it_runs() {
    let settings = settings("dpo");
    let examples = examples(InputKind::LabelledPairs);
    let plan = Plan::new(&settings, 16, &examples).unwrap();
    let reference = Reference::Live(Box::new(model(1)));
    let mut trainer = Trainer::new(&settings, plan, Box::new(model(1)), None, reference).unwrap();
    for _ in 0..3 {
        let stepped = trainer.step(None).unwrap();
        println!("{} {}", stepped.loss, stepped.norm);
    }
    panic!("{:?}", trainer.state);
}
