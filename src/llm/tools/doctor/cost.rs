//! Least cost of a call: products and memory traffic, counted from shapes.

use super::call::{Call, Compared, tokens};
use crate::llm::tensor::ops::{Attention, Starts};

/// Floating-point operations of matrix products (pointwise arithmetic hides behind memory), and
/// numbers read and written: each input once, each output once.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cost {
    /// Floating-point operations, a multiplication and an addition each counted.
    pub flops: f64,
    /// Numbers moved, in what is stored.
    pub numbers: f64,
}

impl Cost {
    fn new(flops: usize, numbers: usize) -> Self {
        Self {
            flops: flops as f64,
            numbers: numbers as f64,
        }
    }

    /// The costs of forward and backward.
    ///
    /// Backward reads the cotangent and the inputs it needs and writes every gradient. What an
    /// implementation does again (attention's scores, logits) is not counted: a floor is what
    /// cannot be avoided.
    pub fn of(call: &Call) -> [Self; 2] {
        let new = Self::new;
        match *call {
            Call::Linear {
                rows: n,
                inputs: i,
                outputs: o,
                bias,
            } => {
                let b = if bias { o } else { 0 };
                let all = n * i + o * i + n * o + b;
                [
                    new(2 * n * i * o, all),
                    new(4 * n * i * o, all + n * i + o * i),
                ]
            }
            Call::Embedding {
                vocabulary,
                width,
                ref ids,
            } => {
                let n = ids.len() * width;
                [new(0, 2 * n), new(0, n + vocabulary * width)]
            }
            Call::Rows {
                rows,
                width,
                ref picks,
            } => {
                let n = picks.len() * width;
                [new(0, 2 * n), new(0, n + rows * width)]
            }
            Call::RmsNorm {
                rows, runs, width, ..
            } => {
                let n = rows * runs * width;
                [new(0, 2 * n + width), new(0, 3 * n + 2 * width)]
            }
            Call::LayerNorm { rows, runs, width } => {
                let n = rows * runs * width;
                [new(0, 2 * n + 2 * width), new(0, 3 * n + 3 * width)]
            }
            Call::Rope {
                heads,
                head_dim,
                ref starts,
                ..
            } => [new(0, 2 * tokens(starts) * heads * head_dim); 2],
            Call::Attention {
                ref form,
                ref starts,
            } => {
                let (q, kv) = (form.heads * form.head_dim, form.kv_heads * form.head_dim);
                let n = tokens(starts);
                let product = 2 * q * pairs(form, starts);
                [
                    new(2 * product, n * (2 * q + 2 * kv)),
                    new(4 * product, n * (4 * q + 4 * kv)),
                ]
            }
            Call::Gated { rows, width, .. } => [new(0, 3 * rows * width), new(0, 5 * rows * width)],
            Call::Activation { rows, width, .. } => {
                [new(0, 2 * rows * width), new(0, 3 * rows * width)]
            }
            // The cotangent is handed on as it is.
            Call::Add { rows, width } => [new(0, 3 * rows * width), new(0, 0)],
            Call::Scale { rows, width, .. } => [new(0, 2 * rows * width); 2],
            Call::TokenLogProbs {
                width,
                vocabulary,
                bias,
                ref targets,
                ..
            } => {
                let (m, both) = (targets.len(), (targets.len() + vocabulary) * width);
                let both = both + if bias { vocabulary } else { 0 };
                let product = 2 * m * width * vocabulary;
                [new(product, both + m), new(2 * product, 2 * both + m)]
            }
            // The teacher's logits, too, have to be made.
            Call::CrossEntropy(of) | Call::LogitDifference(of) => {
                let Compared {
                    rows: m,
                    widths: [ours, theirs],
                    vocabulary,
                    bias,
                } = of;
                let numbers = |width| (m + vocabulary) * width + if bias { vocabulary } else { 0 };
                let product = |width| 2 * m * width * vocabulary;
                let (own, all) = (numbers(ours), numbers(ours) + numbers(theirs));
                [
                    new(product(ours) + product(theirs), all + m),
                    new(2 * product(ours), all + own + m),
                ]
            }
        }
    }

    /// The least time, in seconds, on a device of those ceilings.
    pub fn floor(&self, bytes_per_number: f64, flops: f64, bandwidth: f64) -> f64 {
        (self.flops / flops).max(self.numbers * bytes_per_number / bandwidth)
    }

    /// Cost of that many calls.
    #[must_use]
    pub fn times(self, count: usize) -> Self {
        Self {
            flops: self.flops * count as f64,
            numbers: self.numbers * count as f64,
        }
    }
}

/// Pairs of a query and a key that it sees.
fn pairs(form: &Attention, starts: &Starts) -> usize {
    let seen = |i: usize| form.window.map_or(i + 1, |w| w.min(i + 1));
    (starts.windows(2))
        .map(|w| (0..w[1] - w[0]).map(seen).sum::<usize>())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attention_sees_half_of_a_square_and_its_diagonal() {
        let form = |window| Attention {
            heads: 4,
            kv_heads: 2,
            head_dim: 8,
            scale: 1.0,
            window,
            slopes: None,
        };
        let starts = Starts::from(vec![0, 1, 11]);
        assert_eq!(pairs(&form(None), &starts), 1 + 55);
        assert_eq!(pairs(&form(Some(1)), &starts), 11);
        assert_eq!(pairs(&form(Some(3)), &starts), 1 + 1 + 2 + 8 * 3);
        let call = Call::Attention {
            form: form(None),
            starts,
        };
        // Two products of 2 · 32 operations a pair; back four of them.
        let [forward, backward] = Cost::of(&call);
        assert_eq!(forward.flops, (2 * 2 * 32 * 56) as f64);
        assert_eq!(backward.flops, 2.0 * forward.flops);
        assert_eq!(forward.numbers, (11 * (32 + 16 + 16 + 32)) as f64);
    }

    #[test]
    fn a_floor_is_the_larger_of_products_and_traffic() {
        let cost = Cost {
            flops: 6e9,
            numbers: 1e9,
        };
        assert_eq!(cost.floor(4.0, 1e9, 1e9), 6.0);
        assert_eq!(cost.floor(4.0, 6e9, 1e9), 4.0);
        assert_eq!(cost.times(2).flops, 12e9);
    }
}
