//! Operations on arrays that a loss is written in: the trait, and its implementations.
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
/// ties: `relu` and `abs` have slope 0 at 0, `softplus` slope ½, `sqrt` slope 0 at 0; of `max` and
/// `min` the second argument has the slope where both are equal; `clamp` has slope 0 at its ends.
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
    /// `self / other`
    fn div(&self, other: &Self) -> Result<Self>;
    /// The larger of the two, exactly, also where one is infinite; NaN where either is. Where they
    /// are equal the slope is `other`'s.
    fn max(&self, other: &Self) -> Result<Self>;
    /// `scale · self + shift`
    fn affine(&self, scale: f64, shift: f64) -> Result<Self>;
    /// `ln(1 + eˣ)`, finite for every finite x.
    fn softplus(&self) -> Result<Self>;
    /// `eˣ`
    fn exp(&self) -> Result<Self>;
    /// `ln x`
    fn ln(&self) -> Result<Self>;
    /// `√x`, with slope 0 at 0, where a norm has its tip.
    fn sqrt(&self) -> Result<Self>;
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

    /// The numbers at these places, `[N] → [M]`: any of them, in any order, as often as they are named.
    ///
    /// # Errors
    /// A place that there is none of.
    fn select(&self, indices: &[u32]) -> Result<Self>;

    /// `−x`
    fn neg(&self) -> Result<Self> {
        self.affine(-1.0, 0.0)
    }
    /// `x²`
    fn square(&self) -> Result<Self> {
        self.mul(self)
    }
    /// `|x|`, with slope 0 at 0.
    fn abs(&self) -> Result<Self> {
        self.relu()?.add(&self.neg()?.relu()?)
    }
    /// The smaller of the two, exactly. Where they are equal the slope is `other`'s.
    fn min(&self, other: &Self) -> Result<Self> {
        self.neg()?.max(&other.neg()?)?.neg()
    }
    /// x between two bounds, with slope 0 at both and beyond.
    ///
    /// # Errors
    /// Bounds that are not in order.
    fn clamp(&self, low: f64, high: f64) -> Result<Self> {
        let ordered = low <= high;
        if !ordered {
            return Err(Error::invalid(
                "clamp",
                format!("its bounds are {low} and {high}"),
                "give the lower one first",
            ));
        }
        let bound = |at: f64| self.constant(&vec![at; self.to_vec()?.len()]);
        self.max(&bound(low)?)?.min(&bound(high)?)
    }
    /// `ln(1 − eˣ)` for x < 0, to rounding of its argument near 0 and far below it; −∞ at 0 and NaN
    /// above.
    fn ln_1m_exp(&self) -> Result<Self> {
        // Below the cut 1 − eˣ does not cancel; above it `−x · Σ xᵏ/(k + 1)!` is as exact. Each part
        // is constant, f(cut), on the other's side, so that their sum is f(x) + f(cut). At the cut
        // itself the lower part has the slope.
        const CUT: f64 = -0.1;
        let cut = self.constant(&vec![CUT; self.to_vec()?.len()])?;
        let near = self.max(&cut)?;
        let mut series = near.affine(1.0 / 11.0, 1.0)?;
        for k in (2..=10).rev() {
            series = near.mul(&series)?.affine(1.0 / f64::from(k), 1.0)?;
        }
        let near = near.neg()?.mul(&series)?.ln()?;
        let far = cut.min(self)?.exp()?.affine(-1.0, 1.0)?.ln()?;
        near.add(&far)?.affine(1.0, -(-CUT.exp_m1()).ln())
    }
    /// The mean of all its numbers, at each of them.
    ///
    /// # Errors
    /// An empty array.
    fn mean(&self) -> Result<Self> {
        let n = self.to_vec()?.len();
        let whole = Rc::new(Segments::new(&[n])?);
        let sum = self.segment_sum(&whole)?;
        sum.affine(1.0 / n as f64, 0.0)?.spread(&whole)
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

/// Refuses a place beyond an array's numbers.
fn within(indices: &[u32], len: usize) -> Result<()> {
    match indices.iter().find(|&&i| i as usize >= len) {
        None => Ok(()),
        Some(beyond) => Err(Error::invalid(
            "select",
            format!("it asks for number {beyond} of {len}"),
            "count from 0",
        )),
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
