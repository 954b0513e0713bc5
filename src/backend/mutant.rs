//! Deliberate faults: a backend that spoils one operation of a loss.
//!
//! A loss's certificates are worth what they catch. [`Mutant`] runs the loss's own code with its
//! n-th operation spoiled; whatever it spoils, some certificate must fail.

use std::cell::RefCell;
use std::rc::Rc;

use super::{Backend, Segments};
use crate::error::Result;

/// Fault put into the chosen operation (mutation testing of a loss).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Its result changes sign.
    Negate,
    /// Its result is doubled.
    Double,
    /// Its result loses its gradient.
    Detach,
    /// A `detach` that does nothing (other operations are left alone).
    KeepGradient,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 4] = [Self::Negate, Self::Double, Self::Detach, Self::KeepGradient];
}

/// Counts a loss's operations and spoils one of them.
#[derive(Debug, Default)]
pub struct Saboteur {
    /// Of each operation so far, whether it was a detach.
    seen: RefCell<Vec<bool>>,
    plan: Option<(usize, Fault)>,
}

impl Saboteur {
    /// Spoils nothing, only counts.
    pub fn idle() -> Rc<Self> {
        Rc::default()
    }

    /// Spoils the `n`-th operation (from 0).
    pub fn new(n: usize, fault: Fault) -> Rc<Self> {
        Rc::new(Self {
            seen: RefCell::default(),
            plan: Some((n, fault)),
        })
    }

    /// The operations that went by: of each, whether it was a detach.
    pub fn seen(&self) -> Vec<bool> {
        self.seen.borrow().clone()
    }

    /// Starts counting from 0 again: one evaluation of the loss is over.
    pub fn restart(&self) {
        self.seen.borrow_mut().clear();
    }

    fn strike(&self, detach: bool) -> Option<Fault> {
        let mut seen = self.seen.borrow_mut();
        let n = seen.len();
        seen.push(detach);
        self.plan.and_then(|(at, fault)| (at == n).then_some(fault))
    }
}

/// A backend value watched by a [`Saboteur`].
#[derive(Clone)]
pub struct Mutant<X> {
    inner: X,
    saboteur: Rc<Saboteur>,
}

impl<X: Backend> Mutant<X> {
    /// Wraps a value.
    pub fn new(inner: X, saboteur: &Rc<Saboteur>) -> Self {
        Self {
            inner,
            saboteur: saboteur.clone(),
        }
    }

    /// The value itself.
    pub fn inner(&self) -> &X {
        &self.inner
    }

    fn pass(&self, result: X) -> Result<Self> {
        let inner = match self.saboteur.strike(false) {
            Some(Fault::Negate) => result.neg()?,
            Some(Fault::Double) => result.affine(2.0, 0.0)?,
            Some(Fault::Detach) => result.detach()?,
            Some(Fault::KeepGradient) | None => result,
        };
        Ok(Self {
            inner,
            saboteur: self.saboteur.clone(),
        })
    }
}

impl<X: Backend> Backend for Mutant<X> {
    fn constant(&self, values: &[f64]) -> Result<Self> {
        Ok(Self::new(self.inner.constant(values)?, &self.saboteur))
    }

    fn to_vec(&self) -> Result<Vec<f64>> {
        self.inner.to_vec()
    }

    fn add(&self, other: &Self) -> Result<Self> {
        self.pass(self.inner.add(&other.inner)?)
    }

    fn sub(&self, other: &Self) -> Result<Self> {
        self.pass(self.inner.sub(&other.inner)?)
    }

    fn mul(&self, other: &Self) -> Result<Self> {
        self.pass(self.inner.mul(&other.inner)?)
    }

    fn div(&self, other: &Self) -> Result<Self> {
        self.pass(self.inner.div(&other.inner)?)
    }

    fn max(&self, other: &Self) -> Result<Self> {
        self.pass(self.inner.max(&other.inner)?)
    }

    fn affine(&self, scale: f64, shift: f64) -> Result<Self> {
        self.pass(self.inner.affine(scale, shift)?)
    }

    fn softplus(&self) -> Result<Self> {
        self.pass(self.inner.softplus()?)
    }

    fn exp(&self) -> Result<Self> {
        self.pass(self.inner.exp()?)
    }

    fn ln(&self) -> Result<Self> {
        self.pass(self.inner.ln()?)
    }

    fn sqrt(&self) -> Result<Self> {
        self.pass(self.inner.sqrt()?)
    }

    fn sigmoid(&self) -> Result<Self> {
        self.pass(self.inner.sigmoid()?)
    }

    fn relu(&self) -> Result<Self> {
        self.pass(self.inner.relu()?)
    }

    fn step(&self) -> Result<Self> {
        self.pass(self.inner.step()?)
    }

    fn detach(&self) -> Result<Self> {
        let inner = match self.saboteur.strike(true) {
            Some(Fault::KeepGradient) => self.inner.clone(),
            Some(Fault::Negate) => self.inner.detach()?.neg()?,
            Some(Fault::Double) => self.inner.detach()?.affine(2.0, 0.0)?,
            Some(Fault::Detach) | None => self.inner.detach()?,
        };
        Ok(Self::new(inner, &self.saboteur))
    }

    fn segment_sum(&self, segments: &Rc<Segments>) -> Result<Self> {
        self.pass(self.inner.segment_sum(segments)?)
    }

    fn spread(&self, segments: &Rc<Segments>) -> Result<Self> {
        self.pass(self.inner.spread(segments)?)
    }
}
