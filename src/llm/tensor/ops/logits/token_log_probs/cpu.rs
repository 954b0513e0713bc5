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

/// On so many logits at a time, with up to so many kept.
pub fn within<T: Float>(
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
