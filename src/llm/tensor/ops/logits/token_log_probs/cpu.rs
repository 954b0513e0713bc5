//! [`token_log_probs`](super::token_log_probs) on the CPU.

use std::ops::Range;
use std::rc::Rc;

use super::super::cpu::{CHUNK, KEPT, OfRows, of_rows};
use crate::error::Result;
use crate::llm::tensor::ops::float::Float;
use crate::llm::tensor::ops::kernel::{below, inverse, same};
use crate::llm::tensor::ops::memory::{parts, parts2, rows_per_task};
use crate::llm::tensor::ops::simd::{exponentials_of, max};
use crate::llm::tensor::tape::{Node, Tape};

/// Backward, with `p = softmax((h Wᵀ + b) / τ)`: `dlogits = dy (onehot − p) / τ`.
pub fn token_log_probs<T: Float>(
    tape: &Tape,
    hidden: &Node,
    head: &Node,
    bias: Option<&Node>,
    targets: &Rc<[u32]>,
    temperature: f64,
) -> Result<Node> {
    let limits = [CHUNK, KEPT];
    within::<T>(tape, [hidden, head], bias, targets, temperature, limits)
}

fn within<T: Float>(
    tape: &Tape,
    [hidden, head]: [&Node; 2],
    bias: Option<&Node>,
    targets: &Rc<[u32]>,
    temperature: f64,
    limits: [usize; 2],
) -> Result<Node> {
    const NAME: &str = "token_log_probs";
    let vocabulary = head.value().dims2()?.0;
    same(NAME, hidden.value().dims2()?.0, targets.len())?;
    below(NAME, targets, vocabulary)?;
    let of_targets = OfTargets {
        targets: targets.clone(),
        inverse: inverse(NAME, temperature)?,
        vocabulary,
    };
    of_rows::<T, _>(tape, NAME, [hidden, head], bias, of_targets, limits)
}

struct OfTargets {
    targets: Rc<[u32]>,
    /// 1/τ
    inverse: f64,
    vocabulary: usize,
}

/// What is kept are `exp((logit − top) / τ)`, and of each row their sum and the target's log-probability.
impl<T: Float> OfRows<T> for OfTargets {
    const EACH: usize = 2;

    fn forward(&self, rows: Range<usize>, logits: &mut [T], results: &mut [T]) -> Result<()> {
        let vocabulary = self.vocabulary;
        let each = rows_per_task(vocabulary);
        let (targets, inverse) = (&self.targets[rows], T::of(self.inverse));
        parts2(
            [logits, results],
            [each * vocabulary, 2 * each],
            #[inline(always)]
            |i, numbers, rows| {
                for (row, result) in rows.chunks_exact_mut(2).enumerate() {
                    let logits = &mut numbers[row * vocabulary..][..vocabulary];
                    let picked = logits[targets[i * each + row] as usize];
                    let top = max(logits, picked);
                    let sum = exponentials_of(
                        logits,
                        #[inline(always)]
                        |logit| (logit - top) * inverse,
                    );
                    // In f64: a rounding here would be one of every token's.
                    let below = (picked.wide() - top.wide()) * inverse.wide();
                    let log_prob = below - sum.wide().ln();
                    result.copy_from_slice(&[sum, T::of(log_prob)]);
                }
            },
        );
        Ok(())
    }

    fn backward(&self, rows: Range<usize>, numbers: &mut [T], results: &[T], dy: &[T]) {
        let vocabulary = self.vocabulary;
        let each = rows_per_task(vocabulary);
        let (targets, inverse) = (&self.targets[rows], T::of(self.inverse));
        parts(
            numbers,
            each * vocabulary,
            #[inline(always)]
            |i, numbers| {
                for row in 0..numbers.len() / vocabulary {
                    let at = i * each + row;
                    let logits = &mut numbers[row * vocabulary..][..vocabulary];
                    let dy = dy[at] * inverse;
                    let factor = -dy / results[2 * at];
                    for x in logits.iter_mut() {
                        *x *= factor;
                    }
                    logits[targets[at] as usize] += dy;
                }
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::llm::tensor::tape::LeafGradients;

    /// Value and gradients.
    fn results(temperature: f64, limits: [usize; 2]) -> Vec<Vec<f64>> {
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
        let targets = (0..23).map(|i| i * 3 % 7).collect();
        let inputs = [&hidden, &head];
        let output =
            within::<f64>(&tape, inputs, Some(&bias), &targets, temperature, limits).unwrap();
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
        for temperature in [1.0, 0.6] {
            let whole = results(temperature, [CHUNK, KEPT]);
            for limits in [[28, KEPT], [28, 0], [CHUNK, 0], [1, 0]] {
                for (found, wanted) in results(temperature, limits).iter().zip(&whole) {
                    assert_eq!(found.len(), wanted.len());
                    for (x, y) in found.iter().zip(wanted) {
                        assert!((x - y).abs() < 1e-14, "{limits:?}: {x} {y}");
                    }
                }
            }
        }
    }
}
