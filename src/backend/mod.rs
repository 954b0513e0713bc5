//! What a loss may ask of an array.
//!
//! A loss is written once against [`Backend`] and runs on [`nd`] (ndarray, f64, reverse mode) and
//! on `candle` (f32 and f64, CPU and CUDA). [`dual`] wraps a backend with forward-mode
//! derivatives, [`mutant`] with deliberate faults. Every array is a flat vector: ragged structure
//! (lists, groups, pools) is carried by [`Segments`].

#[cfg(feature = "llm")]
pub mod candle;
pub mod dual;
pub mod mutant;
pub mod nd;

use std::rc::Rc;

use crate::error::{Error, Result};

/// A differentiable flat array of numbers.
///
/// Elementwise operations take arrays of equal length and fail with [`Error::Shape`] otherwise.
/// The slopes at kinks are part of the contract, so that every backend has the same gradient at
/// ties: `relu` has slope 0 at 0, `softplus` slope ½.
pub trait Backend: Clone + Sized {
    /// A constant (no gradient) on the same device, of the same precision.
    fn constant(&self, values: &[f64]) -> Result<Self>;
    /// The numbers, on the host.
    fn to_vec(&self) -> Result<Vec<f64>>;
    /// `self + other`
    fn add(&self, other: &Self) -> Result<Self>;
    /// `self − other`
    fn sub(&self, other: &Self) -> Result<Self>;
    /// `self · other`
    fn mul(&self, other: &Self) -> Result<Self>;
    /// `scale · self + shift`
    fn affine(&self, scale: f64, shift: f64) -> Result<Self>;
    /// `ln(1 + eˣ)`, finite for every finite x.
    fn softplus(&self) -> Result<Self>;
    /// `eˣ`
    fn exp(&self) -> Result<Self>;
    /// `ln x`
    fn ln(&self) -> Result<Self>;
    /// `1 / (1 + e⁻ˣ)`
    fn sigmoid(&self) -> Result<Self>;
    /// `max(x, 0)`
    fn relu(&self) -> Result<Self>;
    /// `1` where `x > 0`, else `0`; no gradient.
    fn step(&self) -> Result<Self>;
    /// The same numbers without a gradient.
    fn detach(&self) -> Result<Self>;
    /// The sum of each segment: `[N] → [G]`.
    fn segment_sum(&self, segments: &Rc<Segments>) -> Result<Self>;
    /// Each segment's number at each of its members: `[G] → [N]`, the adjoint of `segment_sum`.
    fn spread(&self, segments: &Rc<Segments>) -> Result<Self>;

    /// `−x`
    fn neg(&self) -> Result<Self> {
        self.affine(-1.0, 0.0)
    }
    /// `x²`
    fn square(&self) -> Result<Self> {
        self.mul(self)
    }
    /// `x − ln Σ eˣ` over each segment, finite for every finite x.
    fn log_softmax(&self, segments: &Rc<Segments>) -> Result<Self> {
        let x = self.to_vec()?;
        same_length("log_softmax", x.len(), segments.members())?;
        let top: Vec<f64> = (0..segments.groups())
            .map(|g| {
                x[segments.range(g)]
                    .iter()
                    .copied()
                    .fold(f64::NEG_INFINITY, f64::max)
            })
            .collect();
        // The largest member cancels, so it may be taken for a constant.
        let top: Vec<f64> = segments.owner().iter().map(|&g| top[g as usize]).collect();
        let x = self.sub(&self.constant(&top)?)?;
        let normaliser = x.exp()?.segment_sum(segments)?.ln()?;
        x.sub(&normaliser.spread(segments)?)
    }
}

/// A partition of `0..len` into consecutive, non-empty groups of any size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segments {
    starts: Vec<usize>,
    owner: Vec<u32>,
}

impl Segments {
    /// Groups of the given sizes, in order.
    ///
    /// # Errors
    /// If a size is zero.
    pub fn new(sizes: &[usize]) -> Result<Self> {
        let mut starts = vec![0];
        let mut owner = Vec::new();
        for (g, &size) in sizes.iter().enumerate() {
            if size == 0 {
                return Err(Error::invalid(
                    format!("group {g}"),
                    "it is empty",
                    "every group needs at least one response",
                ));
            }
            owner.resize(owner.len() + size, g as u32);
            starts.push(owner.len());
        }
        Ok(Self { starts, owner })
    }

    /// Number of members in all groups.
    pub fn members(&self) -> usize {
        self.owner.len()
    }

    /// Number of groups.
    pub fn groups(&self) -> usize {
        self.starts.len() - 1
    }

    /// Size of group `g`.
    pub fn size(&self, g: usize) -> usize {
        self.starts[g + 1] - self.starts[g]
    }

    /// The members of group `g`.
    pub fn range(&self, g: usize) -> std::ops::Range<usize> {
        self.starts[g]..self.starts[g + 1]
    }

    /// The group of each member.
    pub fn owner(&self) -> &[u32] {
        &self.owner
    }
}

pub(crate) fn same_length(operation: &'static str, left: usize, right: usize) -> Result<()> {
    if left == right {
        Ok(())
    } else {
        Err(Error::Shape {
            operation,
            left,
            right,
        })
    }
}
