//! Forward mode over any backend: the independent check of every gradient, and, over [`nd`], the
//! Hessian-vector product (the gradient of the tangent).
//!
//! [`nd`]: super::nd

use std::rc::Rc;

use super::{Backend, Segments, same_length};
use crate::error::Result;

/// A value and its derivative along one direction, `f(x + εt) = value + ε·tangent`.
///
/// `detach` drops the tangent, so a detach that is missing or too many shows in the tangent;
/// finite differences cannot see it.
#[derive(Clone)]
pub struct Dual<X> {
    /// The value.
    pub value: X,
    /// The directional derivative.
    pub tangent: X,
}

impl<X: Backend> Dual<X> {
    /// A variable moving along `tangent`.
    ///
    /// # Errors
    /// If the lengths differ.
    pub fn new(value: X, tangent: X) -> Result<Self> {
        same_length("dual", value.to_vec()?.len(), tangent.to_vec()?.len())?;
        Ok(Self { value, tangent })
    }

    /// A constant: its tangent is zero.
    pub fn still(value: X) -> Result<Self> {
        let tangent = value.constant(&vec![0.0; value.to_vec()?.len()])?;
        Ok(Self { value, tangent })
    }
}

impl<X: Backend> Backend for Dual<X> {
    fn constant(&self, values: &[f64]) -> Result<Self> {
        Self::still(self.value.constant(values)?)
    }

    fn to_vec(&self) -> Result<Vec<f64>> {
        self.value.to_vec()
    }

    fn add(&self, other: &Self) -> Result<Self> {
        Ok(Self {
            value: self.value.add(&other.value)?,
            tangent: self.tangent.add(&other.tangent)?,
        })
    }

    fn sub(&self, other: &Self) -> Result<Self> {
        Ok(Self {
            value: self.value.sub(&other.value)?,
            tangent: self.tangent.sub(&other.tangent)?,
        })
    }

    fn mul(&self, other: &Self) -> Result<Self> {
        let left = self.tangent.mul(&other.value)?;
        let right = self.value.mul(&other.tangent)?;
        Ok(Self {
            value: self.value.mul(&other.value)?,
            tangent: left.add(&right)?,
        })
    }

    fn div(&self, other: &Self) -> Result<Self> {
        let value = self.value.div(&other.value)?;
        let moved = self.tangent.sub(&value.mul(&other.tangent)?)?;
        let tangent = moved.div(&other.value)?;
        Ok(Self { value, tangent })
    }

    fn max(&self, other: &Self) -> Result<Self> {
        // By the numbers, not by `step`, for which a NaN is not above anything.
        let (a, b) = (self.value.to_vec()?, other.value.to_vec()?);
        let first: Vec<f64> = (a.iter().zip(&b))
            .map(|(a, b)| f64::from(u8::from(a > b || a.is_nan())))
            .collect();
        let value = self.value.max(&other.value)?;
        let first = value.constant(&first)?;
        let left = first.mul(&self.tangent)?;
        let right = first.affine(-1.0, 1.0)?.mul(&other.tangent)?;
        Ok(Self {
            value,
            tangent: left.add(&right)?,
        })
    }

    fn affine(&self, scale: f64, shift: f64) -> Result<Self> {
        Ok(Self {
            value: self.value.affine(scale, shift)?,
            tangent: self.tangent.affine(scale, 0.0)?,
        })
    }

    fn softplus(&self) -> Result<Self> {
        Ok(Self {
            value: self.value.softplus()?,
            tangent: self.value.sigmoid()?.mul(&self.tangent)?,
        })
    }

    fn exp(&self) -> Result<Self> {
        let value = self.value.exp()?;
        let tangent = value.mul(&self.tangent)?;
        Ok(Self { value, tangent })
    }

    fn ln(&self) -> Result<Self> {
        let value = self.value.ln()?;
        let tangent = value.neg()?.exp()?.mul(&self.tangent)?;
        Ok(Self { value, tangent })
    }

    fn sqrt(&self) -> Result<Self> {
        let value = self.value.sqrt()?;
        // 1/(2√x), or 0/1 where x is 0.
        let positive = value.step()?;
        let apart = positive.affine(-1.0, 1.0)?;
        let twice = value.affine(2.0, 0.0)?.add(&apart)?;
        let tangent = positive.div(&twice)?.mul(&self.tangent)?;
        Ok(Self { value, tangent })
    }

    fn sigmoid(&self) -> Result<Self> {
        let value = self.value.sigmoid()?;
        let slope = value.mul(&value.affine(-1.0, 1.0)?)?;
        let tangent = slope.mul(&self.tangent)?;
        Ok(Self { value, tangent })
    }

    fn relu(&self) -> Result<Self> {
        Ok(Self {
            value: self.value.relu()?,
            tangent: self.value.step()?.mul(&self.tangent)?,
        })
    }

    fn step(&self) -> Result<Self> {
        Self::still(self.value.step()?)
    }

    fn detach(&self) -> Result<Self> {
        Self::still(self.value.detach()?)
    }

    fn segment_sum(&self, segments: &Rc<Segments>) -> Result<Self> {
        Ok(Self {
            value: self.value.segment_sum(segments)?,
            tangent: self.tangent.segment_sum(segments)?,
        })
    }

    fn spread(&self, segments: &Rc<Segments>) -> Result<Self> {
        Ok(Self {
            value: self.value.spread(segments)?,
            tangent: self.tangent.spread(segments)?,
        })
    }

    fn select(&self, indices: &[u32]) -> Result<Self> {
        Ok(Self {
            value: self.value.select(indices)?,
            tangent: self.tangent.select(indices)?,
        })
    }
}
