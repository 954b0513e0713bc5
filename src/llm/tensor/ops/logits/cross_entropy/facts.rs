//! Facts of cross-entropy to a teacher.

use super::super::Teacher;
use super::super::composed::LOGITS;
use super::super::cpu::CHUNK;
use super::super::facts::{self, Compared, Comparison};
use super::{cross_entropy, plain};
use crate::error::Result;
use crate::llm::tensor::ops::Bound;
use crate::llm::tensor::tape::{Node, Tape};

/// Its shapes.
pub type Call = facts::Call<CrossEntropy>;

/// [`cross_entropy`]
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CrossEntropy;

impl Comparison for CrossEntropy {
    const FUNCTION: &'static str = "cross_entropy";
    const CASES: [&'static str; 2] = ["cross_entropy", "cross_entropy with bias, in chunks"];
    const LIMITS: [usize; 2] = [CHUNK / 2, LOGITS / 2];
    const BOTH: bool = true;

    fn run(tape: &Tape, x: [&Node; 2], bias: Option<&Node>, teacher: &Teacher) -> Result<Node> {
        cross_entropy(tape, x[0], x[1], bias, teacher)
    }

    fn twin(tape: &Tape, x: [&Node; 2], bias: Option<&Node>, teacher: &Teacher) -> Result<Node> {
        plain::cross_entropy(tape, x[0], x[1], bias, teacher)
    }

    /// As of log-probabilities; the teacher's logits may be rounded too, and count twice in their softmax, and both's
    /// probabilities before their difference is.
    fn bounds(of: &Compared) -> Vec<Bound> {
        let Compared {
            rows,
            widths: [ours, theirs],
            vocabulary,
            bias,
        } = *of;
        let (new, with) = (Bound::new, 2 * usize::from(bias));
        let gradient = |sum| new(5, 30 + with, &[ours, theirs, vocabulary, sum], 3);
        let mut list = vec![
            new(3, 24 + with, &[ours, theirs, vocabulary, vocabulary], 2),
            gradient(vocabulary),
            gradient(rows),
        ];
        list.extend(bias.then(|| gradient(rows)));
        list
    }
}
