//! k-means clustering.
//!
//! Written out here (Lloyd's steps from k-means++ seeds) because the crates that offer it draw from
//! generators of their own, and rows must depend on this crate's streams only.

use nalgebra::DMatrix;

use crate::error::{Error, Result};
use crate::random::{Categorical, Stream};

/// Lloyd's steps before it gives up; on a few hundred points it needs some tens.
const MOST_STEPS: usize = 1000;

/// A clustering.
#[derive(Debug, Clone, PartialEq)]
pub struct Clusters {
    /// The cluster of each point.
    pub of: Vec<usize>,
    /// Centres, one row each.
    pub centres: DMatrix<f64>,
    /// `Σ |point − its centre|²`.
    pub inertia: f64,
}

fn squared(a: &DMatrix<f64>, i: usize, b: &DMatrix<f64>, j: usize) -> f64 {
    (a.row(i) - b.row(j)).norm_squared()
}

/// `clusters` clusters of the rows of `points`. No cluster is empty as long as there are that many
/// different points.
///
/// # Errors
/// No cluster, more clusters than points, or a coordinate that is not finite.
pub fn kmeans(points: &DMatrix<f64>, clusters: usize, stream: &mut Stream) -> Result<Clusters> {
    let n = points.nrows();
    if clusters == 0 || clusters > n {
        let remedy = format!("ask for 1 to {n}");
        return Err(Error::invalid(
            "clusters",
            format!("{clusters} of {n} points"),
            remedy,
        ));
    }
    if points.iter().any(|v| !v.is_finite()) {
        let problem = "a coordinate is not finite";
        return Err(Error::invalid("embeddings", problem, "give finite numbers"));
    }
    let mut centres = seeds(points, clusters, stream);
    let mut of = vec![usize::MAX; n];
    for _ in 0..MOST_STEPS {
        let nearest: Vec<usize> = (0..n).map(|i| closest(points, i, &centres).0).collect();
        let settled = nearest == of;
        of = nearest;
        if settled {
            break;
        }
        let mut sums = DMatrix::zeros(clusters, points.ncols());
        let mut count = vec![0.0; clusters];
        for (i, &k) in of.iter().enumerate() {
            let sum = sums.row(k) + points.row(i);
            sums.set_row(k, &sum);
            count[k] += 1.0;
        }
        for (k, &n) in count.iter().enumerate().filter(|(_, n)| **n > 0.0) {
            centres.set_row(k, &(sums.row(k) / n));
        }
    }
    let inertia = (0..n).map(|i| closest(points, i, &centres).1).sum();
    Ok(Clusters {
        of,
        centres,
        inertia,
    })
}

/// The nearest centre (the first of equals) and its squared distance.
fn closest(points: &DMatrix<f64>, i: usize, centres: &DMatrix<f64>) -> (usize, f64) {
    (0..centres.nrows())
        .map(|k| (k, squared(points, i, centres, k)))
        .fold((0, f64::INFINITY), |best, next| {
            if next.1 < best.1 { next } else { best }
        })
}

/// k-means++ (Arthur and Vassilvitskii 2007): each next seed is a point drawn in proportion to its
/// squared distance from those chosen.
fn seeds(points: &DMatrix<f64>, clusters: usize, stream: &mut Stream) -> DMatrix<f64> {
    let n = points.nrows();
    let mut chosen = vec![stream.below(n as u32) as usize];
    while chosen.len() < clusters {
        let far: Vec<f64> = (0..n)
            .map(|i| {
                let each = chosen.iter().map(|&j| squared(points, i, points, j));
                each.fold(f64::INFINITY, f64::min)
            })
            .collect();
        let next = if far.iter().any(|&d| d > 0.0) {
            Categorical::new(&far).draw(stream)
        } else {
            // All points are taken: any will do.
            stream.below(n as u32) as usize
        };
        chosen.push(next);
    }
    points.select_rows(&chosen)
}
