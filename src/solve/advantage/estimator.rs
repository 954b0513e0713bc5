//! The advantage of a response and its estimates from other policies' responses (eq. 5 to 8).
//!
//! All functions are for one prompt, with vectors over its arms.

/// `a(y) = r(y) − E_{π_φ} r`: eq. 5 with `π′ = π_φ`, and its expectation wherever π′ covers π_φ.
/// Of mean zero under `current` (which must sum to 1), the same for r and r + c.
pub fn advantage(reward: &[f64], current: &[f64]) -> Vec<f64> {
    let mean = mean(reward, current);
    reward.iter().map(|r| r - mean).collect()
}

/// Eq. 7: `e = E_{π_φ} r`.
pub fn mean(reward: &[f64], current: &[f64]) -> f64 {
    current.iter().zip(reward).map(|(p, r)| p * r).sum()
}

/// Eq. 5: `r(y) − E_{y′ ~ π′}[(π_φ(y′)/π′(y′)) r(y′)]`, exactly. What π_φ may do and π′ never does
/// is missed.
pub fn importance(reward: &[f64], current: &[f64], proposal: &[f64]) -> Vec<f64> {
    let seen = seen_mean(reward, current, proposal);
    reward.iter().map(|r| r - seen).collect()
}

/// `Σ_{π′(y) > 0} π_φ(y) r(y)`, what an importance-weighted mean sees.
fn seen_mean(reward: &[f64], current: &[f64], proposal: &[f64]) -> f64 {
    (reward.iter().zip(current).zip(proposal))
        .filter(|(_, q)| **q > 0.0)
        .map(|((r, p), q)| q * (p / q) * r)
        .sum()
}

/// Eq. 8 as it must read, for one draw `y_k ~ π′_k` from each of K proposals:
/// `r(y) − ((N − K)/N) e − (1/N) Σ_k (π_φ(y_k)/π′_k(y_k)) r(y_k)`.
///
/// `drawn` holds the arm drawn from each of `proposals`; `n` is N.
pub fn estimate(
    reward: &[f64],
    current: &[f64],
    proposals: &[Vec<f64>],
    drawn: &[usize],
    n: f64,
) -> Vec<f64> {
    let k = proposals.len() as f64;
    let weighted: f64 = (proposals.iter().zip(drawn))
        .map(|(proposal, &y)| current[y] / proposal[y] * reward[y])
        .sum();
    let baseline = (n - k) / n * mean(reward, current) + weighted / n;
    reward.iter().map(|r| r - baseline).collect()
}

/// The expectation of [`estimate`]: eq. 5's, for any N, if every proposal covers π_φ.
pub fn expected_estimate(
    reward: &[f64],
    current: &[f64],
    proposals: &[Vec<f64>],
    n: f64,
) -> Vec<f64> {
    let k = proposals.len() as f64;
    let weighted: f64 = (proposals.iter())
        .map(|proposal| seen_mean(reward, current, proposal))
        .sum();
    let baseline = (n - k) / n * mean(reward, current) + weighted / n;
    reward.iter().map(|r| r - baseline).collect()
}

/// Eq. 8 as printed, with the response scored also in the ratios:
/// `r(y) − ((N − K)/N) e − (1/N) Σ_k (π_φ(y)/π′_k(y)) r(y)`.
///
/// On policy (`π′_k = π_φ`) that is `(1 − K/N)(r(y) − e)`, a shrunk advantage, 0 at N = K.
pub fn printed_estimate(
    reward: &[f64],
    current: &[f64],
    proposals: &[Vec<f64>],
    n: f64,
) -> Vec<f64> {
    let k = proposals.len() as f64;
    let e = mean(reward, current);
    (reward.iter().enumerate())
        .map(|(y, r)| {
            let ratios: f64 = proposals.iter().map(|q| current[y] / q[y]).sum();
            r - (n - k) / n * e - ratios / n * r
        })
        .collect()
}
