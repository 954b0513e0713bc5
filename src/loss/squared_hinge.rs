//! SLiC's hinge, squared.

use super::{InputKind, Inputs, Loss, Spec, Temperature};
use crate::backend::Backend;
use crate::error::Result;

/// `max(0, 1 − βd)²`
///
/// * Shapes: d `[B]` is the difference of the preferred and the rejected response (nats).
/// * Detached: nothing. Its slope is continuous, 0 at `βd = 1` and beyond.
/// * Source: Tang et al. 2024 (GPO), Table 1, with the factor 1/γ that β stands for there left out.
/// * Fixed point: unique up to a shift on a connected graph, not π* in general: where every βd stays below 1 it is
///   that of [`IpoGpo`](super::ipo::IpoGpo). No closed form; gradient flow is followed.
pub struct SquaredHinge;

impl Loss for SquaredHinge {
    type Numbers = Temperature;

    fn spec(&self) -> Spec {
        Spec {
            formula: "max(0, 1 − βd)²",
            source: "Tang et al. 2024",
            fixed_point: "unique if the comparison graph is connected; that of ipo-gpo while all βd < 1",
            ..Spec::new("squared-hinge", InputKind::LabelledPairs)
        }
    }

    fn loss<X: Backend>(&self, n: &Temperature, inputs: &Inputs<X>) -> Result<X> {
        let d = inputs.pair()?.difference()?;
        d.affine(-n.beta, 1.0)?.relu()?.square()
    }
}
