//! Error bounds of operations, from their shapes and the precision alone.
//!
//! The error of an output `y` is `‖found − y‖ / ‖y‖` with Euclidean norms over all its numbers.
//! With u the relative error of one rounding ([`Units::stored`], [`Units::summed`]):
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

/// λ in the probabilistic bound of sums.
const LAMBDA: f64 = 4.0;

/// u of a precision, the largest relative error of one rounding: 2⁻ᵖ for p bits, the hidden one among them.
#[derive(Debug, Clone, Copy)]
pub struct Units {
    /// Of what is stored.
    pub stored: f64,
    /// Of what sums are made in.
    pub summed: f64,
    /// Of each operand of a matrix product, beyond what is stored.
    pub operand: f64,
}

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
    pub(super) fn new(stored: usize, pointwise: usize, sums: &[usize], products: usize) -> Self {
        Self {
            stored: stored as f64,
            pointwise: pointwise as f64,
            sums: sums.to_vec(),
            products: products as f64,
        }
    }

    /// The most that the error may be.
    pub fn at(&self, units: Units) -> f64 {
        let sums: f64 = self.sums.iter().map(|&n| (n as f64).sqrt()).sum();
        self.stored * units.stored
            + (self.pointwise + LAMBDA * sums) * units.summed
            + 2.0 * self.products * units.operand
    }

    /// Error bound of one pass through all of these calls, roundings in different operations being independent: the
    /// root of the squares' sum.
    pub fn together(bounds: impl IntoIterator<Item = f64>) -> f64 {
        bounds.into_iter().map(|b| b * b).sum::<f64>().sqrt()
    }
}
