//! Student's tests of one mean and of two.

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

use super::mean::{deviation, mean};

/// A sample as papers print it: a mean, a standard deviation and a count.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    /// The mean.
    pub mean: f64,
    /// The standard deviation, dividing by n − 1.
    pub sd: f64,
    /// Number of values, n.
    pub count: usize,
}

impl Summary {
    /// Summary of values.
    pub fn of(values: &[f64]) -> Self {
        Self {
            mean: mean(values),
            sd: deviation(values),
            count: values.len(),
        }
    }

    /// Summary from a deviation that divides by n, as NumPy's does: `sd = sd_n √(n/(n − 1))`, infinite of
    /// a single value.
    pub fn dividing_by_n(mean: f64, sd_n: f64, count: usize) -> Self {
        let n = count as f64;
        let sd = sd_n * (n / (n - 1.0)).sqrt();
        Self { mean, sd, count }
    }

    /// `sd²/n`, the variance of the mean.
    fn error(&self) -> f64 {
        self.sd.powi(2) / self.count as f64
    }
}

/// Result of a t test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TTest {
    /// The statistic.
    pub t: f64,
    /// Degrees of freedom.
    pub df: f64,
    /// `P(|T| ≥ |t|)`, two-sided.
    pub p: f64,
}

impl TTest {
    fn of(t: f64, df: f64) -> Option<Self> {
        let law = StudentsT::new(0.0, 1.0, df).ok()?;
        // Where t is not finite the law's tail panics.
        t.is_finite().then(|| {
            let p = 2.0 * law.sf(t.abs());
            Self { t, df, p }
        })
    }
}

/// Student's test of a mean against a number: `t = (mean − against)/√(sd²/n)` with n − 1 degrees of
/// freedom. None of fewer than two values or of values that are all alike.
pub fn one_sample(sample: &Summary, against: f64) -> Option<TTest> {
    let df = sample.count.checked_sub(1)?;
    TTest::of((sample.mean - against) / sample.error().sqrt(), df as f64)
}

/// Welch's test of two means, whose variances may differ: `t = (mean_a − mean_b)/√(e_a + e_b)`, e being
/// sd²/n, with `(e_a + e_b)²/(e_a²/(n_a − 1) + e_b²/(n_b − 1))` degrees of freedom (Welch–Satterthwaite).
/// None where either has fewer than two values or neither has a spread.
pub fn welch(a: &Summary, b: &Summary) -> Option<TTest> {
    let freedom = |s: &Summary| s.count.checked_sub(1).filter(|&df| df > 0);
    let (of_a, of_b) = (freedom(a)?, freedom(b)?);
    let (ea, eb) = (a.error(), b.error());
    let df = (ea + eb).powi(2) / (ea.powi(2) / of_a as f64 + eb.powi(2) / of_b as f64);
    TTest::of((a.mean - b.mean) / (ea + eb).sqrt(), df)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: Option<TTest>, [t, df, p]: [f64; 3]) {
        let found = found.unwrap();
        let gap = |a: f64, b: f64| (a / b - 1.0).abs();
        assert!(
            gap(found.t, t) < 1e-12 && gap(found.df, df) < 1e-12 && gap(found.p, p) < 1e-9,
            "{found:?}"
        );
    }

    #[test]
    fn the_tests_are_those_of_scipy() {
        let a = Summary::of(&[1.0, 2.0, 4.0, 8.0]);
        let b = Summary::of(&[3.0, 9.0, 12.0]);
        // scipy.stats.ttest_ind(a, b, equal_var=False)
        let both = [
            -1.386_504_481_958_944,
            3.342_314_412_632_631,
            0.250_872_027_261_202_83,
        ];
        near(welch(&a, &b), both);
        near(welch(&b, &a), [-both[0], both[1], both[2]]);
        // scipy.stats.ttest_1samp(a, 1)
        let one = [1.776_660_276_791_946_7, 3.0, 0.173_699_506_508_530_67];
        near(one_sample(&a, 1.0), one);
    }

    #[test]
    fn a_sample_without_spread_has_no_test() {
        let (one, flat) = (Summary::of(&[1.0]), Summary::of(&[2.0, 2.0]));
        let spread = Summary::of(&[1.0, 3.0]);
        assert_eq!(one_sample(&one, 0.0), None);
        assert_eq!(one_sample(&flat, 0.0), None);
        assert_eq!(one_sample(&flat, 2.0), None);
        assert_eq!(welch(&flat, &flat), None);
        assert_eq!(welch(&one, &spread), None);
        assert_eq!(welch(&spread, &one), None);
        // Where one has none it is a number to test the other against.
        let against = Summary::of(&[5.0, 5.0, 5.0]);
        assert_eq!(welch(&spread, &against), one_sample(&spread, 5.0));
    }

    #[test]
    fn a_deviation_that_divides_by_n_is_corrected() {
        let values = [68.9, 72.3, 74.8];
        let centre = mean(&values);
        let squares: f64 = values.iter().map(|v| (v - centre).powi(2)).sum();
        let found = Summary::dividing_by_n(centre, (squares / 3.0).sqrt(), 3);
        let own = Summary::of(&values);
        assert!((found.sd / own.sd - 1.0).abs() < 1e-15);
        assert_eq!(one_sample(&Summary::dividing_by_n(1.0, 1.0, 1), 0.0), None);
    }
}
