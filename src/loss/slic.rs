//! Sequence likelihood calibration (SLiC), reference-normalised.

use crate::backend::Backend;
use crate::error::Result;

/// `max(0, 1 − βd)`
///
/// * Shapes: `d` `[B]` is the margin of the preferred over the rejected response (nats).
/// * Detached: nothing. Slope 0 at the kink `βd = 1`.
/// * Source: BPO, eq. 4 (not SLiC-HF, which has a margin in log-probabilities and an SFT term).
/// * Fixed point: `βu` is an integer vector up to a shift, [`solve::slic`](crate::solve::slic).
pub fn slic<X: Backend>(margin: &X, beta: f64) -> Result<X> {
    margin.affine(-beta, 1.0)?.relu()
}
