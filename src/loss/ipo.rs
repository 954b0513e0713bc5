//! Identity preference optimisation (IPO), in its three published scalings.
//!
//! The first two have the same minimiser; the third is the first at half the temperature. They are
//! kept apart by name because a gradient of another scale is another learning rate.

use crate::backend::Backend;
use crate::error::Result;

/// `(d − 1/2β)²`
///
/// * Shapes: `d` `[B]` is the margin of the preferred over the rejected response (nats).
/// * Detached: nothing.
/// * Source: Azar et al. 2024; BPO, eq. 3.
/// * Fixed point: `ln π/π_ref = v/β`, where v solves the least squares of the comparison graph,
///   [`solve::ipo`](crate::solve::ipo); not π* in general.
pub fn ipo<X: Backend>(margin: &X, beta: f64) -> Result<X> {
    margin.affine(1.0, -0.5 / beta)?.square()
}

/// `(½ − βd)²`, β² times [`ipo`].
///
/// * Source: CoPG, Property 3, where it is CoPG with rewards ±¼.
pub fn ipo_copg<X: Backend>(margin: &X, beta: f64) -> Result<X> {
    margin.affine(-beta, 0.5)?.square()
}

/// `(βd − 1)²`, [`ipo`] at temperature β/2 times β².
///
/// * Source: Tang et al. 2024 (GPO), and DRO's `f(z) = (z − 1)²`.
/// * Fixed point: `ln π/π_ref = 2v/β`.
pub fn ipo_gpo<X: Backend>(margin: &X, beta: f64) -> Result<X> {
    margin.affine(beta, -1.0)?.square()
}
