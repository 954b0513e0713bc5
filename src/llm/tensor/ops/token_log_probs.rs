//! [`super::token_log_probs`] on the CPU: the logits of a few rows at a time.

use std::ops::Range;
use std::rc::Rc;

use candle_core::Tensor;

use super::float::Float;
use super::kernel::{accumulate, below, inverse, same, tensor};
use super::matmul::{Matrix, Mode, Output, Threads, matmul};
use super::memory::{TASK, parts, parts2, repeat, rows_per_task, unwritten};
use super::simd::{add, exponentials_of, max};
use super::slice::Slice;
use crate::error::Result;
use crate::llm::tensor::tape::{Node, Tape};

/// Logits of one chunk of rows.
pub const CHUNK: usize = 1 << 22;

/// Up to so many logits are kept for the backward; beyond, it makes them again.
pub const KEPT: usize = 1 << 25;

/// Backward, with `p = softmax((h Wᵀ + b) / τ)`: `dlogits = dy (onehot − p) / τ`, `dh = dlogits W`,
/// `dW = dlogitsᵀ h`, `db = Σ dlogits`.
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
    [chunk, kept]: [usize; 2],
) -> Result<Node> {
    let (m, width) = hidden.value().dims2()?;
    let (vocabulary, inner) = head.value().dims2()?;
    same("token_log_probs", width, inner)?;
    same("token_log_probs", m, targets.len())?;
    below("token_log_probs", targets, vocabulary)?;
    let inverse = inverse("token_log_probs", temperature)?;
    if let Some(bias) = bias {
        same("token_log_probs", vocabulary, bias.value().dims1()?)?;
    }
    let mut inputs = vec![hidden, head];
    inputs.extend(bias);
    let layer = Layer {
        hidden: hidden.value().contiguous()?,
        head: head.value().contiguous()?,
        bias: bias.map(|b| b.value().contiguous()).transpose()?,
        targets: targets.clone(),
        inverse,
        width,
        vocabulary,
        each: (chunk / vocabulary.max(1)).max(1),
    };
    let keep = tape.wants(&inputs) && m * vocabulary <= kept;
    let mut log_probs = Vec::with_capacity(m);
    let (mut kept, mut last) = (Vec::new(), None);
    for rows in layer.chunks() {
        let chunk = layer.exponentials::<T>(rows, last.take())?;
        log_probs.extend(chunk.rows.chunks_exact(2).map(|row| row[1]));
        if keep {
            kept.push(chunk)
        } else {
            last = Some(chunk)
        }
    }
    drop(last);
    Ok(tape.record(tensor(log_probs, m)?, &inputs, || {
        let (hidden, head) = (hidden.target(), head.target());
        let bias = bias.map(Node::target);
        Box::new(move |gradient, sums| {
            let gradient = gradient.contiguous()?;
            let dy = Slice::<T>::new(&gradient)?;
            let (h, w) = (Slice::new(&layer.hidden)?, Slice::new(&layer.head)?);
            let w = Matrix::new(&w, vocabulary, width);
            // SAFETY: each chunk writes its rows.
            let mut dh = unsafe { unwritten::<T>(m * width) };
            let (mut kept, mut last) = (kept.into_iter(), None);
            for rows in layer.chunks() {
                let mut chunk = match kept.next() {
                    Some(chunk) => chunk,
                    None => layer.exponentials(rows.clone(), last.take())?,
                };
                layer.differentiate(rows.clone(), &mut chunk, &dy);
                let n = rows.len();
                let part = rows.start * width..rows.end * width;
                let logits = Matrix::new(&chunk.numbers, n, vocabulary);
                if hidden.wanted() {
                    let out = Output::new(&mut dh[part.clone()], n, width);
                    matmul(out, logits, w, Mode::Write, Threads::All);
                }
                let h = Matrix::new(&h[part], n, width);
                // SAFETY: the product writes every number.
                unsafe {
                    accumulate(sums, &head, |dw, mode| {
                        let out = Output::new(dw, vocabulary, width);
                        matmul(out, logits.t(), h, mode, Threads::All);
                    })?;
                    if let Some(bias) = &bias {
                        accumulate(sums, bias, |db, mode| add_rows(&chunk.numbers, db, mode))?;
                    }
                }
                last = Some(chunk);
            }
            if hidden.wanted() {
                sums.add(&hidden, tensor(dh, (m, width))?)
            } else {
                Ok(())
            }
        })
    }))
}

struct Layer {
    hidden: Tensor,
    head: Tensor,
    bias: Option<Tensor>,
    targets: Rc<[u32]>,
    /// 1/τ
    inverse: f64,
    width: usize,
    vocabulary: usize,
    /// Rows of a chunk.
    each: usize,
}

/// `exp((logit − top) / τ)` of some rows, and of each its sum and the target's log-probability.
struct Chunk<T> {
    numbers: Vec<T>,
    rows: Vec<T>,
}

impl Layer {
    fn chunks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (m, each) = (self.targets.len(), self.each);
        (0..m)
            .step_by(each)
            .map(move |from| from..m.min(from + each))
    }

    /// In the memory of `last`, if there is one.
    fn exponentials<T: Float>(
        &self,
        range: Range<usize>,
        last: Option<Chunk<T>>,
    ) -> Result<Chunk<T>> {
        let (n, vocabulary) = (range.len(), self.vocabulary);
        let mut numbers = match last {
            // Chunks are of one size; the last may be smaller.
            Some(mut last) => {
                last.numbers.truncate(n * vocabulary);
                last.numbers
            }
            // SAFETY: the product writes every number.
            None => unsafe { unwritten(n * vocabulary) },
        };
        let (h, w) = (Slice::<T>::new(&self.hidden)?, Slice::new(&self.head)?);
        let h = Matrix::new(&h[range.start * self.width..], n, self.width);
        let w = Matrix::new(&w, vocabulary, self.width);
        let mut mode = Mode::Write;
        if let Some(bias) = &self.bias {
            repeat(&Slice::new(bias)?, &mut numbers);
            mode = Mode::Add;
        }
        let logits = Output::new(&mut numbers, n, vocabulary);
        matmul(logits, h, w.t(), mode, Threads::All);
        let mut rows = vec![T::zero(); 2 * n];
        let each = rows_per_task(vocabulary);
        let (targets, inverse) = (&self.targets[range], T::of(self.inverse));
        parts2(
            [&mut numbers, &mut rows],
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
        Ok(Chunk { numbers, rows })
    }

    /// Turns exponentials into the gradient of the logits.
    fn differentiate<T: Float>(&self, range: Range<usize>, chunk: &mut Chunk<T>, dy: &[T]) {
        let vocabulary = self.vocabulary;
        let each = rows_per_task(vocabulary);
        let (dy, targets) = (&dy[range.clone()], &self.targets[range]);
        let (sums, inverse) = (&chunk.rows, T::of(self.inverse));
        parts(
            &mut chunk.numbers,
            each * vocabulary,
            #[inline(always)]
            |i, numbers| {
                for row in 0..numbers.len() / vocabulary {
                    let at = i * each + row;
                    let logits = &mut numbers[row * vocabulary..][..vocabulary];
                    let dy = dy[at] * inverse;
                    let factor = -dy / sums[2 * at];
                    for x in logits.iter_mut() {
                        *x *= factor;
                    }
                    logits[targets[at] as usize] += dy;
                }
            },
        );
    }
}

/// `sum = Σ rows`, or `sum += Σ rows`, a part of the columns at a time.
fn add_rows<T: Float>(rows: &[T], sum: &mut [T], mode: Mode) {
    let width = sum.len();
    parts(
        sum,
        TASK,
        #[inline(always)]
        |i, sum| {
            if mode == Mode::Write {
                sum.fill(T::zero());
            }
            let mut at = i * TASK;
            while at < rows.len() {
                add(sum, &rows[at..]);
                at += width;
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

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
