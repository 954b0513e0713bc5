//! Direct preference optimisation (DPO).

use crate::backend::Backend;
use crate::error::Result;

/// `−ln σ(βd)`
///
/// * Shapes: `d` `[B]` is the margin of the preferred over the rejected response (nats).
/// * Detached: nothing. Finite for every finite margin: `softplus(−βd)`.
/// * Source: Rafailov et al. 2023; BPO, eq. 2.
/// * Fixed point: π* when labels follow the Bradley–Terry model and the comparison graph is
///   connected; on a finite dataset the Bradley–Terry estimate, which exists only when every
///   group of arms both wins and loses against the rest: [`solve::preference`](crate::solve::preference).
pub fn dpo<X: Backend>(margin: &X, beta: f64) -> Result<X> {
    margin.affine(-beta, 0.0)?.softplus()
}
