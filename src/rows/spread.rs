//! Means over seeds, and how far they can be trusted.

/// Mean and spread of a sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The sample standard deviation, 0 for a single value.
    pub sd: f64,
    /// How many values.
    pub count: usize,
}

impl Spread {
    /// Of some values; none of no value.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let values: Vec<f64> = values.into_iter().collect();
        let count = values.len();
        let mean = values.iter().sum::<f64>() / count as f64;
        let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
        let sd = (squares / (count as f64 - 1.0).max(1.0)).sqrt();
        (count > 0).then_some(Self { mean, sd, count })
    }

    /// Half the width of the 95 % band of the mean, `1.96 sd/√n`; none for a single value.
    pub fn half(&self) -> Option<f64> {
        (self.count > 1).then(|| 1.96 * self.sd / (self.count as f64).sqrt())
    }
}

/// The curve of values at places: at each, in ascending order, their mean.
#[cfg(feature = "llm")]
pub fn curve(values: impl IntoIterator<Item = (f64, f64)>) -> Vec<Point> {
    let mut all: Vec<(f64, f64)> = values.into_iter().collect();
    // Of one place in the order in which they came.
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let point = |here: &[(f64, f64)]| {
        let spread = Spread::of(here.iter().map(|(_, value)| *value))?;
        Some((here[0].0, spread.mean, spread.half()))
    };
    all.chunk_by(|a, b| a.0 == b.0).filter_map(point).collect()
}

/// A point of a curve: where it is, its mean, and half the width of its band if it has one.
pub type Point = (f64, f64, Option<f64>);

/// The 95 % interval of a frequency of `hits` in `tries` (Wilson), and the frequency itself.
pub fn frequency(hits: u64, tries: u64) -> (f64, [f64; 2]) {
    let (n, z2) = (tries.max(1) as f64, 1.96f64 * 1.96);
    let p = hits as f64 / n;
    let middle = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = (z2 * (p * (1.0 - p) / n + z2 / (4.0 * n * n))).sqrt() / (1.0 + z2 / n);
    (p, [(middle - half).max(0.0), (middle + half).min(1.0)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_and_intervals() {
        let pair = Spread::of([0.0, 2.0]).expect("two values");
        assert_eq!((pair.mean, pair.count), (1.0, 2));
        // sd = √2 over √n = √2.
        assert!(pair.half().is_some_and(|half| (half - 1.96).abs() < 1e-12));
        assert_eq!(Spread::of([3.0]).and_then(|s| s.half()), None);
        assert_eq!(Spread::of([]), None);
        // Wilson's interval of 10 in 100, as in any table.
        let (p, [low, high]) = frequency(10, 100);
        assert!(
            (p - 0.1).abs() < 1e-15 && (low - 0.0552).abs() < 1e-4 && (high - 0.1744).abs() < 1e-4
        );
        assert_eq!(frequency(0, 50).1[0], 0.0);
    }
}
