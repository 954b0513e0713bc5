//! PRO's contests, and the way to its limit.

use super::temperature;
use crate::bandit::{Prompt, log_sum_exp};

/// `Σ_k [ln(e^{p_k T_k} + Σ_{i<k} e^{p_i T_ki}) − p_k T_k]` and its gradient: of a contest in which i has the share q_i,
/// `T_ki q_i` and at the winner `T_k (q_k − 1)`.
pub(super) fn compared(log: &[f64], scale: f64) -> (f64, Vec<f64>) {
    let (mut value, mut gradient) = (0.0, vec![0.0; log.len()]);
    for k in 1..log.len() {
        let of = |i: usize| {
            let against = if i == k { 0 } else { i };
            temperature(k, against, log.len(), scale)
        };
        let scaled: Vec<f64> = (0..=k).map(|i| log[i] * of(i)).collect();
        let total = log_sum_exp(&scaled);
        value += total - scaled[k];
        for (i, z) in scaled.iter().enumerate() {
            let won = if i == k { 1.0 } else { 0.0 };
            gradient[i] += of(i) * ((z - total).exp() - won);
        }
    }
    (value, gradient)
}

/// Powers of e by which what vanishes on the way to the limit is below rounding there.
const BELOW: f64 = 60.0;

/// A point on the way to the limit at which every contest is decided: an arm's ln π is below `BELOW` and below what
/// any winner k above it makes of it, `p_i T_ki < p_k T_k − BELOW`.
pub(super) fn approach(list: &[u32], prompt: &Prompt, scale: f64) -> Vec<f64> {
    let len = list.len();
    let mut log = vec![0.0; len];
    for i in (0..len - 1).rev() {
        let of = |k: usize| {
            (log[k] * temperature(k, 0, len, scale) - BELOW) / temperature(k, i, len, scale)
        };
        log[i] = (i + 1..len).map(of).fold(-BELOW, f64::min);
    }
    let lowest = log.iter().copied().fold(-BELOW, f64::min);
    let mut row = vec![lowest; prompt.arms()];
    list.iter().zip(log).for_each(|(&a, l)| row[a as usize] = l);
    row
}
