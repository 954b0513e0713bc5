//! Faults between a sequence and its number.

use pistar::llm::internals::tensor::ops;
use pistar::llm::internals::tensor::tape::Tape;
use pistar::llm::model::architecture::Positions;
use pistar::llm::model::decoder::Decoder;
use pistar::llm::model::network::{Network, Output, Reduction};
use pistar::llm::model::sequence::{Predictions, Sequence};
use pistar::loss::Objective;

use super::by_hand::{self, Borders, as_they_are, merged};
use super::caught;
use super::pipeline::{Pipeline, Seen, forward, run, seen_as};

/// EOS, and BOS.
const BOUNDARY: u32 = 3;

/// The longest response.
const LENGTH: usize = 2;

#[test]
fn faults_of_what_is_predicted() {
    let dpo = || Pipeline::of(Objective::DPO);
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
            ..Pipeline::of(Objective::PG_ZERO)
        },
    );
}

#[test]
fn faults_of_what_is_attended() {
    let dpo = || Pipeline::of(Objective::DPO);
    let padded = forward(|model, tape, sequences| {
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
    });
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
    let dpo = || Pipeline::of(Objective::DPO);
    caught(
        "mean over tokens for the sum",
        &Pipeline {
            reduction: Reduction::Mean,
            ..dpo()
        },
    );
    let warm = forward(|model, tape, sequences| {
        let predictions = Predictions::new(sequences);
        let hidden = model.hidden(tape, &predictions.packed)?;
        let hidden = ops::scale(tape, &hidden, 0.5)?;
        Ok(Output {
            pieces: model.log_probs_of(tape, &hidden, &predictions)?,
            starts: predictions.starts,
            values: None,
        })
    });
    caught(
        "logits at another temperature than the policy's",
        &Pipeline {
            forward: &warm,
            ..dpo()
        },
    );
    let sorted = forward(|model, tape, sequences| {
        let mut by_length = sequences.to_vec();
        by_length.sort_by_key(|s| std::cmp::Reverse(s.tokens().len()));
        model.forward(tape, &by_length)
    });
    caught(
        "longest first, numbers not put back in order",
        &Pipeline {
            forward: &sorted,
            ..dpo()
        },
    );
}
