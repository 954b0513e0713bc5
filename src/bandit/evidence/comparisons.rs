//! Distribution of the compared pairs of arms, and the preferences between them.

use std::collections::BTreeMap;

use crate::backend::nd::sigmoid;
use crate::bandit::law::PairLaw;
use crate::bandit::logistic::half_logistic_sums;

/// The comparisons of two arms, in either order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Edge {
    /// One arm.
    pub a: u32,
    /// The other, not smaller; equal for pairs of an arm with itself.
    pub b: u32,
    /// Mass of the comparisons that `a` wins.
    pub wins: f64,
    /// Mass of those that `b` wins.
    pub losses: f64,
}

impl Edge {
    /// `w_ab`, the mass of the comparisons of a and b.
    pub fn weight(&self) -> f64 {
        self.wins + self.losses
    }
}

/// Mass of the comparisons of each pair of arms, and the share that each of the two wins.
#[derive(Debug, Clone)]
pub enum Comparisons {
    /// Two product laws with Bradley–Terry labels of the prompt's rewards; never tabulated, since
    /// there are K² of them.
    Product {
        /// μ₁.
        first: Vec<f64>,
        /// μ₂.
        second: Vec<f64>,
    },
    /// Listed pairs.
    Listed {
        /// Each unordered pair once, sorted.
        edges: Vec<Edge>,
        /// Whether the wins follow the Bradley–Terry model of the prompt's rewards exactly.
        bradley_terry: bool,
    },
}

impl Comparisons {
    pub(super) fn from_law(law: &PairLaw, reward: &[f64]) -> Self {
        match law {
            PairLaw::Product { first, second } => Self::Product {
                first: first.clone(),
                second: second.clone(),
            },
            PairLaw::Joint { entries, .. } => Self::Listed {
                edges: merge(
                    entries
                        .iter()
                        .map(|&(y, z, p)| labelled(y, z, p, None, reward)),
                ),
                bradley_terry: true,
            },
        }
    }

    /// `Σ_b w_ab (v_a − v_b)` for each arm: the graph Laplacian applied to v.
    pub fn laplacian(&self, v: &[f64]) -> Vec<f64> {
        match self {
            Self::Product { first, second } => {
                // Centring first keeps the differences accurate.
                let mean =
                    |law: &[f64]| dot(law, v) / law.iter().sum::<f64>().max(f64::MIN_POSITIVE);
                let (m1, m2) = (mean(first), mean(second));
                let (s1, s2) = (first.iter().sum::<f64>(), second.iter().sum::<f64>());
                (v.iter().zip(first).zip(second))
                    .map(|((v, p), q)| p * s2 * (v - m2) + q * s1 * (v - m1))
                    .collect()
            }
            Self::Listed { edges, .. } => {
                let mut sum = vec![0.0; v.len()];
                for e in edges {
                    let (a, b) = (e.a as usize, e.b as usize);
                    let flow = e.weight() * (v[a] - v[b]);
                    sum[a] += flow;
                    sum[b] -= flow;
                }
                sum
            }
        }
    }

    /// `Σ_b w_ab (p_ab − ½)` for each arm, `p_ab` being how often a wins.
    pub fn pull(&self, reward: &[f64]) -> Vec<f64> {
        match self {
            Self::Product { .. } => self.logistic_pull(reward),
            Self::Listed { edges, .. } => {
                let mut sum = vec![0.0; reward.len()];
                for e in edges {
                    let pull = 0.5 * (e.wins - e.losses);
                    sum[e.a as usize] += pull;
                    sum[e.b as usize] -= pull;
                }
                sum
            }
        }
    }

    /// `Σ_b w_ab (σ(v_a − v_b) − ½)` for each arm.
    pub fn logistic_pull(&self, v: &[f64]) -> Vec<f64> {
        match self {
            Self::Product { first, second } => (half_logistic_sums(v, first, second).into_iter())
                .zip(first.iter().zip(second))
                .map(|((under_first, under_second), (p, q))| p * under_second + q * under_first)
                .collect(),
            Self::Listed { edges, .. } => {
                let mut sum = vec![0.0; v.len()];
                for e in edges {
                    let (a, b) = (e.a as usize, e.b as usize);
                    let pull = e.weight() * 0.5 * ((v[a] - v[b]) / 2.0).tanh();
                    sum[a] += pull;
                    sum[b] -= pull;
                }
                sum
            }
        }
    }

    /// The listed pairs, tabulating a product law if need be.
    pub fn edges(&self, reward: &[f64]) -> Vec<Edge> {
        match self {
            Self::Listed { edges, .. } => edges.clone(),
            Self::Product { first, second } => {
                let k = first.len();
                let mut edges = Vec::with_capacity(k * (k + 1) / 2);
                for a in 0..k {
                    for b in a..k {
                        let weight = pair_weight(first, second, a, b);
                        edges.push(labelled(a as u32, b as u32, weight, None, reward));
                    }
                }
                edges
            }
        }
    }
}

/// `w_ab = μ₁(a)μ₂(b) + μ₁(b)μ₂(a)`, or `μ₁(a)μ₂(a)` for an arm with itself.
pub(in crate::bandit) fn pair_weight(first: &[f64], second: &[f64], a: usize, b: usize) -> f64 {
    if a == b {
        first[a] * second[a]
    } else {
        first[a] * second[b] + first[b] * second[a]
    }
}

/// An edge of mass `p` for the pair (y, z); without a label, Bradley–Terry decides.
pub(super) fn labelled(y: u32, z: u32, p: f64, label: Option<f64>, reward: &[f64]) -> Edge {
    let gap = reward[y as usize] - reward[z as usize];
    let (wins, losses) = match label {
        Some(q) => (p * q, p * (1.0 - q)),
        None => (p * sigmoid(gap), p * sigmoid(-gap)),
    };
    if y <= z {
        Edge {
            a: y,
            b: z,
            wins,
            losses,
        }
    } else {
        Edge {
            a: z,
            b: y,
            wins: losses,
            losses: wins,
        }
    }
}

/// Each unordered pair once, sorted.
pub(super) fn merge(edges: impl Iterator<Item = Edge>) -> Vec<Edge> {
    let mut sum = BTreeMap::new();
    for e in edges {
        let (wins, losses) = sum.entry((e.a, e.b)).or_insert((0.0, 0.0));
        *wins += e.wins;
        *losses += e.losses;
    }
    (sum.into_iter())
        .map(|((a, b), (wins, losses))| Edge { a, b, wins, losses })
        .collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a product of laws that need not sum to one: w_ab = p_a q_b + q_a p_b, summed arm by arm.
    #[test]
    fn a_laplacian_is_a_sum_over_pairs() {
        let (p, q, v) = ([0.5, 0.25, 0.5], [0.125, 0.25, 0.125], [1.0, -2.0, 4.0]);
        let pairs = Comparisons::Product {
            first: p.to_vec(),
            second: q.to_vec(),
        };
        let right = |a: usize| -> f64 {
            (0..3)
                .map(|b| (p[a] * q[b] + q[a] * p[b]) * (v[a] - v[b]))
                .sum()
        };
        for (a, found) in pairs.laplacian(&v).into_iter().enumerate() {
            assert!(
                (found - right(a)).abs() < 1e-15,
                "{a}: {found}, not {}",
                right(a)
            );
        }
    }
}
