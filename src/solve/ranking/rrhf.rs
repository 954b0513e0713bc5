//! RRHF's comparisons.

/// `Σ_{i<j} max(0, p_i − p_j)` and its gradient, 0 where two are equal.
pub(super) fn compared(log: &[f64]) -> (f64, Vec<f64>) {
    let (mut value, mut gradient) = (0.0, vec![0.0; log.len()]);
    for j in 0..log.len() {
        for i in 0..j {
            let gap = log[i] - log[j];
            if gap > 0.0 {
                value += gap;
                gradient[i] += 1.0;
                gradient[j] -= 1.0;
            }
        }
    }
    (value, gradient)
}
