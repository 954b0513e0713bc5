//! [`logit_difference`](super::logit_difference) on the CPU.

use std::ops::Range;

use candle_core::Tensor;

use super::super::Teacher;
use super::super::cpu::{CHUNK, KEPT, Logits, OfRows, of_rows, scale_rows};
use crate::error::Result;
use crate::llm::tensor::ops::float::Float;
use crate::llm::tensor::ops::matmul::Mode;
use crate::llm::tensor::ops::memory::{parts2, rows_per_task};
use crate::llm::tensor::ops::simd::sum;
use crate::llm::tensor::ops::slice::Slice;
use crate::llm::tensor::tape::{Node, Tape};

/// Backward: `dlogits = 2 dy (z − z′)`.
pub fn logit_difference<T: Float>(
    tape: &Tape,
    hidden: &Node,
    head: &Node,
    bias: Option<&Node>,
    teacher: &Teacher,
) -> Result<Node> {
    within::<T>(tape, [hidden, head], bias, teacher, [CHUNK, KEPT])
}

/// On so many logits at a time, with up to so many kept.
pub fn within<T: Float>(
    tape: &Tape,
    [hidden, head]: [&Node; 2],
    bias: Option<&Node>,
    teacher: &Teacher,
    limits: [usize; 2],
) -> Result<Node> {
    const NAME: &str = "logit_difference";
    teacher.check(NAME, [hidden.value(), head.value()])?;
    let minus = teacher.hidden.neg()?;
    let from = From {
        minus: Logits::new(NAME, [&minus, &teacher.head], None)?,
        bias: teacher.bias.as_ref().map(Tensor::contiguous).transpose()?,
    };
    of_rows::<T, _>(tape, NAME, [hidden, head], bias, from, limits)
}

/// The squared distance from other logits. What is kept is the difference.
struct From {
    /// Those logits without their bias, negated.
    minus: Logits,
    bias: Option<Tensor>,
}

impl<T: Float> OfRows<T> for From {
    const EACH: usize = 1;

    fn forward(&self, rows: Range<usize>, logits: &mut [T], results: &mut [T]) -> Result<()> {
        // In the memory of the student's.
        self.minus.product(rows, logits, Mode::Add)?;
        let vocabulary = self.minus.vocabulary();
        let each = rows_per_task(vocabulary);
        let bias = self.bias.as_ref().map(Slice::<T>::new).transpose()?;
        let bias = bias.as_deref();
        parts2(
            [logits, results],
            [each * vocabulary, each],
            #[inline(always)]
            |_, logits, results| {
                for (row, result) in results.iter_mut().enumerate() {
                    let logits = &mut logits[row * vocabulary..][..vocabulary];
                    if let Some(bias) = bias {
                        for (logit, bias) in logits.iter_mut().zip(bias) {
                            *logit -= *bias;
                        }
                    }
                    *result = sum(
                        logits,
                        logits,
                        #[inline(always)]
                        |x, y| x * y,
                    );
                }
            },
        );
        Ok(())
    }

    fn backward(&self, _: Range<usize>, numbers: &mut [T], _: &[T], dy: &[T]) {
        let by = T::of(2.0);
        scale_rows(numbers, self.minus.vocabulary(), dy, by);
    }
}
