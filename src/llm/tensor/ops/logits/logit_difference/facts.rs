//! Facts of the squared difference to a teacher's logits.

use super::super::Teacher;
use super::super::composed::LOGITS;
use super::super::cpu::CHUNK;
use super::super::facts::{self, Compared, Comparison};
use super::{logit_difference, plain};
use crate::error::Result;
use crate::llm::tensor::ops::Bound;
use crate::llm::tensor::tape::{Node, Tape};

/// Its shapes.
pub type Call = facts::Call<LogitDifference>;

/// [`logit_difference`]
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogitDifference;

impl Comparison for LogitDifference {
    const FUNCTION: &'static str = "logit_difference";
    const CASES: [&'static str; 2] = ["logit_difference", "logit_difference with bias, in chunks"];
    const LIMITS: [usize; 2] = [CHUNK, LOGITS];
    const BOTH: bool = false;

    fn run(tape: &Tape, x: [&Node; 2], bias: Option<&Node>, teacher: &Teacher) -> Result<Node> {
        logit_difference(tape, x[0], x[1], bias, teacher)
    }

    fn twin(tape: &Tape, x: [&Node; 2], bias: Option<&Node>, teacher: &Teacher) -> Result<Node> {
        plain::logit_difference(tape, x[0], x[1], bias, teacher)
    }

    /// The difference may be rounded, and counts twice in its square; back also the factor of h.
    fn bounds(of: &Compared) -> Vec<Bound> {
        let Compared {
            rows,
            widths: [ours, theirs],
            vocabulary,
            bias,
        } = *of;
        let (new, with) = (Bound::new, 2 * usize::from(bias));
        let gradient = |sum| new(3, 4 + with, &[ours, theirs, sum], 3);
        let sums = [ours, theirs, ours, theirs, vocabulary];
        let mut list = vec![
            new(2, 4 + 2 * with, &sums, 4),
            gradient(vocabulary),
            gradient(rows),
        ];
        list.extend(bias.then(|| gradient(rows)));
        list
    }
}
