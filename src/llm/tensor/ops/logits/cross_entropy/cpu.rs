//! [`cross_entropy`](super::cross_entropy) on the CPU.

use std::ops::Range;

use super::super::Teacher;
use super::super::cpu::{CHUNK, KEPT, Logits, OfRows, of_rows, scale_rows};
use crate::error::Result;
use crate::llm::tensor::ops::float::Float;
use crate::llm::tensor::ops::memory::{parts2, rows_per_task, unwritten};
use crate::llm::tensor::ops::simd::{exponentials_of, max, sum};
use crate::llm::tensor::tape::{Node, Tape};

/// Backward, with `p = softmax(h Wᵀ + b)` and `q` the teacher's: `dlogits = dy (p − q)`.
pub fn cross_entropy<T: Float>(
    tape: &Tape,
    hidden: &Node,
    head: &Node,
    bias: Option<&Node>,
    teacher: &Teacher,
) -> Result<Node> {
    // The teacher's are beside the student's.
    let limits = [CHUNK / 2, KEPT];
    within::<T>(tape, [hidden, head], bias, teacher, limits)
}

/// On so many logits at a time, with up to so many kept.
pub fn within<T: Float>(
    tape: &Tape,
    [hidden, head]: [&Node; 2],
    bias: Option<&Node>,
    teacher: &Teacher,
    limits: [usize; 2],
) -> Result<Node> {
    const NAME: &str = "cross_entropy";
    teacher.check(NAME, [hidden.value(), head.value()])?;
    let theirs = [&teacher.hidden, &teacher.head];
    let under = Under(Logits::new(NAME, theirs, teacher.bias.as_ref())?);
    of_rows::<T, _>(tape, NAME, [hidden, head], bias, under, limits)
}

/// The expectation of −ln p under the softmax of these logits. What is kept is `p − q`.
struct Under(Logits);

impl<T: Float> OfRows<T> for Under {
    const EACH: usize = 1;

    fn forward(&self, rows: Range<usize>, logits: &mut [T], results: &mut [T]) -> Result<()> {
        let vocabulary = self.0.vocabulary();
        let each = rows_per_task(vocabulary);
        // SAFETY: every number is written.
        let mut weights = unsafe { unwritten::<T>(logits.len()) };
        self.0.write(rows, &mut weights)?;
        let mut sums = vec![T::zero(); results.len()];
        parts2(
            [&mut weights, &mut sums],
            [each * vocabulary, each],
            #[inline(always)]
            |_, weights, sums| {
                for (row, sum) in sums.iter_mut().enumerate() {
                    let weights = &mut weights[row * vocabulary..][..vocabulary];
                    let top = max(weights, weights[0]);
                    *sum = exponentials_of(
                        weights,
                        #[inline(always)]
                        |logit| logit - top,
                    );
                }
            },
        );
        parts2(
            [logits, results],
            [each * vocabulary, each],
            #[inline(always)]
            |i, logits, results| {
                for (row, result) in results.iter_mut().enumerate() {
                    let at = i * each + row;
                    let logits = &mut logits[row * vocabulary..][..vocabulary];
                    let weights = &weights[at * vocabulary..][..vocabulary];
                    let top = max(logits, logits[0]);
                    // No term is negative.
                    let below: T = sum(
                        weights,
                        logits,
                        #[inline(always)]
                        |weight, logit| weight * (top - logit),
                    );
                    let total = exponentials_of(
                        logits,
                        #[inline(always)]
                        |logit| logit - top,
                    );
                    *result = T::of(below.wide() / sums[at].wide() + total.wide().ln());
                    let [of_p, of_q] = [total, sums[at]].map(|sum| T::one() / sum);
                    for (p, q) in logits.iter_mut().zip(weights) {
                        *p = *p * of_p - *q * of_q;
                    }
                }
            },
        );
        Ok(())
    }

    fn backward(&self, _: Range<usize>, numbers: &mut [T], _: &[T], dy: &[T]) {
        let vocabulary = self.0.vocabulary();
        scale_rows(numbers, vocabulary, dy, T::one());
    }
}
