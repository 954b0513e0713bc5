//! Lower bound on the distance of a policy from the optimum when only its mass on Y is off (A.2).

use crate::bandit::kl;
use crate::error::{Error, Result};

/// The lower bound of `KL(π_θ‖π*)` where `π_θ = γπ*` on Y and `p = π*(Y)` (eq. 24):
/// `γp ln γ + (1 − γp) ln((1 − γp)/(1 − p))`, the divergence of a coin of bias γp from one of bias p,
/// in nats.
///
/// It is reached exactly when π_θ is proportional to π* off Y too. It is convex in γ, zero at γ = 1,
/// `−ln(1 − p)` at γ = 0 and `−ln p` at γ = 1/p, where all mass is on Y.
///
/// # Errors
/// p outside (0, 1) or γ outside [0, 1/p].
pub fn lower_bound(p: f64, gamma: f64) -> Result<f64> {
    let on = mass(p, gamma)?;
    let coin = |on: f64| [on.ln(), (-on).ln_1p()];
    Ok(kl(&coin(on), &coin(p)))
}

/// Its derivative in γ, `p ln(γ(1 − p)/(1 − γp))`; −∞ and ∞ at the ends.
///
/// # Errors
/// As [`lower_bound`].
pub fn slope(p: f64, gamma: f64) -> Result<f64> {
    let on = mass(p, gamma)?;
    Ok(p * (gamma.ln() + (-p).ln_1p() - (-on).ln_1p()))
}

/// `(γ, bound)` at `points` (at least 2) even steps of γ from 0 to 1/p: the curves of Figure 4(a).
///
/// # Errors
/// p outside (0, 1).
pub fn curve(p: f64, points: usize) -> Result<Vec<(f64, f64)>> {
    let last = points.max(2) - 1;
    (0..=last)
        .map(|i| {
            let gamma = i as f64 / last as f64 / p;
            Ok((gamma, lower_bound(p, gamma)?))
        })
        .collect()
}

/// γp, which rounding may put just above 1.
fn mass(p: f64, gamma: f64) -> Result<f64> {
    if !(p > 0.0 && p < 1.0) {
        return Err(Error::invalid(
            "p",
            format!("it is {p}"),
            "give the optimum's mass on the ranked responses, between 0 and 1",
        ));
    }
    let on = gamma * p;
    if !(gamma >= 0.0 && on <= 1.0 + 4.0 * f64::EPSILON) {
        return Err(Error::invalid(
            "gamma",
            format!("it is {gamma}"),
            format!("give a number from 0 to 1/p = {}", 1.0 / p),
        ));
    }
    Ok(on.min(1.0))
}
