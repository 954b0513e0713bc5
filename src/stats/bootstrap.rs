//! The percentile bootstrap.

use rayon::prelude::*;

use super::Estimate;
use crate::random::{Purpose, Stream};

/// Settings of the bootstrap. The same seed gives the same intervals, whatever the number of threads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bootstrap {
    /// Seed of the resamples.
    pub seed: u64,
    /// Number of resamples.
    pub resamples: usize,
    /// Coverage of the interval.
    pub level: f64,
}

impl Default for Bootstrap {
    /// 10 000 resamples, 95 %.
    fn default() -> Self {
        Self {
            seed: 0,
            resamples: 10_000,
            level: 0.95,
        }
    }
}

impl Bootstrap {
    /// The percentile interval of a statistic: the quantiles `(1 ∓ level)/2` of what `resampled` makes
    /// of each resample that it draws.
    pub fn interval(&self, resampled: impl Fn(&mut Stream) -> f64 + Sync) -> [f64; 2] {
        let one = |index: usize| {
            let mut stream = Stream::new(self.seed, Purpose::Bootstrap, index as u64);
            resampled(&mut stream)
        };
        let mut found: Vec<f64> = (0..self.resamples).into_par_iter().map(one).collect();
        found.sort_unstable_by(f64::total_cmp);
        [0.5 - 0.5 * self.level, 0.5 + 0.5 * self.level].map(|p| quantile(&found, p))
    }

    /// [`interval`](Self::interval) with the statistic itself.
    pub fn estimate(&self, value: f64, resampled: impl Fn(&mut Stream) -> f64 + Sync) -> Estimate {
        let [low, high] = self.interval(resampled);
        Estimate { value, low, high }
    }
}

/// The quantile p of sorted values, linear between them as NumPy's is: at position `p (n − 1)`. NaN of
/// no value.
pub fn quantile(sorted: &[f64], p: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let place = p.clamp(0.0, 1.0) * last as f64;
    let below = (place.floor() as usize).min(last);
    let above = (below + 1).min(last);
    sorted[below] + (place - below as f64) * (sorted[above] - sorted[below])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_linear() {
        let sorted = [1.0, 2.0, 4.0, 8.0];
        // numpy.quantile([1, 2, 4, 8], p)
        for (p, q) in [(0.0, 1.0), (0.25, 1.75), (0.5, 3.0), (0.9, 6.8), (1.0, 8.0)] {
            assert!((quantile(&sorted, p) - q).abs() < 1e-12, "{p}");
        }
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn an_interval_does_not_know_the_threads() {
        let bootstrap = Bootstrap {
            resamples: 999,
            ..Bootstrap::default()
        };
        let draw = || bootstrap.interval(Stream::uniform);
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(1)
            .build()
            .unwrap();
        assert_eq!(draw(), pool.install(draw));
        // Of uniform numbers the quantiles are known; their deviation is √(0.025 · 0.975 / 999).
        let [low, high] = draw();
        assert!((low - 0.025).abs() < 0.025 && (high - 0.975).abs() < 0.025);
    }
}
