//! Laplacian systems `L_w v = r` of a comparison graph.

use super::CUBIC_CAP;
use crate::bandit::Edge;
use crate::error::{Error, Result};

/// Product laws: `L = diag(m) − μ₁μ₂ᵀ − μ₂μ₁ᵀ` on the arms with `m = μ₁ + μ₂ > 0`. In the gauge
/// `μ₂·v = 0` two equations remain, and every quantity is a sum of positive terms.
///
/// `r` must sum to zero. Returns v, 0 where m is 0.
pub(super) fn solve_product(first: &[f64], second: &[f64], r: &[f64]) -> Vec<f64> {
    let over_mass = |p: f64, m: f64| if m > 0.0 { p / m } else { 0.0 };
    let (mut numerator, mut denominator) = (0.0, 0.0);
    for ((&p, &q), &r) in first.iter().zip(second).zip(r) {
        let share = over_mass(p, p + q);
        numerator += share * r;
        denominator += share * p;
    }
    let along_first = numerator / denominator;
    (first.iter().zip(second).zip(r))
        .map(|((&p, &q), &r)| over_mass(r + q * along_first, p + q))
        .collect()
}

/// A listed graph that connects `arms`: eliminates one arm after the other, replacing its star by
/// a mesh. No weight is ever subtracted, so weights of any range of sizes keep their digits.
///
/// `r` must sum to zero over `arms`. Returns v over `arms`, the first at 0.
///
/// # Errors
/// More than 2,000 arms: time grows with the cube.
pub(super) fn solve_listed(
    edges: &[Edge],
    weight: impl Fn(&Edge) -> f64,
    arms: &[usize],
    r: &[f64],
    prompt: usize,
) -> Result<Vec<f64>> {
    let n = arms.len();
    if n > CUBIC_CAP {
        return Err(Error::TooLarge {
            what: "a linear system over listed pairs",
            cap: CUBIC_CAP,
            prompt,
            arms: n,
        });
    }
    let top = arms.last().map_or(0, |a| a + 1);
    let mut position = vec![usize::MAX; top];
    for (i, &a) in arms.iter().enumerate() {
        position[a] = i;
    }
    let mut w = vec![0.0; n * n];
    for e in edges {
        let (a, b) = (e.a as usize, e.b as usize);
        if a == b || b >= top || position[a] == usize::MAX || position[b] == usize::MAX {
            continue;
        }
        let (i, j) = (position[a], position[b]);
        w[i * n + j] += weight(e);
        w[j * n + i] += weight(e);
    }
    let mut r: Vec<f64> = arms.iter().map(|&a| r[a]).collect();
    let mut degree = vec![0.0; n];
    for k in (1..n).rev() {
        let (head, row) = w.split_at_mut(k * n);
        let row = &row[..k];
        degree[k] = row.iter().sum();
        for (i, &link) in row.iter().enumerate().filter(|(_, link)| **link > 0.0) {
            let share = link / degree[k];
            r[i] += share * r[k];
            for (target, &other) in head[i * n..i * n + k].iter_mut().zip(row) {
                *target += share * other;
            }
        }
    }
    let mut v = vec![0.0; n];
    for k in 1..n {
        let pull: f64 = (0..k).map(|i| w[k * n + i] * v[i]).sum();
        v[k] = (r[k] + pull) / degree[k];
    }
    Ok(v)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bandit::Comparisons;

    fn check(pairs: &Comparisons, v: &[f64], r: &[f64], tolerance: f64) {
        for (got, want) in pairs.laplacian(v).iter().zip(r) {
            assert!((got - want).abs() <= tolerance, "{got} {want}");
        }
    }

    #[test]
    fn product_laws_with_an_uncovered_arm() {
        let first = vec![0.1, 0.0, 0.7, 0.2, 0.0];
        let second = vec![0.0, 0.3, 0.5, 0.2, 0.0];
        let r = [0.3, -0.1, 0.25, -0.45, 0.0];
        let v = solve_product(&first, &second, &r);
        assert_eq!(v[4], 0.0);
        check(&Comparisons::Product { first, second }, &v, &r, 1e-15);
    }

    #[test]
    fn listed_pairs_of_every_size() {
        let edge = |a, b, weight: f64| Edge {
            a,
            b,
            wins: weight,
            losses: 0.0,
        };
        let edges = vec![
            edge(0, 2, 1e-8),
            edge(2, 3, 1.0),
            edge(0, 3, 0.5),
            edge(3, 3, 9.0),
            edge(3, 5, 2.0),
            edge(1, 4, 7.0),
        ];
        let r = [0.5, 0.0, -0.25, 0.5, 0.0, -0.75];
        let arms = [0, 2, 3, 5];
        let part = solve_listed(&edges, Edge::weight, &arms, &r, 0).unwrap();
        let mut v = vec![0.0; 6];
        for (&a, x) in arms.iter().zip(&part) {
            v[a] = *x;
        }
        check(
            &Comparisons::Listed {
                edges,
                bradley_terry: false,
            },
            &v,
            &r,
            1e-15,
        );
    }

    #[test]
    fn a_chain_of_tiny_weights_is_exact() {
        // A path 0 – 1 – 2 carries the current r, so v₁ − v₀ = −r₀/w₀₁, and so on.
        let edges = [
            Edge {
                a: 0,
                b: 1,
                wins: 1e-200,
                losses: 0.0,
            },
            Edge {
                a: 1,
                b: 2,
                wins: 1e100,
                losses: 0.0,
            },
        ];
        let r = [1e-200, -1.5e-200, 0.5e-200];
        let v = solve_listed(&edges, Edge::weight, &[0, 1, 2], &r, 0).unwrap();
        assert!((v[1] - v[0] + 1.0).abs() < 1e-15, "{v:?}");
    }

    #[test]
    fn too_many_arms_are_refused() {
        let arms: Vec<usize> = (0..=CUBIC_CAP).collect();
        let r = vec![0.0; arms.len()];
        let error = solve_listed(&[], Edge::weight, &arms, &r, 3)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("limited to 2000 arms and prompt 3 has 2001"),
            "{error}"
        );
    }
}
