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

fn within<T: Float>(
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

#[cfg(test)]
mod tests {
    use candle_core::Device;

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
