//! Arithmetic on vectors of parameters.

use crate::error::{Error, Result};

/// A vector of parameters, or of their gradients: numbers in a fixed order, wherever they lie.
///
/// Operands have the shape of `self`. Results are those of f64 arithmetic as far as the storage has it.
pub trait Vectors: Sized {
    /// A vector of zeros of the same shape and place.
    ///
    /// # Errors
    /// If memory cannot be had.
    fn zeros_like(&self) -> Result<Self>;

    /// A copy that shares nothing with it.
    ///
    /// # Errors
    /// If memory cannot be had.
    fn copied(&self) -> Result<Self>;

    /// `self ← s · self`
    ///
    /// # Errors
    /// If the device fails.
    fn scale(&mut self, s: f64) -> Result<()>;

    /// `self ← self + s · other`
    ///
    /// # Errors
    /// Another shape, or a device that fails.
    fn add(&mut self, s: f64, other: &Self) -> Result<()>;

    /// `self ← self + s · a ∘ b`, entry by entry.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    fn add_product(&mut self, s: f64, a: &Self, b: &Self) -> Result<()>;

    /// `self ← self + s · |a|`, entry by entry.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    fn add_absolute(&mut self, s: f64, a: &Self) -> Result<()>;

    /// `Σ_k self_k other_k`
    ///
    /// # Errors
    /// As [`add`](Self::add).
    fn dot(&self, other: &Self) -> Result<f64>;
}

impl Vectors for Vec<f64> {
    fn zeros_like(&self) -> Result<Self> {
        Ok(vec![0.0; self.len()])
    }

    fn copied(&self) -> Result<Self> {
        Ok(self.clone())
    }

    fn scale(&mut self, s: f64) -> Result<()> {
        self.iter_mut().for_each(|v| *v *= s);
        Ok(())
    }

    fn add(&mut self, s: f64, other: &Self) -> Result<()> {
        same("add", self, other)?;
        self.iter_mut().zip(other).for_each(|(v, o)| *v += s * o);
        Ok(())
    }

    fn add_product(&mut self, s: f64, a: &Self, b: &Self) -> Result<()> {
        same("add_product", self, a)?;
        same("add_product", self, b)?;
        (self.iter_mut().zip(a).zip(b)).for_each(|((v, a), b)| *v += s * a * b);
        Ok(())
    }

    fn add_absolute(&mut self, s: f64, a: &Self) -> Result<()> {
        same("add_absolute", self, a)?;
        self.iter_mut().zip(a).for_each(|(v, a)| *v += s * a.abs());
        Ok(())
    }

    fn dot(&self, other: &Self) -> Result<f64> {
        same("dot", self, other)?;
        Ok(self.iter().zip(other).map(|(a, b)| a * b).sum())
    }
}

fn same(operation: &'static str, left: &[f64], right: &[f64]) -> Result<()> {
    if left.len() == right.len() {
        return Ok(());
    }
    Err(Error::Shape {
        operation,
        left: left.len(),
        right: right.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_by_hand() {
        let mut v = vec![1.0, -2.0, 0.5];
        let (a, b) = (vec![3.0, -1.0, -4.0], vec![2.0, 5.0, 0.25]);
        v.add(2.0, &a).unwrap();
        assert_eq!(v, [7.0, -4.0, -7.5]);
        v.add_product(-1.0, &a, &b).unwrap();
        assert_eq!(v, [1.0, 1.0, -6.5]);
        v.add_absolute(0.5, &a).unwrap();
        assert_eq!(v, [2.5, 1.5, -4.5]);
        v.scale(2.0).unwrap();
        assert_eq!(v, [5.0, 3.0, -9.0]);
        assert_eq!(v.dot(&a).unwrap(), 48.0);
        assert_eq!(v.zeros_like().unwrap(), [0.0; 3]);
        assert_eq!(v.copied().unwrap(), v);
    }

    #[test]
    fn other_lengths_are_refused() {
        let mut v = vec![1.0, 2.0];
        let (two, one) = (vec![1.0; 2], vec![1.0]);
        assert!(v.add(1.0, &one).is_err());
        assert!(v.add_product(1.0, &one, &two).is_err());
        assert!(v.add_product(1.0, &two, &one).is_err());
        assert!(v.add_absolute(1.0, &one).is_err());
        assert!(v.dot(&one).is_err());
        assert_eq!(v, [1.0, 2.0]);
    }
}
