//! Identity preference optimisation (IPO), in its three published scalings.
//!
//! The first two have the same minimiser; the third is the first at half the temperature. They are
//! kept apart by name because a gradient of another scale is another learning rate.

use super::{InputKind, Inputs, Loss, Spec, Temperature};
use crate::backend::Backend;
use crate::error::Result;

const LEAST_SQUARES: &str = "ln π/π_ref = v/β, v the least squares of the comparison graph";

/// `(d − 1/2β)²`
///
/// * Shapes: d `[B]` is the difference of the preferred and the rejected response (nats).
/// * Detached: nothing.
/// * Source: Azar et al. 2024; BPO, eq. 3.
/// * Fixed point: `ln π/π_ref = v/β`, where v solves the least squares of the comparison graph,
///   [`solve::ipo`](crate::solve::ipo); not π* in general.
pub struct Ipo;

impl Loss for Ipo {
    type Numbers = Temperature;

    fn spec(&self) -> Spec {
        Spec {
            formula: "(d − 1/2β)²",
            source: "Azar et al. 2024; BPO, eq. 3",
            fixed_point: LEAST_SQUARES,
            ..Spec::new("ipo", InputKind::LabelledPairs)
        }
    }

    fn loss<X: Backend>(&self, n: &Temperature, inputs: &Inputs<X>) -> Result<X> {
        let d = inputs.pair()?.difference()?;
        d.affine(1.0, -0.5 / n.beta)?.square()
    }
}

/// `(½ − βd)²`, β² times [`Ipo`].
///
/// * Source: CoPG, Property 3, where it is CoPG with rewards ±¼.
pub struct IpoCopg;

impl Loss for IpoCopg {
    type Numbers = Temperature;

    fn spec(&self) -> Spec {
        Spec {
            formula: "(½ − βd)²",
            source: "CoPG, Property 3",
            fixed_point: LEAST_SQUARES,
            ..Spec::new("ipo-copg", InputKind::LabelledPairs)
        }
    }

    fn loss<X: Backend>(&self, n: &Temperature, inputs: &Inputs<X>) -> Result<X> {
        let d = inputs.pair()?.difference()?;
        d.affine(-n.beta, 0.5)?.square()
    }
}

/// `(βd − 1)²`, [`Ipo`] at temperature β/2 times β².
///
/// * Source: Tang et al. 2024 (GPO), and DRO's `f(z) = (z − 1)²`.
/// * Fixed point: `ln π/π_ref = 2v/β`.
pub struct IpoGpo;

impl Loss for IpoGpo {
    type Numbers = Temperature;

    fn spec(&self) -> Spec {
        Spec {
            formula: "(βd − 1)²",
            source: "Tang et al. 2024; DRO, section 2",
            fixed_point: "that of ipo at temperature β/2",
            ..Spec::new("ipo-gpo", InputKind::LabelledPairs)
        }
    }

    fn loss<X: Backend>(&self, n: &Temperature, inputs: &Inputs<X>) -> Result<X> {
        let d = inputs.pair()?.difference()?;
        d.affine(n.beta, -1.0)?.square()
    }
}
