//! Means of values that come in clusters, such as several completions of a prompt.

use serde::Serialize;

use super::Estimate;
use super::bootstrap::Bootstrap;
use super::mean::{deviation, mean, t_interval};
use crate::random::Stream;

/// A mean over clusters: every cluster weighs the same, and only clusters are independent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Mean {
    /// The mean of the clusters' means.
    pub value: f64,
    /// Student's interval, from the spread of the clusters' means; none of a single cluster.
    pub t: Option<[f64; 2]>,
    /// The percentile bootstrap's interval, clusters drawn with replacement; none of a single cluster.
    pub bootstrap: Option<[f64; 2]>,
    /// The standard deviation of all values.
    pub sd: f64,
    /// Number of values.
    pub count: usize,
    /// Number of clusters.
    pub clusters: usize,
}

impl Mean {
    /// Interval of a mean of values on [0, 1], such as wins: no bound is beyond.
    #[must_use]
    pub fn of_shares(mut self) -> Self {
        self.t = self.t.map(|t| t.map(|bound| bound.clamp(0.0, 1.0)));
        self
    }
}

/// The mean of each cluster; `cluster` says which one a value is of, counted from 0. A cluster without
/// values is left out.
pub fn cluster_means(values: &[f64], cluster: &[usize]) -> Vec<f64> {
    let count = cluster.iter().max().map_or(0, |last| last + 1);
    let mut sums = vec![(0.0, 0usize); count];
    for (value, &at) in values.iter().zip(cluster) {
        sums[at].0 += value;
        sums[at].1 += 1;
    }
    let full = sums.into_iter().filter(|(_, n)| *n > 0);
    full.map(|(sum, n)| sum / n as f64).collect()
}

/// `Σ numerator / Σ denominator` with the percentile bootstrap's interval, clusters drawn with
/// replacement: such as entropy per token, of prompts with several completions. None where the
/// denominators add up to 0.
pub fn ratio(
    numerator: &[f64],
    denominator: &[f64],
    cluster: &[usize],
    bootstrap: &Bootstrap,
) -> Option<Estimate> {
    let count = cluster.iter().max().map_or(0, |last| last + 1);
    let mut sums = vec![[0.0; 2]; count];
    for ((n, d), &at) in numerator.iter().zip(denominator).zip(cluster) {
        sums[at][0] += n;
        sums[at][1] += d;
    }
    let sums: Vec<[f64; 2]> = sums.into_iter().filter(|s| s[1] != 0.0).collect();
    let divided = |drawn: &mut dyn Iterator<Item = [f64; 2]>| {
        let [n, d] = drawn.fold([0.0; 2], |a, b| [a[0] + b[0], a[1] + b[1]]);
        n / d
    };
    (!sums.is_empty()).then(|| {
        let value = divided(&mut sums.iter().copied());
        bootstrap.estimate(value, |stream| {
            let draw = |_| sums[stream.below(sums.len() as u32) as usize];
            divided(&mut (0..sums.len()).map(draw))
        })
    })
}

/// The mean over clusters with its intervals; none of no value.
pub fn clustered(values: &[f64], cluster: &[usize], bootstrap: &Bootstrap) -> Option<Mean> {
    let means = cluster_means(values, cluster);
    let resampled = |stream: &mut Stream| {
        let count = means.len();
        let draw = |_| means[stream.below(count as u32) as usize];
        (0..count).map(draw).sum::<f64>() / count as f64
    };
    (!means.is_empty()).then(|| Mean {
        value: mean(&means),
        t: t_interval(&means, bootstrap.level),
        bootstrap: (means.len() > 1).then(|| bootstrap.interval(resampled)),
        sd: deviation(values),
        count: values.len(),
        clusters: means.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_count_once() {
        let bootstrap = Bootstrap::default();
        // Copies of a value within a prompt tell nothing new.
        let (values, cluster) = ([1.0, 2.0, 4.0, 8.0], [0, 1, 2, 3]);
        let once = clustered(&values, &cluster, &bootstrap).unwrap();
        let copied: Vec<f64> = values.iter().flat_map(|&v| [v; 5]).collect();
        let of: Vec<usize> = cluster.iter().flat_map(|&c| [c; 5]).collect();
        let often = clustered(&copied, &of, &bootstrap).unwrap();
        assert_eq!(
            (once.value, once.t, once.bootstrap),
            (often.value, often.t, often.bootstrap)
        );
        assert_eq!((often.count, often.clusters), (20, 4));
        assert_eq!(once.value, 3.75);
        assert_eq!(once.t, t_interval(&values, 0.95));
        let uneven = clustered(&[1.0, 1.0, 1.0, 5.0], &[0, 0, 0, 2], &bootstrap).unwrap();
        assert_eq!((uneven.value, uneven.clusters), (3.0, 2));
        let one = clustered(&[1.0, 3.0], &[0, 0], &bootstrap).unwrap();
        assert_eq!((one.value, one.t, one.bootstrap), (2.0, None, None));
        assert_eq!(clustered(&[], &[], &bootstrap), None);
        let wide = clustered(&[0.0, 1.0], &[0, 1], &bootstrap)
            .unwrap()
            .of_shares();
        assert_eq!((wide.value, wide.t), (0.5, Some([0.0, 1.0])));
    }

    #[test]
    fn a_ratio_is_of_sums() {
        let bootstrap = Bootstrap::default();
        let found = ratio(&[1.0, 2.0, 9.0], &[2.0, 2.0, 4.0], &[0, 0, 1], &bootstrap).unwrap();
        assert_eq!(found.value, 1.5);
        // Of two clusters the resamples are 3/4 (a quarter), 12/8 (half), 9/4 (a quarter).
        assert_eq!((found.low, found.high), (0.75, 2.25));
        assert_eq!(ratio(&[], &[], &[], &bootstrap), None);
    }

    #[test]
    fn bootstrap_and_student_agree_for_many_clusters() {
        let values: Vec<f64> = (0..400).map(|i| f64::from((i * 37) % 101)).collect();
        let cluster: Vec<usize> = (0..400).collect();
        let found = clustered(&values, &cluster, &Bootstrap::default()).unwrap();
        let (t, b) = (found.t.unwrap(), found.bootstrap.unwrap());
        let width = t[1] - t[0];
        // The bootstrap's deviation is √((n − 1)/n) of Student's; its own error is a hundredth.
        assert!((t[0] - b[0]).abs() < 0.05 * width && (t[1] - b[1]).abs() < 0.05 * width);
    }
}
