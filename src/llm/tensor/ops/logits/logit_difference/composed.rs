//! [`logit_difference`](super::logit_difference) composed.

use std::ops::Range;

use candle_core::{Result as Candle, Tensor};

use super::super::Teacher;
use super::super::composed::{LOGITS, Logits, Targets, pull};
use crate::error::Result;
use crate::llm::tensor::ops::composed::{augmented, columns, product, wide};

use crate::llm::tensor::ops::kernel::same;
use crate::llm::tensor::tape::{Node, Tape};

/// Backward: `dlogits = 2 dy (z − z′)`. What is kept: h, W, b, and the teacher's.
///
/// The result is f32 (f64 in f64). The difference is one product, `[h, −h′] [W, W′]ᵀ` with columns for the biases, which
/// is rounded once: not z and z′, which may be alike and large.
pub fn logit_difference(
    tape: &Tape,
    hidden: &Node,
    head: &Node,
    bias: Option<&Node>,
    teacher: &Teacher,
) -> Result<Node> {
    logit_difference_within(tape, hidden, head, bias, teacher, LOGITS)
}

/// [`logit_difference`] on at most so many logits at once.
pub fn logit_difference_within(
    tape: &Tape,
    hidden: &Node,
    head: &Node,
    bias: Option<&Node>,
    teacher: &Teacher,
    most: usize,
) -> Result<Node> {
    const NAME: &str = "logit_difference";
    let values = [hidden.value(), head.value()];
    teacher.check(NAME, values)?;
    let m = hidden.value().dims2()?.0;
    // It is the difference's, not the logits'.
    if let Some(bias) = bias {
        same(NAME, head.value().dims2()?.0, bias.value().dims1()?)?;
    }
    let mut inputs = vec![hidden, head];
    inputs.extend(bias);
    // Without its bias, which is in the difference's.
    let logits = Logits::new(NAME, values, None, most)?;
    let difference = Difference::new(&logits, bias.map(Node::value), teacher)?;
    let each = (logits.parts())
        .map(|part| {
            wide(&difference.part(&logits, part)?)?
                .sqr()?
                .sum_keepdim(1)
        })
        .collect::<Candle<Vec<_>>>()?;
    let out = Tensor::cat(&each, 1)?.sum(1)?;
    let statistics = out.dtype();
    Ok(tape.record(out, &inputs, || {
        let to = Targets::new([hidden, head], bias);
        Box::new(move |gradient, sums| {
            let twice_dy = (gradient.reshape((m, 1))?.to_dtype(statistics)? * 2.0)?;
            pull(&logits, to, &twice_dy, sums, |part| {
                difference.part(&logits, part)
            })
        })
    }))
}

/// What the difference of logits is made of.
struct Difference {
    /// `[h, −h′]`, and ones for the columns of `b − b′`.
    hidden: Tensor,
    /// W′
    head: Tensor,
    columns: Vec<Tensor>,
}

impl Difference {
    fn new(logits: &Logits, bias: Option<&Tensor>, teacher: &Teacher) -> Candle<Self> {
        let bias = match (bias, &teacher.bias) {
            (None, None) => None,
            (Some(bias), None) => Some(wide(bias)?),
            (None, Some(theirs)) => Some(wide(theirs)?.neg()?),
            (Some(bias), Some(theirs)) => Some((wide(bias)? - wide(theirs)?)?),
        };
        let columns = match bias {
            Some(bias) => columns(&bias.contiguous()?.unsqueeze(1)?, logits.dtype())?,
            None => Vec::new(),
        };
        let hidden = &logits.hidden;
        let mut beside = vec![teacher.hidden.neg()?];
        if !columns.is_empty() {
            let ones = (hidden.dim(0)?, columns.len());
            beside.push(Tensor::ones(ones, hidden.dtype(), hidden.device())?);
        }
        Ok(Self {
            hidden: augmented(hidden, &beside)?,
            head: teacher.head.contiguous()?,
            columns,
        })
    }

    /// z − z′ of a part.
    fn part(&self, logits: &Logits, part: Range<usize>) -> Candle<Tensor> {
        let rows = |x: &Tensor| x.narrow(0, part.start, part.len());
        let beside = [&self.head].into_iter().chain(&self.columns).map(rows);
        let w = augmented(&rows(&logits.head)?, &beside.collect::<Candle<Vec<_>>>()?)?;
        product(&self.hidden, &w.t()?)
    }
}
