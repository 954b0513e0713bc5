//! Sequence likelihood calibration (SLiC), reference-normalised.

use super::{InputKind, Inputs, Kind, Loss, Spec, Temperature};
use crate::backend::Backend;
use crate::error::Result;

/// `max(0, 1 − βd)`
///
/// * Shapes: d `[B]` is the difference of the preferred and the rejected response (nats).
/// * Detached: nothing. Slope 0 at the kink `βd = 1`.
/// * Source: BPO, eq. 4 (not SLiC-HF, which has a margin in log-probabilities and an SFT term).
/// * Fixed point: `βu` is an integer vector up to a shift, [`solve::slic`](crate::solve::slic).
pub struct Slic;

impl Loss for Slic {
    type Numbers = Temperature;

    fn spec(&self) -> Spec {
        Spec {
            aliases: &["hinge"],
            formula: "max(0, 1 − βd)",
            kind: Kind::Kinked,
            source: "BPO, eq. 4",
            fixed_point: "βu an integer vector up to a shift",
            ..Spec::new("slic", InputKind::LabelledPairs)
        }
    }

    fn loss<X: Backend>(&self, n: &Temperature, inputs: &Inputs<X>) -> Result<X> {
        let d = inputs.pair()?.difference()?;
        d.affine(-n.beta, 1.0)?.relu()
    }
}
