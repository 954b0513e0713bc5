//! Error bounds of operations, from their shapes and the precision alone.
//!
//! The error of an output `y` is `‖found − y‖ / ‖y‖` with Euclidean norms over all its numbers.
//! With u the relative error of one rounding ([`Precision::stored`], [`Precision::summed`]):
//!
//! ```text
//! bound = r · u_stored + (p + 4 Σ √n) · u_summed + 2 m · u_operand
//! ```
//!
//! - `r` counts roundings to what is stored. In bf16 an operation reads and writes bf16, may round
//!   operands and results of products inside it to bf16 (as tensor cores take and give them), and
//!   does all else in f32, sums above all; r counts the output and those.
//! - `p` counts, as an upper limit, roundings of the pointwise arithmetic on the way: 1 each for
//!   `+ − × ÷ √`, 4 each for exp, ln, erf and tanh, which libraries give within 2 ulp = 4 u.
//! - A sum of `n` numbers of either sign has an error of about `√n u` relative to the root of its
//!   terms' squares, which is its own size when the terms are independent, as they are here (the
//!   inputs are random). Rounding errors being independent, `4 √n u` is exceeded with probability
//!   below 10⁻⁴ in one number (Higham and Mary 2019, with λ = 4) and, practically, never in a norm.
//! - TF32 rounds both operands of each of the `m` products on the way.
//!
//! Roundings add up as if each were as large as it can be and all of one sign, so that typical
//! errors are a third of the bound or less; a wrong term, a lost digit or TF32 where f32 was asked
//! for are far beyond it.

use super::call::{Call, Compared};
use super::precision::Precision;

/// λ in the probabilistic bound of sums.
const LAMBDA: f64 = 4.0;

/// Error bound of an output.
#[derive(Debug, Clone, PartialEq)]
pub struct Bound {
    /// r
    pub stored: f64,
    /// p
    pub pointwise: f64,
    /// n of each sum on the way.
    pub sums: Vec<usize>,
    /// m
    pub products: f64,
}

impl Bound {
    fn new(stored: usize, pointwise: usize, sums: &[usize], products: usize) -> Self {
        Self {
            stored: stored as f64,
            pointwise: pointwise as f64,
            sums: sums.to_vec(),
            products: products as f64,
        }
    }

    /// The most that the error may be.
    pub fn at(&self, precision: Precision) -> f64 {
        let sums: f64 = self.sums.iter().map(|&n| (n as f64).sqrt()).sum();
        self.stored * precision.stored()
            + (self.pointwise + LAMBDA * sums) * precision.summed()
            + 2.0 * self.products * precision.operand()
    }

    /// Bounds of the value and of each gradient.
    ///
    /// Of attention and log-probabilities the exponentials' exponents are of the order of 1, so
    /// that an absolute error of an exponent is a relative one of its exponential; scores that are
    /// rounded to what is stored count twice, since under their own softmax the mean square of
    /// unit-normal scores is 2.
    pub fn of(call: &Call) -> Vec<Self> {
        let new = Self::new;
        match *call {
            Call::Linear {
                rows,
                inputs,
                outputs,
                bias,
            } => {
                // With a bias the product may be rounded before it is added.
                let mut list = vec![
                    new(1 + usize::from(bias), 1, &[inputs], 1),
                    new(1, 0, &[outputs], 1),
                    new(1, 0, &[rows], 1),
                ];
                list.extend(bias.then(|| new(1, 0, &[rows], 0)));
                list
            }
            // Copies are exact; the gradient of a row is the sum over its copies.
            Call::Embedding { ref ids, .. } => vec![new(0, 0, &[], 0), copies(ids)],
            Call::Rows { ref picks, .. } => vec![new(0, 0, &[], 0), copies(picks)],
            Call::RmsNorm {
                rows, runs, width, ..
            } => vec![
                new(1, 8, &[width], 0),
                new(1, 16, &[width, width], 0),
                new(1, 8, &[width, rows * runs], 0),
            ],
            Call::LayerNorm { rows, runs, width } => vec![
                new(1, 10, &[width, width], 0),
                new(1, 20, &[width, width, width], 0),
                new(1, 10, &[width, width, rows * runs], 0),
                new(1, 0, &[rows * runs], 0),
            ],
            Call::Rope { .. } => vec![new(1, 3, &[], 0), new(1, 3, &[], 0)],
            Call::Attention {
                ref form,
                ref starts,
            } => {
                let longest = (starts.windows(2).map(|w| w[1] - w[0])).max().unwrap_or(0);
                let seen = form.window.map_or(longest, |w| w.min(longest));
                let shared = seen * form.heads / form.kv_heads.max(1);
                let d = form.head_dim;
                // Of scores that fall with distance, the sum may pass through the fall from the middle, and be
                // rounded before and after.
                let slopes = form.slopes.iter().flat_map(|slopes| slopes.iter());
                let steepest = slopes.fold(0.0, |most: f64, slope| most.max(slope.abs()));
                let fall = (steepest * longest as f64).ceil() as usize;
                // Scores (2), probabilities, output; back also dP, dS and the output's own
                // rounding in Σ dO ∘ O.
                vec![
                    new(4, 10 + fall, &[d, seen, seen], 3),
                    new(7, 20 + fall, &[d, seen, d, seen], 5),
                    new(7, 20 + fall, &[d, seen, d, shared], 5),
                    new(4, 10 + fall, &[d, seen, shared], 3),
                ]
            }
            // What is multiplied by, f(gate) or f′(gate), may be rounded first, as may be dy · up.
            Call::Gated { .. } => vec![new(2, 12, &[], 0), new(3, 24, &[], 0), new(2, 12, &[], 0)],
            Call::Activation { .. } => vec![new(1, 12, &[], 0), new(2, 24, &[], 0)],
            Call::Add { .. } => vec![new(1, 0, &[], 0), new(0, 0, &[], 0), new(0, 0, &[], 0)],
            // The factor is rounded too.
            Call::Scale { .. } => vec![new(2, 0, &[], 0), new(2, 0, &[], 0)],
            // Log-probabilities are in f32 at least; logits may be rounded to what is stored, and
            // count twice in their softmax.
            Call::TokenLogProbs {
                width,
                vocabulary,
                bias,
                ref targets,
                temperature,
            } => {
                // A sum or a product more.
                let with = usize::from(bias) + usize::from(temperature != 1.0);
                let rows = new(4, 16 + with, &[width, vocabulary, targets.len()], 3);
                let mut list = vec![
                    new(1, 12 + with, &[width, vocabulary], 1),
                    new(4, 16 + with, &[width, vocabulary, vocabulary], 3),
                    rows.clone(),
                ];
                list.extend(bias.then_some(rows));
                list
            }
            // As of log-probabilities; the teacher's logits may be rounded too, and count twice in their softmax, and
            // both's probabilities before their difference is.
            Call::CrossEntropy(Compared {
                rows,
                widths: [ours, theirs],
                vocabulary,
                bias,
            }) => {
                let with = 2 * usize::from(bias);
                let gradient = |sum| new(5, 30 + with, &[ours, theirs, vocabulary, sum], 3);
                let mut list = vec![
                    new(3, 24 + with, &[ours, theirs, vocabulary, vocabulary], 2),
                    gradient(vocabulary),
                    gradient(rows),
                ];
                list.extend(bias.then(|| gradient(rows)));
                list
            }
            // The difference may be rounded, and counts twice in its square; back also the factor of h.
            Call::LogitDifference(Compared {
                rows,
                widths: [ours, theirs],
                vocabulary,
                bias,
            }) => {
                let with = 2 * usize::from(bias);
                let gradient = |sum| new(3, 4 + with, &[ours, theirs, sum], 3);
                let mut list = vec![
                    new(
                        2,
                        4 + 2 * with,
                        &[ours, theirs, ours, theirs, vocabulary],
                        4,
                    ),
                    gradient(vocabulary),
                    gradient(rows),
                ];
                list.extend(bias.then(|| gradient(rows)));
                list
            }
        }
    }

    /// Error bound of one pass through all of these calls, roundings in different operations being independent: the
    /// root of the squares' sum.
    pub fn together(bounds: impl IntoIterator<Item = f64>) -> f64 {
        bounds.into_iter().map(|b| b * b).sum::<f64>().sqrt()
    }
}

/// The gradient of a table of which some rows were copied.
fn copies(ids: &[u32]) -> Bound {
    let mut sorted = ids.to_vec();
    sorted.sort_unstable();
    let most = sorted.chunk_by(|a, b| a == b).map(<[u32]>::len).max();
    Bound::new(1, 0, &[most.unwrap_or(0)], 0)
}
