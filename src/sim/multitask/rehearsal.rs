//! Selective rehearsal: which responses of the initial policy are kept for a log-likelihood term.

use nalgebra::DMatrix;

use super::MultiTask;
use crate::bandit::Policy;
use crate::error::Result;
use crate::random::{Categorical, Purpose, Stream};
use crate::stats::kmeans::kmeans;

/// One kept example.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kept {
    /// Its prompt.
    pub prompt: usize,
    /// Its response.
    pub arm: usize,
    /// The cluster it stands for.
    pub cluster: usize,
    /// Its score.
    pub score: f64,
}

/// Draws `each` responses of `policy` for every training prompt, groups the prompts into `clusters`
/// by their embeddings, keeps the `top` (x, y) of the highest score in each cluster and shuffles
/// them. A response drawn twice for a prompt counts once.
///
/// # Errors
/// No cluster, or more than there are training prompts.
pub fn select(
    tasks: &MultiTask,
    policy: &Policy,
    scores: &[Vec<f64>],
    (clusters, top, each): (usize, usize, usize),
    seed: u64,
) -> Result<Vec<Kept>> {
    let prompts: Vec<usize> = (0..tasks.groups().len())
        .filter(|&x| tasks.trained(x))
        .collect();
    let width = tasks.embeddings()[0].len();
    let points = DMatrix::from_fn(prompts.len(), width, |i, j| {
        tasks.embeddings()[prompts[i]][j]
    });
    let mut start = Stream::new(seed, Purpose::Start, 0);
    let found = kmeans(&points, clusters, &mut start)?;
    let mut responses = Stream::new(seed, Purpose::Responses, 0);
    let mut pool: Vec<Kept> = Vec::new();
    for (&prompt, &cluster) in prompts.iter().zip(&found.of) {
        let law: Vec<f64> = policy.log()[prompt].iter().map(|l| l.exp()).collect();
        let law = Categorical::new(&law);
        let mut drawn: Vec<usize> = (0..each).map(|_| law.draw(&mut responses)).collect();
        drawn.sort_unstable();
        drawn.dedup();
        pool.extend(drawn.into_iter().map(|arm| Kept {
            prompt,
            arm,
            cluster,
            score: scores[prompt][arm],
        }));
    }
    // Best first within each cluster; the sort is stable, so equals stay in the order of prompts.
    pool.sort_by(|a, b| a.cluster.cmp(&b.cluster).then(b.score.total_cmp(&a.score)));
    let mut kept: Vec<Kept> = (pool.chunk_by(|a, b| a.cluster == b.cluster))
        .flat_map(|cluster| cluster.iter().take(top).copied())
        .collect();
    Stream::new(seed, Purpose::Order, 0).shuffle(&mut kept);
    Ok(kept)
}
