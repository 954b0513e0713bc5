//! Deliberate faults of the pipeline, each caught by the fixed point that is reached instead.
//!
//! Each fault is put between the stages: into what a network is fed and gives back, or into the
//! batch. Where a pipeline would have it on both sides, the reference's numbers have it too, so
//! that log-ratios begin at zero and the first loss looks right. `distance` is the total variation
//! of the exact policy, found by the walk, from the exact fixed point.

mod by_hand;

use std::cell::Cell;

use candle_core::{DType, Device};
use pistar::Result;
use pistar::bandit::Evidence;
use pistar::llm::architecture::{Architecture, Positions};
use pistar::llm::batch::TextBatch;
use pistar::llm::decoder::Decoder;
use pistar::llm::language::{
    Bandit, Language, Population, Trained, Training, total_variation, walk,
};
use pistar::llm::network::{Network, Output, Reduction};
use pistar::llm::ops;
use pistar::llm::sequence::{Packed, Predictions, Sequence};
use pistar::llm::step::{Step, numbers};
use pistar::llm::tape::Tape;
use pistar::loss::{InputKind, Objective};
use pistar::solve::fixed_point;

use crate::language::bandit;
use by_hand::{Borders, as_they_are, merged};

type Forward<'a> = dyn Fn(&Decoder, &Tape, &[&Sequence]) -> Result<Output> + 'a;
type Parts<'a> = dyn Fn(TextBatch, InputKind) -> Vec<TextBatch> + 'a;

/// A pipeline, part by part; the healthy one by default.
struct Pipeline<'a> {
    objective: Objective,
    /// From sequences to the numbers of their tokens.
    forward: &'a Forward<'a>,
    /// From those to the number of a sequence.
    reduction: Reduction,
    /// Changes the batch, once.
    text: &'a dyn Fn(&mut TextBatch),
    /// Whether the reference moves along.
    live: bool,
    /// What is accumulated.
    parts: &'a Parts<'a>,
    micro_batch: usize,
    /// Changes the model.
    architecture: &'a dyn Fn(&mut Architecture),
}

impl Pipeline<'_> {
    fn of(objective: Objective) -> Self {
        Self {
            objective,
            forward: &|model, tape, sequences| model.forward(tape, sequences),
            reduction: Reduction::Sum,
            text: &|_| {},
            live: false,
            parts: &|text, _| vec![text],
            micro_batch: usize::MAX,
            architecture: &|_| {},
        }
    }

    /// How far from the objective's fixed point it ends.
    fn distance(&self) -> f64 {
        let language = Language::with_prompts(3, 2, 2).unwrap();
        let mut architecture = language.architecture(32, 1);
        (self.architecture)(&mut architecture);
        let model = Decoder::random(architecture, 0.15, 1, DType::F64, &Device::Cpu).unwrap();
        let bandit: Bandit = bandit(2, &model);
        let evidence = Evidence::population(bandit.problem());
        let want = fixed_point(self.objective, bandit.problem(), &evidence).unwrap();
        let population = Population::new(&bandit, &evidence, self.objective).unwrap();
        let kind = self.objective.spec().inputs;
        let network = Faulty {
            model: &model,
            forward: self.forward,
        };
        let reference = |text: &TextBatch| -> Vec<f64> {
            let all = &text.sequences;
            numbers(&network, self.reduction, all, usize::MAX)
                .unwrap()
                .sequences
        };
        let mut text = population.text().clone();
        text.log_reference = reference(&text);
        (self.text)(&mut text);
        let step = Step {
            kind,
            policy: &network,
            value: None,
            reduction: self.reduction,
            micro_batch: self.micro_batch,
        };
        let training = Training {
            steps: 400,
            lr: 3e-3,
            value_lr: 0.0,
            micro_batch: self.micro_batch,
        };
        let trained = Trained {
            network: &network,
            parameters: model.parameters(),
        };
        let parameters = bandit.problem().parameters();
        let loss = |inputs: &_| self.objective.loss(inputs, parameters);
        let result = training.descend(trained, None, |_, gradients, none| {
            let mut text = text.clone();
            if self.live {
                text.log_reference = reference(&text);
            }
            for part in (self.parts)(text, kind) {
                step.run(&part, loss, gradients, none)?;
            }
            Ok(())
        });
        result.unwrap();
        total_variation(&walk(&model, &language).unwrap(), &want.policy.unwrap())
    }
}

/// A model behind a faulty forward pass.
struct Faulty<'a> {
    model: &'a Decoder,
    forward: &'a Forward<'a>,
}

impl Network for Faulty<'_> {
    fn leaves(&self) -> usize {
        self.model.parameters().len()
    }

    fn forward(&self, tape: &Tape, sequences: &[&Sequence]) -> Result<Output> {
        (self.forward)(self.model, tape, sequences)
    }
}

/// One sequence as the faulty pipeline sees it: what is fed, and the rows that count with their
/// targets.
struct Seen {
    fed: Vec<u32>,
    counted: Vec<(usize, u32)>,
}

impl Seen {
    /// As it should be: the row before each completion token predicts it.
    fn right(s: &Sequence) -> Self {
        let (tokens, prompt) = (s.tokens(), s.prompt().len());
        Self {
            fed: tokens[..tokens.len() - 1].to_vec(),
            counted: (prompt..tokens.len()).map(|i| (i - 1, tokens[i])).collect(),
        }
    }
}

fn run(model: &Decoder, tape: &Tape, seen: Vec<Seen>) -> Result<Output> {
    let packed = Packed::new(seen.iter().map(|s| s.fed.as_slice()));
    let (mut rows, mut targets, mut starts) = (Vec::new(), Vec::new(), vec![0]);
    for (s, start) in seen.iter().zip(packed.starts.iter()) {
        rows.extend(s.counted.iter().map(|(row, _)| (start + row) as u32));
        targets.extend(s.counted.iter().map(|(_, target)| *target));
        starts.push(rows.len());
    }
    let predictions = Predictions {
        packed,
        rows: rows.into(),
        targets: targets.into(),
        starts: starts.into(),
    };
    let pieces = model.log_probs(tape, &predictions)?;
    Ok(Output {
        pieces,
        starts: predictions.starts,
        values: None,
    })
}

/// A forward pass that sees every sequence so.
fn seen_as(
    see: impl Fn(&Sequence) -> Seen,
) -> impl Fn(&Decoder, &Tape, &[&Sequence]) -> Result<Output> {
    move |model, tape, sequences| {
        let seen = sequences.iter().map(|s| see(s)).collect();
        run(model, tape, seen)
    }
}

/// The same weight for every example.
fn uniform(text: &mut TextBatch) {
    let weight = 1.0 / text.weight.len() as f64;
    text.weight.fill(weight);
}

/// EOS, and BOS.
const BOUNDARY: u32 = 3;

/// The longest response.
const LENGTH: usize = 2;

fn caught(fault: &str, pipeline: &Pipeline) {
    let distance = pipeline.distance();
    println!("{:9} {distance:.1e}  {fault}", pipeline.objective.name());
    assert!(distance > 1e-2, "not caught: {fault}: {distance:e}");
}

fn invisible(fault: &str, pipeline: &Pipeline) {
    let distance = pipeline.distance();
    println!("{:9} {distance:.1e}  {fault}", pipeline.objective.name());
    assert!(distance < 1e-3, "visible: {fault}: {distance:e}");
}

#[test]
fn without_a_fault_it_is_reached() {
    for objective in [
        Objective::Copg,
        Objective::Dpo,
        Objective::Ipo,
        Objective::PgZero,
    ] {
        let right = seen_as(Seen::right);
        let plain = Pipeline::of(objective).distance();
        let spelled = Pipeline {
            forward: &right,
            ..Pipeline::of(objective)
        };
        let spelled = spelled.distance();
        println!("{:9} {plain:.1e} {spelled:.1e}", objective.name());
        assert!(plain < 1e-5 && spelled < 1e-5, "{plain:e} {spelled:e}");
    }
}

#[test]
fn faults_of_what_is_predicted() {
    let dpo = || Pipeline::of(Objective::Dpo);
    let late = seen_as(|s| {
        let mut seen = Seen::right(s);
        seen.counted.remove(0);
        seen
    });
    caught(
        "mask shifted by one: the first token does not count",
        &Pipeline {
            forward: &late,
            ..dpo()
        },
    );
    let no_eos = seen_as(|s| {
        let mut seen = Seen::right(s);
        seen.counted.retain(|(_, target)| *target != BOUNDARY);
        seen
    });
    caught(
        "EOS masked",
        &Pipeline {
            forward: &no_eos,
            ..dpo()
        },
    );
    let cut = seen_as(|s| {
        let mut seen = Seen::right(s);
        seen.counted.pop();
        seen
    });
    caught(
        "last token dropped",
        &Pipeline {
            forward: &cut,
            ..dpo()
        },
    );
    let ended = seen_as(|s| {
        let mut tokens = s.tokens().to_vec();
        if s.completion().len() == LENGTH && tokens.last() != Some(&BOUNDARY) {
            tokens.push(BOUNDARY);
        }
        Seen::right(&Sequence::new(tokens, s.prompt().len()).unwrap())
    });
    caught(
        "EOS put after responses that were cut",
        &Pipeline {
            forward: &ended,
            ..dpo()
        },
    );
    let same = seen_as(|s| Seen {
        fed: s.tokens().to_vec(),
        counted: (s.prompt().len()..s.tokens().len())
            .map(|i| (i, s.tokens()[i]))
            .collect(),
    });
    caught(
        "targets off by one: every token predicts itself",
        &Pipeline {
            forward: &same,
            ..dpo()
        },
    );
    let prompt = seen_as(|s| Seen {
        counted: (1..s.tokens().len())
            .map(|i| (i - 1, s.tokens()[i]))
            .collect(),
        ..Seen::right(s)
    });
    caught(
        "prompt trained on",
        &Pipeline {
            forward: &prompt,
            ..Pipeline::of(Objective::PgZero)
        },
    );
}

#[test]
fn faults_of_what_is_attended() {
    let dpo = || Pipeline::of(Objective::Dpo);
    let padded = |model: &Decoder, tape: &Tape, sequences: &[&Sequence]| {
        let longest = sequences
            .iter()
            .map(|s| s.tokens().len())
            .max()
            .unwrap_or(0);
        let pad = |s: &&Sequence| {
            let padding = longest - s.tokens().len();
            let right = Seen::right(s);
            Seen {
                fed: [vec![BOUNDARY; padding], right.fed].concat(),
                counted: (right.counted.iter())
                    .map(|&(row, target)| (row + padding, target))
                    .collect(),
            }
        };
        run(model, tape, sequences.iter().map(pad).collect())
    };
    caught(
        "padding on the left attended",
        &Pipeline {
            forward: &padded,
            ..dpo()
        },
    );
    let neighbours = Borders {
        positions: as_they_are,
        attention: merged,
    };
    let neighbours = |model: &Decoder, tape: &Tape, sequences: &[&Sequence]| {
        by_hand::forward(model, tape, sequences, &neighbours)
    };
    caught(
        "neighbours in the pack attended",
        &Pipeline {
            forward: &neighbours,
            ..dpo()
        },
    );
    let running = Borders {
        positions: merged,
        attention: as_they_are,
    };
    let running = |model: &Decoder, tape: &Tape, sequences: &[&Sequence]| {
        by_hand::forward(model, tape, sequences, &running)
    };
    caught(
        "learned positions not begun anew with each sequence",
        &Pipeline {
            forward: &running,
            architecture: &|a| {
                a.positions = Positions::Learned;
                a.context = 200;
            },
            ..dpo()
        },
    );
    let doubled = seen_as(|s| {
        let tokens = [&[BOUNDARY], s.tokens()].concat();
        Seen::right(&Sequence::new(tokens, s.prompt().len() + 1).unwrap())
    });
    caught(
        "BOS doubled in training",
        &Pipeline {
            forward: &doubled,
            architecture: &|a| a.context += 1,
            ..dpo()
        },
    );
}

#[test]
fn faults_of_a_sequences_number() {
    let dpo = || Pipeline::of(Objective::Dpo);
    caught(
        "mean over tokens for the sum",
        &Pipeline {
            reduction: Reduction::Mean,
            ..dpo()
        },
    );
    let warm = |model: &Decoder, tape: &Tape, sequences: &[&Sequence]| {
        let predictions = Predictions::new(sequences);
        let hidden = model.hidden(tape, &predictions.packed)?;
        let hidden = ops::scale(tape, &hidden, 0.5)?;
        Ok(Output {
            pieces: model.log_probs_of(tape, &hidden, &predictions)?,
            starts: predictions.starts,
            values: None,
        })
    };
    caught(
        "logits at another temperature than the policy's",
        &Pipeline {
            forward: &warm,
            ..dpo()
        },
    );
    let sorted = |model: &Decoder, tape: &Tape, sequences: &[&Sequence]| {
        let mut by_length = sequences.to_vec();
        by_length.sort_by_key(|s| std::cmp::Reverse(s.tokens().len()));
        model.forward(tape, &by_length)
    };
    caught(
        "longest first, numbers not put back in order",
        &Pipeline {
            forward: &sorted,
            ..dpo()
        },
    );
}

#[test]
fn faults_of_the_batch() {
    let dpo = || Pipeline::of(Objective::Dpo);
    let copg = || Pipeline::of(Objective::Copg);
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
            ..Pipeline::of(Objective::Ipo)
        },
    );
}

/// Parts whose losses are means over their own examples, and the mean of those.
fn means(text: TextBatch, kind: InputKind) -> Vec<TextBatch> {
    let mut parts = text.split(kind, 110);
    let count = parts.len() as f64;
    for part in &mut parts {
        let total: f64 = part.weight.iter().sum();
        part.weight.iter_mut().for_each(|w| *w /= total * count);
    }
    parts
}

#[test]
fn faults_of_accumulation() {
    caught(
        "each micro-batch divided by its own weight",
        &Pipeline {
            parts: &means,
            ..Pipeline::of(Objective::Ipo)
        },
    );
    // Of the runs of a step the first give numbers; of those that give gradients, every other one
    // records nothing.
    let calls = Cell::new(0);
    let dropped = |model: &Decoder, tape: &Tape, sequences: &[&Sequence]| {
        calls.set(calls.get() + 1);
        match calls.get() % 2 {
            0 => model.forward(&Tape::idle(), sequences),
            _ => model.forward(tape, sequences),
        }
    };
    caught(
        "cotangents of every second micro-batch dropped",
        &Pipeline {
            forward: &dropped,
            micro_batch: 60,
            ..Pipeline::of(Objective::Copg)
        },
    );
}

/// What leaves the fixed point where it is. Other tests catch these: the same gradient in any
/// pieces (`micro_batches`), the prompt's tokens and the pack's other sequences (`parity`, `ops`).
#[test]
fn what_no_fixed_point_shows() {
    let prompt = seen_as(|s| Seen {
        counted: (1..s.tokens().len())
            .map(|i| (i - 1, s.tokens()[i]))
            .collect(),
        ..Seen::right(s)
    });
    invisible(
        "prompt trained on: in a pair's margin its tokens cancel",
        &Pipeline {
            forward: &prompt,
            ..Pipeline::of(Objective::Dpo)
        },
    );
    invisible(
        "weights ignored: π* fits every single pair, whatever it weighs",
        &Pipeline {
            text: &uniform,
            ..Pipeline::of(Objective::Copg)
        },
    );
    invisible(
        "each micro-batch divided by its own weight: the same",
        &Pipeline {
            parts: &means,
            ..Pipeline::of(Objective::Dpo)
        },
    );
    invisible(
        "the whole gradient divided once more: Adam sees no scale, and SGD only another rate",
        &Pipeline {
            text: &|text| text.weight.iter_mut().for_each(|w| *w /= 8.0),
            ..Pipeline::of(Objective::Ipo)
        },
    );
    let running = Borders {
        positions: merged,
        attention: as_they_are,
    };
    let running = |model: &Decoder, tape: &Tape, sequences: &[&Sequence]| {
        by_hand::forward(model, tape, sequences, &running)
    };
    invisible(
        "rotary positions not begun anew: only differences matter",
        &Pipeline {
            forward: &running,
            architecture: &|a| a.context = 200,
            ..Pipeline::of(Objective::Dpo)
        },
    );
}
