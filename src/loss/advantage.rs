//! The Advantage Model (AM).

use crate::backend::Backend;
use crate::error::Result;

/// The Advantage Model's loss: ranking, and a margin that both scores keep within:
///
/// `−ln σ(a⁺ − a⁻) − ln σ(m − a⁺) − ln σ(m + a⁻)`
///
/// * Shapes: scores `[B]` of the preferred and of the rejected response, returns `[B]`. m > 0.
/// * Detached: nothing. Finite for every finite score.
/// * Source: Advantage Model, eq. 6.
/// * Fixed point: strictly convex, so unique; |a| < m, gaps shrunk against those of the rewards.
///   Pairs of a response with itself matter. [`solve::advantage`](crate::solve::advantage).
pub fn advantage_model<X: Backend>(preferred: &X, rejected: &X, margin: f64) -> Result<X> {
    let ranking = rejected.sub(preferred)?.softplus()?;
    let above = preferred.affine(1.0, -margin)?.softplus()?;
    let below = rejected.affine(-1.0, -margin)?.softplus()?;
    ranking.add(&above)?.add(&below)
}
