//! Products of a few rows with weights that were laid out for it once.
//!
//! Generation multiplies one row a sequence with every weight of a model. Here each output is the sum
//! of its products in the order of the inputs, whatever the number of rows, threads and vector lanes:
//! a row's numbers do not depend on who is in the batch.

use std::ops::Range;

use super::float::Float;
use super::matmul::{Shared, Threads};
use super::simd::vectorised;

/// Outputs of a panel.
const WIDTH: usize = 32;

/// Rows that are multiplied with a panel at once.
const ROWS: usize = 4;

/// Products beyond so many multiplications are worth a second thread.
const SHARED: usize = 1 << 17;

/// `Wᵀ` and `b` of a linear layer, or of several with one input, one below the other: `[O, I]` as
/// `[⌈O/32⌉, I, 32]`, with zeros behind the last output.
#[derive(Debug)]
pub(crate) struct Panels<T> {
    numbers: Vec<[T; WIDTH]>,
    bias: Option<Vec<[T; WIDTH]>>,
    inputs: usize,
    outputs: usize,
}

impl<T: Float> Panels<T> {
    /// Panels of layers given as weight `[O, I]`, row by row, and bias `[O]`.
    pub fn new(inputs: usize, layers: &[(&[T], Option<&[T]>)]) -> Self {
        let inputs = inputs.max(1);
        let outputs = layers.iter().map(|(w, _)| w.len() / inputs).sum::<usize>();
        let count = Self::padded(outputs) / WIDTH;
        let mut numbers = vec![[T::zero(); WIDTH]; count * inputs];
        let biased = layers.iter().any(|(_, bias)| bias.is_some());
        let mut bias = biased.then(|| vec![[T::zero(); WIDTH]; count]);
        let mut output = 0;
        for (weight, b) in layers {
            for (row, weights) in weight.chunks_exact(inputs).enumerate() {
                let (panel, lane) = (output / WIDTH, output % WIDTH);
                let panel_of = &mut numbers[panel * inputs..][..inputs];
                for (to, &w) in panel_of.iter_mut().zip(weights) {
                    to[lane] = w;
                }
                if let (Some(bias), Some(b)) = (&mut bias, b) {
                    bias[panel][lane] = b[row];
                }
                output += 1;
            }
        }
        Self {
            numbers,
            bias,
            inputs,
            outputs,
        }
    }

    /// Outputs, rounded up to whole panels.
    pub fn padded(outputs: usize) -> usize {
        outputs.next_multiple_of(WIDTH)
    }

    /// Outputs.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Distance between the rows of a product: the outputs, rounded up.
    pub fn stride(&self) -> usize {
        Self::padded(self.outputs)
    }

    /// Bytes of the weights.
    pub fn bytes(&self) -> usize {
        std::mem::size_of_val(&self.numbers[..])
    }

    /// `x Wᵀ + b`: `[N, I]` → `[N, stride]` in `out`.
    pub fn product(&self, x: &[T], out: &mut Vec<T>, threads: Threads) {
        let (rows, stride) = (x.len() / self.inputs, self.stride());
        out.resize(rows * stride, T::zero());
        let panels = stride / WIDTH;
        let most = match threads {
            Threads::One => 1,
            Threads::All => rayon::current_num_threads(),
        };
        let pieces = (rows * self.inputs * stride / SHARED).clamp(1, most);
        let out = Shared::new(out);
        let run = |panels: Range<usize>| {
            for panel in panels {
                vectorised(
                    #[inline(always)]
                    || self.panel(panel, x, rows, &out),
                );
            }
        };
        split(0..panels, pieces, &run);
    }

    /// One panel's outputs, of all rows.
    #[inline(always)]
    fn panel(&self, panel: usize, x: &[T], rows: usize, out: &Shared<T>) {
        let weights = &self.numbers[panel * self.inputs..][..self.inputs];
        let bias = match &self.bias {
            Some(bias) => bias[panel],
            None => [T::zero(); WIDTH],
        };
        // SAFETY: nobody else has this panel's columns.
        let mut out = unsafe { out.part(panel * WIDTH, [rows, WIDTH], self.stride()) };
        let mut out = out.rows();
        let mut row = 0;
        while row < rows {
            let x = &x[row * self.inputs..];
            row += match rows - row {
                1 => block::<T, 1>(x, weights, &bias, &mut out),
                2 => block::<T, 2>(x, weights, &bias, &mut out),
                3 => block::<T, 3>(x, weights, &bias, &mut out),
                _ => block::<T, ROWS>(x, weights, &bias, &mut out),
            };
        }
    }
}

/// `R` rows times a panel, into the next `R` of `out`. The sums stay in registers: no check within the loop, and no
/// reference to them, that would have them written to memory in every turn.
#[expect(
    clippy::needless_range_loop,
    clippy::manual_memcpy,
    reason = "the library's iterators are not always inlined"
)]
#[inline(always)]
fn block<'o, T: Float, const R: usize>(
    x: &[T],
    weights: &[[T; WIDTH]],
    bias: &[T; WIDTH],
    out: &mut impl Iterator<Item = &'o mut [T]>,
) -> usize {
    let n = weights.len();
    let x = &x[..R * n];
    let mut sums = [*bias; R];
    for i in 0..n {
        let w = &weights[i];
        for r in 0..R {
            // SAFETY: r < R and i < n, and `x` has R n numbers.
            let x = unsafe { *x.get_unchecked(r * n + i) };
            for lane in 0..WIDTH {
                sums[r][lane] = x.mul_add(w[lane], sums[r][lane]);
            }
        }
    }
    for r in 0..R {
        let Some(out) = out.next() else {
            return R;
        };
        let out = &mut out[..WIDTH];
        for lane in 0..WIDTH {
            out[lane] = sums[r][lane];
        }
    }
    R
}

/// Runs a range in that many pieces, on as many threads as there are.
fn split(range: Range<usize>, pieces: usize, run: &(impl Fn(Range<usize>) + Sync)) {
    if pieces <= 1 || range.len() <= 1 {
        return run(range);
    }
    let left = pieces / 2;
    let middle = range.start + range.len() * left / pieces;
    rayon::join(
        || split(range.start..middle, left, run),
        || split(middle..range.end, pieces - left, run),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: f64) -> Vec<f64> {
        (0..count).map(|i| (seed * i as f64).sin()).collect()
    }

    #[test]
    fn products_are_products_whatever_the_rows_and_threads() {
        for (inputs, outputs) in [(1, 1), (5, 33), (64, 172), (300, 512)] {
            let (first, second) = (
                numbers(inputs * outputs, 1.3),
                numbers(inputs * (outputs + 3), 0.7),
            );
            let bias = numbers(outputs, 0.4);
            let panels = Panels::new(inputs, &[(&first, Some(&bias)), (&second, None)]);
            assert_eq!(panels.outputs(), 2 * outputs + 3);
            let x = numbers(9 * inputs, 2.1);
            let (mut all, mut one) = (Vec::new(), Vec::new());
            panels.product(&x, &mut all, Threads::All);
            for (row, x) in x.chunks_exact(inputs).enumerate() {
                panels.product(x, &mut one, Threads::One);
                let all = &all[row * panels.stride()..][..panels.stride()];
                assert_eq!(all, &one[..]);
                for (o, y) in one[..panels.outputs()].iter().enumerate() {
                    let (w, start) = match o.checked_sub(outputs) {
                        None => (&first[o * inputs..][..inputs], bias[o]),
                        Some(o) => (&second[o * inputs..][..inputs], 0.0),
                    };
                    let dot: f64 = w.iter().zip(x).map(|(w, x)| w * x).sum();
                    assert!((y - start - dot).abs() < 1e-12, "{y} {dot}");
                }
            }
        }
    }
}
