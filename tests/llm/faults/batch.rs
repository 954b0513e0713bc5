//! Faults of the batch, and of its pieces.

use std::cell::Cell;

use pistar::llm::internals::tensor::tape::Tape;
use pistar::llm::model::network::Network;
use pistar::llm::text::batch::TextBatch;
use pistar::loss::Objective;

use super::caught;
use super::pipeline::{Pipeline, forward};

/// The same weight for every example.
pub fn uniform(text: &mut TextBatch) {
    let weight = 1.0 / text.weight.len() as f64;
    text.weight.fill(weight);
}

#[test]
fn faults_of_the_batch() {
    let dpo = || Pipeline::of(Objective::DPO);
    let copg = || Pipeline::of(Objective::COPG);
    caught(
        "reference numbers shifted by one row",
        &Pipeline {
            text: &|text| text.log_reference.rotate_right(1),
            ..dpo()
        },
    );
    caught(
        "reference not frozen",
        &Pipeline {
            live: true,
            ..dpo()
        },
    );
    caught(
        "chosen and rejected swapped in every tenth pair",
        &Pipeline {
            text: &|text| {
                let [chosen, rejected] = &mut text.slots;
                for i in (0..chosen.len()).step_by(10) {
                    std::mem::swap(&mut chosen[i], &mut rejected[i]);
                }
            },
            ..dpo()
        },
    );
    caught(
        "rewards of the next row",
        &Pipeline {
            text: &|text| text.reward.iter_mut().for_each(|r| r.rotate_left(1)),
            ..copg()
        },
    );
    caught(
        "equal completions of different prompts taken for one",
        &Pipeline {
            text: &|text| {
                let arms = text.sequences.len() as u32 / 2;
                text.slots.iter_mut().flatten().for_each(|s| *s %= arms);
            },
            ..copg()
        },
    );
    caught(
        "weights ignored",
        &Pipeline {
            text: &uniform,
            ..Pipeline::of(Objective::IPO)
        },
    );
}

/// Parts of seven examples, so that they end within a prompt's pairs, whose losses are means over their own
/// examples, and the mean of those.
pub fn means(text: TextBatch) -> Vec<TextBatch> {
    const SIZE: usize = 7;
    let starts = (0..text.weight.len()).step_by(SIZE);
    let count = starts.len() as f64;
    let parts = starts.map(|start| {
        let mut part = text.clone();
        let here = start..start + SIZE;
        let others = part.weight.iter_mut().enumerate();
        (others.filter(|(i, _)| !here.contains(i))).for_each(|(_, weight)| *weight = 0.0);
        let total: f64 = part.weight.iter().sum();
        part.weight.iter_mut().for_each(|w| *w /= total * count);
        part
    });
    parts.collect()
}

#[test]
fn faults_of_accumulation() {
    // Where a pair's wins and its losses are in different parts, their ratio is wrong too.
    for objective in [Objective::IPO, Objective::DPO] {
        caught(
            "each micro-batch divided by its own weight",
            &Pipeline {
                parts: &means,
                ..Pipeline::of(objective)
            },
        );
    }
    // Of the runs of a step the first give numbers; of those that give gradients, every other one
    // records nothing.
    let calls = Cell::new(0);
    let dropped = forward(|model, tape, sequences| {
        calls.set(calls.get() + 1);
        match calls.get() % 2 {
            0 => model.forward(&Tape::idle(), sequences),
            _ => model.forward(tape, sequences),
        }
    });
    caught(
        "cotangents of every second micro-batch dropped",
        &Pipeline {
            forward: &dropped,
            micro_batch: 60,
            ..Pipeline::of(Objective::COPG)
        },
    );
}
