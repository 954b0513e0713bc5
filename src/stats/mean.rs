//! Means of independent values.

use statrs::distribution::{ContinuousCDF, StudentsT};

/// `(1/n) Σ v`; NaN of no value.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The sample standard deviation, `√(Σ (v − mean)² / (n − 1))`; 0 of a single value.
pub fn deviation(values: &[f64]) -> f64 {
    let centre = mean(values);
    let squares: f64 = values.iter().map(|v| (v - centre).powi(2)).sum();
    (squares / (values.len().max(2) - 1) as f64).sqrt()
}

/// Student's interval of the mean, `mean ± t sd/√n` with n − 1 degrees of freedom; none of fewer than
/// two values. `level` is its coverage, such as 0.95.
pub fn t_interval(values: &[f64], level: f64) -> Option<[f64; 2]> {
    let count = values.len();
    let law = StudentsT::new(0.0, 1.0, count.checked_sub(1)? as f64).ok()?;
    let t = law.inverse_cdf(0.5 + 0.5 * level);
    let half = t * deviation(values) / (count as f64).sqrt();
    let centre = mean(values);
    Some([centre - half, centre + half])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn students_interval() {
        // scipy.stats.t.ppf(0.975, n - 1), n = 2, 5, 31, 1001.
        for (n, t) in [
            (2, 12.706_204_736_174_698),
            (5, 2.776_445_105_197_798_7),
            (31, 2.042_272_456_301_237_3),
            (1001, 1.962_339_080_826_407_7),
        ] {
            let values: Vec<f64> = (0..n).map(f64::from).collect();
            let [low, high] = t_interval(&values, 0.95).unwrap();
            let expected = t * deviation(&values) / f64::from(n).sqrt();
            let half = 0.5 * (high - low);
            assert!(
                (half / expected - 1.0).abs() < 1e-9,
                "{n}: {half} {expected}"
            );
            assert!((0.5 * (low + high) - mean(&values)).abs() < 1e-9 * half);
        }
        assert_eq!(t_interval(&[1.0], 0.95), None);
        assert_eq!(t_interval(&[], 0.95), None);
        assert_eq!(t_interval(&[3.0, 3.0], 0.95), Some([3.0, 3.0]));
        assert_eq!(deviation(&[3.0]), 0.0);
        assert!((deviation(&[0.0, 2.0]) - 2f64.sqrt()).abs() < 1e-15);
    }
}
