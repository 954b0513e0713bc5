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

fn within<T: Float>(
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

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::llm::tensor::tape::LeafGradients;

    /// Value and gradients.
    fn results(limits: [usize; 2]) -> Vec<Vec<f64>> {
        let numbers = |shape: (usize, usize), seed: f64| {
            let numbers = (0..shape.0 * shape.1).map(|i| (seed * i as f64).sin());
            Tensor::from_iter(numbers, &Device::Cpu)
                .and_then(|t| t.reshape(shape))
                .unwrap()
        };
        let tape = Tape::recording(3);
        let hidden = tape.leaf(0, numbers((23, 5), 1.3));
        let head = tape.leaf(1, numbers((7, 5), 0.7));
        let bias = tape.leaf(2, numbers((7, 1), 0.4).squeeze(1).unwrap());
        let teacher = Teacher {
            hidden: numbers((23, 3), 1.7),
            head: numbers((7, 3), 0.8),
            bias: Some(numbers((7, 1), 2.1).squeeze(1).unwrap()),
        };
        let output = within::<f64>(&tape, [&hidden, &head], Some(&bias), &teacher, limits).unwrap();
        let mut all = vec![output.value().clone()];
        let mut leaves = LeafGradients::new(3);
        let cotangent = numbers((23, 1), 0.9).squeeze(1).unwrap();
        tape.backward([(output, cotangent)], &mut leaves).unwrap();
        all.extend((0..3).map(|i| leaves.get(i).unwrap().clone()));
        (all.iter())
            .map(|t| t.flatten_all().unwrap().to_vec1().unwrap())
            .collect()
    }

    #[test]
    fn chunks_and_logits_made_again_change_nothing() {
        let whole = results([CHUNK, KEPT]);
        for limits in [[28, KEPT], [28, 0], [CHUNK, 0], [1, 0]] {
            for (found, wanted) in results(limits).iter().zip(&whole) {
                assert_eq!(found.len(), wanted.len());
                for (x, y) in found.iter().zip(wanted) {
                    assert!((x - y).abs() < 1e-14, "{limits:?}: {x} {y}");
                }
            }
        }
    }
}
