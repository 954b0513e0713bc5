//! Rewards made of ranks.

use crate::backend::nd::sigmoid;
pub use crate::bandit::population::linear_advantage;

/// Linear advantages of responses ranked by `rewards`, in the order given.
///
/// The paper has no rule for ties. Here equal rewards share the mean of the ranks they span, so
/// duplicates of a response get one advantage and the plain mean stays zero.
pub fn linear_advantages(rewards: &[f64]) -> Vec<f64> {
    let len = rewards.len();
    let mut order: Vec<usize> = (0..len).collect();
    order.sort_by(|&a, &b| rewards[a].total_cmp(&rewards[b]));
    let mut advantages = vec![0.0; len];
    for tied in order.chunk_by(|&a, &b| rewards[a] == rewards[b]) {
        let below = order.partition_point(|&a| rewards[a] < rewards[tied[0]]);
        // Ranks below + 1 … below + n: twice their mean is an integer, so nothing is rounded.
        let twice_mean = 2 * below + tied.len() + 1;
        let advantage = (twice_mean as f64 - len as f64 - 1.0) / len as f64;
        tied.iter().for_each(|&a| advantages[a] = advantage);
    }
    advantages
}

/// `G_j`, the gradient of all pairwise ranking losses with respect to the reward of the response of
/// rank j (eq. 27): `−Σ_{k<j} σ(r_k − r_j) + Σ_{k>j} σ(r_j − r_k)`, rewards listed worst first.
///
/// At equal rewards `−G_j = (2j − J − 1)/2`, so one descent step of 2/J from zero makes
/// [`linear_advantage`].
pub fn ranking_gradient(rewards: &[f64]) -> Vec<f64> {
    (rewards.iter().enumerate())
        .map(|(j, r)| {
            let below: f64 = rewards[..j].iter().map(|k| sigmoid(k - r)).sum();
            let above: f64 = rewards[j + 1..].iter().map(|k| sigmoid(r - k)).sum();
            above - below
        })
        .collect()
}
