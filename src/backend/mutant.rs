//! Deliberate faults: a backend that spoils one operation of a loss.
//!
//! A loss's certificates are worth what they catch. [`Mutant`] runs the loss's own code with its
//! n-th operation spoiled; whatever it spoils, some certificate must fail.

use std::cell::RefCell;
use std::collections::BTreeMap;
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

/// An operation of a loss: which, and how many of that name come before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Site {
    /// Name of the operation, that of its method in [`Backend`].
    pub operation: &'static str,
    /// Its place among those of that name, from 0.
    pub nth: usize,
}

impl std::fmt::Display for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{} {}", self.operation, self.nth)
    }
}

/// Counts a loss's operations and spoils one of them.
#[derive(Debug, Default)]
pub struct Saboteur {
    /// Names of the operations so far.
    seen: RefCell<Vec<&'static str>>,
    plan: Option<(Site, Fault)>,
}

impl Saboteur {
    /// Spoils nothing, only counts.
    pub fn idle() -> Rc<Self> {
        Rc::default()
    }

    /// Spoils one operation.
    pub fn new(site: Site, fault: Fault) -> Rc<Self> {
        Rc::new(Self {
            seen: RefCell::default(),
            plan: Some((site, fault)),
        })
    }

    /// The operations that went by, in order.
    pub fn seen(&self) -> Vec<Site> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        let seen = self.seen.borrow();
        let site = |&operation: &&'static str| {
            let count = counts.entry(operation).or_default();
            *count += 1;
            Site {
                operation,
                nth: *count - 1,
            }
        };
        seen.iter().map(site).collect()
    }

    /// Starts counting from 0 again: one evaluation of the loss is over.
    pub fn restart(&self) {
        self.seen.borrow_mut().clear();
    }

    fn strike(&self, operation: &'static str) -> Option<Fault> {
        let mut seen = self.seen.borrow_mut();
        let nth = seen.iter().filter(|before| **before == operation).count();
        seen.push(operation);
        let here = Site { operation, nth };
        self.plan
            .and_then(|(at, fault)| (at == here).then_some(fault))
    }
}

/// Name of the operation that can lose its effect, where every other can gain one.
pub const DETACH: &str = "detach";

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

    fn pass(&self, operation: &'static str, result: X) -> Result<Self> {
        let inner = match self.saboteur.strike(operation) {
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
        self.pass("add", self.inner.add(&other.inner)?)
    }

    fn sub(&self, other: &Self) -> Result<Self> {
        self.pass("sub", self.inner.sub(&other.inner)?)
    }

    fn mul(&self, other: &Self) -> Result<Self> {
        self.pass("mul", self.inner.mul(&other.inner)?)
    }

    fn div(&self, other: &Self) -> Result<Self> {
        self.pass("div", self.inner.div(&other.inner)?)
    }

    fn max(&self, other: &Self) -> Result<Self> {
        self.pass("max", self.inner.max(&other.inner)?)
    }

    fn affine(&self, scale: f64, shift: f64) -> Result<Self> {
        self.pass("affine", self.inner.affine(scale, shift)?)
    }

    fn softplus(&self) -> Result<Self> {
        self.pass("softplus", self.inner.softplus()?)
    }

    fn exp(&self) -> Result<Self> {
        self.pass("exp", self.inner.exp()?)
    }

    fn ln(&self) -> Result<Self> {
        self.pass("ln", self.inner.ln()?)
    }

    fn sqrt(&self) -> Result<Self> {
        self.pass("sqrt", self.inner.sqrt()?)
    }

    fn sigmoid(&self) -> Result<Self> {
        self.pass("sigmoid", self.inner.sigmoid()?)
    }

    fn relu(&self) -> Result<Self> {
        self.pass("relu", self.inner.relu()?)
    }

    fn step(&self) -> Result<Self> {
        self.pass("step", self.inner.step()?)
    }

    fn detach(&self) -> Result<Self> {
        let inner = match self.saboteur.strike(DETACH) {
            Some(Fault::KeepGradient) => self.inner.clone(),
            Some(Fault::Negate) => self.inner.detach()?.neg()?,
            Some(Fault::Double) => self.inner.detach()?.affine(2.0, 0.0)?,
            Some(Fault::Detach) | None => self.inner.detach()?,
        };
        Ok(Self::new(inner, &self.saboteur))
    }

    fn segment_sum(&self, segments: &Rc<Segments>) -> Result<Self> {
        self.pass("segment_sum", self.inner.segment_sum(segments)?)
    }

    fn spread(&self, segments: &Rc<Segments>) -> Result<Self> {
        self.pass("spread", self.inner.spread(segments)?)
    }

    fn select(&self, indices: &[u32]) -> Result<Self> {
        self.pass("select", self.inner.select(indices)?)
    }
}
