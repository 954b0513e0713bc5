//! Faults that no fixed point shows, and why.

use pistar::llm::internals::tensor::tape::Tape;
use pistar::llm::model::decoder::Decoder;
use pistar::llm::model::sequence::Sequence;
use pistar::loss::Objective;

use super::batch::{means, uniform};
use super::by_hand::{self, Borders, as_they_are, merged};
use super::invisible;
use super::pipeline::{Pipeline, Seen, seen_as};

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
            ..Pipeline::of(Objective::DPO)
        },
    );
    invisible(
        "weights ignored: π* fits every single pair, whatever it weighs",
        &Pipeline {
            text: &uniform,
            ..Pipeline::of(Objective::COPG)
        },
    );
    invisible(
        "each micro-batch divided by its own weight: the same",
        &Pipeline {
            parts: &means,
            ..Pipeline::of(Objective::COPG)
        },
    );
    invisible(
        "the whole gradient divided once more: Adam sees no scale, and SGD only another rate",
        &Pipeline {
            text: &|text| text.weight.iter_mut().for_each(|w| *w /= 8.0),
            ..Pipeline::of(Objective::IPO)
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
            ..Pipeline::of(Objective::DPO)
        },
    );
}
