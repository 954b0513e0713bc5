//! Rejection sampling on a bandit: the exact laws of the response kept.

use crate::bandit::log_sum_exp;
use crate::error::{Error, Result};

fn lengths(log_policy: &[f64], scores: &[f64]) -> Result<()> {
    if log_policy.len() == scores.len() {
        return Ok(());
    }
    Err(Error::Shape {
        operation: "rejection sampling",
        left: log_policy.len(),
        right: scores.len(),
    })
}

/// The law of the best of n independent responses, as log-probabilities:
/// `π(y | score(y) = s)·[F(s)ⁿ − F(s⁻)ⁿ]`, F the law's mass of scores up to s (below s for s⁻).
/// Equally scored responses share their mass as π does.
///
/// # Errors
/// Lengths that differ, a NaN score, or n = 0.
pub fn best_of_n(log_policy: &[f64], scores: &[f64], n: u32) -> Result<Vec<f64>> {
    lengths(log_policy, scores)?;
    if n == 0 {
        return Err(Error::invalid("n", "it is 0", "draw at least one response"));
    }
    if let Some(y) = scores.iter().position(|s| s.is_nan()) {
        let problem = "it is not a number";
        return Err(Error::invalid(
            format!("scores[{y}]"),
            problem,
            "score every response",
        ));
    }
    // The n-th power magnifies what rounding left of the normalisation.
    let total = log_sum_exp(log_policy);
    let log_policy: Vec<f64> = log_policy.iter().map(|l| l - total).collect();
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    let mut log = vec![f64::NEG_INFINITY; scores.len()];
    let mut below = f64::NEG_INFINITY;
    // From the worst up, so that the mass below is a sum of its own terms.
    for tied in order.chunk_by(|&a, &b| scores[a] == scores[b]) {
        let own: Vec<f64> = tied.iter().map(|&y| log_policy[y]).collect();
        let own = log_sum_exp(&own);
        if own == f64::NEG_INFINITY {
            continue;
        }
        let up_to = log_sum_exp(&[below, own]);
        // ln(F(s)ⁿ − F(s⁻)ⁿ) = n ln F(s) + ln(1 − (1 − share)ⁿ), share = the tied arms' part of F(s).
        let log_share = own - up_to;
        let some = if log_share < -600.0 {
            // 1 − (1 − share)ⁿ = n·share to the last digit, and share itself may underflow.
            f64::from(n).ln() + log_share
        } else {
            let none = f64::from(n) * (-log_share.exp()).ln_1p();
            (-none.exp_m1()).ln()
        };
        for &y in tied {
            log[y] = log_policy[y] - own + f64::from(n) * up_to + some;
        }
        below = up_to;
    }
    Ok(log)
}

/// The law of responses whose score is at least `threshold` (Advantage Model, eq. 3):
/// `∝ π(y) 1[score(y) ≥ τ]`, as log-probabilities; nothing if no response passes.
///
/// # Errors
/// Lengths that differ.
pub fn above(log_policy: &[f64], scores: &[f64], threshold: f64) -> Result<Option<Vec<f64>>> {
    lengths(log_policy, scores)?;
    let kept: Vec<f64> = (log_policy.iter().zip(scores))
        .map(|(&l, &s)| if s >= threshold { l } else { f64::NEG_INFINITY })
        .collect();
    let mass = log_sum_exp(&kept);
    Ok((mass > f64::NEG_INFINITY).then(|| kept.iter().map(|l| l - mass).collect()))
}
