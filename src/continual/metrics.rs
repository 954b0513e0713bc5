//! Metrics of continual learning: what is kept and what is forgotten (COPR, appendix C).
//!
//! `a[k][j]` is the accuracy on task j after learning task k, both counted from 0; only `j ≤ k` is
//! read. `k` names the last task learned, so metrics "at the k-th task" of the paper are those of
//! `k − 1` here.

/// `AA_k`, the mean accuracy over the tasks seen (eq. 29).
pub fn average_accuracy(a: &[Vec<f64>], k: usize) -> f64 {
    mean(a[k][..=k].iter().copied())
}

/// `AIA_k`, the mean of `AA_0 … AA_k` (eq. 30).
pub fn average_incremental_accuracy(a: &[Vec<f64>], k: usize) -> f64 {
    mean((0..=k).map(|i| average_accuracy(a, i)))
}

/// `BWT_k`, the mean over old tasks j of `a_kj − a_jj` (eq. 33); none after the first task, where
/// the paper's is 0/0.
pub fn backward_transfer(a: &[Vec<f64>], k: usize) -> Option<f64> {
    (k > 0).then(|| mean((0..k).map(|j| a[k][j] - a[j][j])))
}

/// `FM_k`, the mean over old tasks j of `max_i a_ij − a_kj` (eq. 31 and 32); none after the first
/// task.
///
/// The maximum runs over `i = j … k − 1`, the times at which task j had been learned. (Printed from
/// the first task on, where `a_ij` is not defined.) So `FM ≥ −BWT`.
pub fn forgetting(a: &[Vec<f64>], k: usize) -> Option<f64> {
    (k > 0).then(|| mean((0..k).map(|j| best(a, j..k, j) - a[k][j])))
}

/// `FM_k` with the maximum over all times before k, as printed: it needs the accuracies on tasks not
/// yet learned too.
pub fn forgetting_as_printed(a: &[Vec<f64>], k: usize) -> Option<f64> {
    (k > 0).then(|| mean((0..k).map(|j| best(a, 0..k, j) - a[k][j])))
}

/// All of them, one entry per task learned.
#[derive(Debug, Clone, PartialEq)]
pub struct Metrics {
    /// AA.
    pub average_accuracy: Vec<f64>,
    /// AIA.
    pub average_incremental_accuracy: Vec<f64>,
    /// BWT, none for the first task.
    pub backward_transfer: Vec<Option<f64>>,
    /// FM, none for the first task.
    pub forgetting: Vec<Option<f64>>,
}

impl Metrics {
    /// The metrics of an accuracy matrix whose row k has at least k + 1 entries.
    pub fn of(a: &[Vec<f64>]) -> Self {
        let tasks = 0..a.len();
        Self {
            average_accuracy: tasks.clone().map(|k| average_accuracy(a, k)).collect(),
            average_incremental_accuracy: (tasks.clone())
                .map(|k| average_incremental_accuracy(a, k))
                .collect(),
            backward_transfer: tasks.clone().map(|k| backward_transfer(a, k)).collect(),
            forgetting: tasks.map(|k| forgetting(a, k)).collect(),
        }
    }
}

fn best(a: &[Vec<f64>], times: std::ops::Range<usize>, j: usize) -> f64 {
    times.map(|i| a[i][j]).fold(f64::NEG_INFINITY, f64::max)
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0u32), |(sum, n), v| (sum + v, n + 1));
    sum / f64::from(count)
}
