//! Direct preference optimisation (DPO).

use super::{InputKind, Inputs, Loss, Spec, Temperature};
use crate::backend::Backend;
use crate::error::Result;

/// `−ln σ(βd)`
///
/// * Shapes: d `[B]` is the difference of the preferred and the rejected response (nats).
/// * Detached: nothing. Finite for every finite difference: `softplus(−βd)`.
/// * Source: Rafailov et al. 2023; BPO, eq. 2.
/// * Fixed point: π* when labels follow the Bradley–Terry model and the comparison graph is
///   connected; on a finite dataset the Bradley–Terry estimate, which exists only when every
///   group of arms both wins and loses against the rest: [`solve::preference`](crate::solve::preference).
pub struct Dpo;

impl Loss for Dpo {
    type Numbers = Temperature;

    fn spec(&self) -> Spec {
        Spec {
            aliases: &["sigmoid"],
            formula: "−ln σ(βd)",
            source: "Rafailov et al. 2023; BPO, eq. 2",
            fixed_point: "π* under Bradley–Terry labels on a connected graph",
            ..Spec::new("dpo", InputKind::LabelledPairs)
        }
    }

    fn loss<X: Backend>(&self, n: &Temperature, inputs: &Inputs<X>) -> Result<X> {
        let d = inputs.pair()?.difference()?;
        d.affine(-n.beta, 0.0)?.softplus()
    }
}
