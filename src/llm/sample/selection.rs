//! Examples to rehearse: of each cluster of prompts those with the best scores (selective rehearsal, Advantage Model,
//! section 3.3).

use nalgebra::DMatrix;

use crate::error::Result;
use crate::llm::model::decoder::Decoder;
use crate::llm::model::inference;
use crate::random::{Purpose, Stream};
use crate::stats::kmeans::kmeans;

/// An example that was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chosen {
    /// Which of the examples.
    pub example: usize,
    /// The cluster of its prompt.
    pub cluster: usize,
}

/// The prompts' embeddings, a row each: the mean over a prompt's tokens of the model's last hidden state, of length 1.
///
/// # Errors
/// Those of the model.
pub fn embeddings(model: &Decoder, prompts: &[&[u32]], budget: usize) -> Result<DMatrix<f64>> {
    let rows = inference::mean_hidden(model, prompts, budget)?;
    let width = rows.first().map_or(0, Vec::len);
    let mut points = DMatrix::zeros(rows.len(), width);
    for (i, row) in rows.iter().enumerate() {
        let length = row.iter().map(|x| x * x).sum::<f64>().sqrt();
        for (j, x) in row.iter().enumerate() {
            points[(i, j)] = if length > 0.0 { x / length } else { 0.0 };
        }
    }
    Ok(points)
}

/// The `kept` examples with the greatest scores of each cluster of prompts (of equal ones the first), in an order that
/// is shuffled over all clusters. `examples` are their prompts and scores.
///
/// # Errors
/// Those of [`kmeans`].
pub fn select(
    points: &DMatrix<f64>,
    examples: &[(usize, f64)],
    clusters: usize,
    kept: usize,
    seed: u64,
) -> Result<Vec<Chosen>> {
    let found = kmeans(points, clusters, &mut Stream::new(seed, Purpose::Start, 0))?;
    let mut of: Vec<Vec<usize>> = vec![Vec::new(); clusters];
    for (example, &(prompt, _)) in examples.iter().enumerate() {
        of[found.of[prompt]].push(example);
    }
    let mut chosen = Vec::new();
    for (cluster, mut members) in of.into_iter().enumerate() {
        members.sort_by(|&a, &b| examples[b].1.total_cmp(&examples[a].1));
        members.truncate(kept);
        chosen.extend(
            members
                .into_iter()
                .map(|example| Chosen { example, cluster }),
        );
    }
    Stream::new(seed, Purpose::Replay, 0).shuffle(&mut chosen);
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_each_cluster_are_chosen() {
        // Two groups of prompts, far apart.
        let points = DMatrix::from_row_slice(
            5,
            2,
            &[1.0, 0.0, 0.99, 0.1, 0.0, 1.0, 0.1, 0.99, 0.98, 0.15],
        );
        let scores = [[1.0, 9.0], [3.0, 2.0], [5.0, 7.0], [6.0, 7.0], [9.0, 0.0]];
        let examples: Vec<(usize, f64)> = (scores.iter().enumerate())
            .flat_map(|(prompt, s)| s.map(|score| (prompt, score)))
            .collect();
        let found = select(&points, &examples, 2, 2, 3).unwrap();
        let mut each: Vec<usize> = found.iter().map(|c| c.example).collect();
        each.sort_unstable();
        // 9 and 9 of prompts 0 and 4; 7 and 7 of prompts 2 and 3.
        assert_eq!(each, [1, 5, 7, 8]);
        let cluster = |example: usize| found.iter().find(|c| c.example == example).unwrap().cluster;
        assert!(cluster(1) == cluster(8) && cluster(5) == cluster(7) && cluster(1) != cluster(5));
        assert_eq!(select(&points, &examples, 2, 2, 3).unwrap(), found);
        // One cluster: the best of all. More than there are: all.
        let all = select(&points, &examples, 1, 3, 0).unwrap();
        assert!(all.iter().all(|c| [1, 8, 5, 7].contains(&c.example)) && all.len() == 3);
        assert_eq!(select(&points, &examples, 2, 100, 0).unwrap().len(), 10);
        assert!(select(&points, &examples, 6, 1, 0).is_err());
    }
}
