//! The pulls on the scores of one prompt: the terms of the loss and its gradient.

use super::elimination::Grounded;
use crate::backend::nd::softplus;
use crate::bandit::Edge;

/// What keeps scores from drifting off together.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ground {
    /// The bounding loss: `−ln σ(m − a)` of a winner and `−ln σ(m + a)` of a loser.
    Margin(f64),
    /// `½ λ a²`.
    Ridge(f64),
}

/// The loss of a table of scores on one prompt's comparisons:
/// `Σ wins·softplus(a_b − a_a) + losses·softplus(a_a − a_b)` and the ground.
pub(super) struct Pulls {
    /// Different arms, each pair once, in any order of mass.
    pub edges: Vec<Edge>,
    /// Mass of each arm's wins, pairs with itself included if they are counted.
    pub wins: Vec<f64>,
    /// Mass of each arm's losses.
    pub losses: Vec<f64>,
    pub ground: Ground,
}

/// `(σ(z), σ(−z))` by one exponential, neither losing digits.
pub(super) fn both(z: f64) -> (f64, f64) {
    let e = (-z.abs()).exp();
    let (large, small) = (1.0 / (1.0 + e), e / (1.0 + e));
    if z >= 0.0 {
        (large, small)
    } else {
        (small, large)
    }
}

/// A gradient and, arm by arm, the sum of the sizes of its terms.
pub(super) struct Gradient {
    pub of: Vec<f64>,
    pub terms: Vec<f64>,
}

impl Pulls {
    pub fn new(arms: usize, edges: &[Edge], own: bool, ground: Ground) -> Self {
        let (mut wins, mut losses) = (vec![0.0; arms], vec![0.0; arms]);
        for e in edges {
            let (a, b) = (e.a as usize, e.b as usize);
            if a == b {
                if own {
                    wins[a] += e.weight();
                    losses[a] += e.weight();
                }
                continue;
            }
            wins[a] += e.wins;
            losses[a] += e.losses;
            wins[b] += e.losses;
            losses[b] += e.wins;
        }
        let different = |e: &&Edge| e.a != e.b && e.weight() > 0.0;
        Self {
            edges: edges.iter().filter(different).copied().collect(),
            wins,
            losses,
            ground,
        }
    }

    pub fn arms(&self) -> usize {
        self.wins.len()
    }

    /// True if an arm takes part in any comparison.
    pub fn compared(&self, arm: usize) -> bool {
        self.wins[arm] + self.losses[arm] > 0.0
    }

    pub fn value(&self, scores: &[f64]) -> f64 {
        let pairs = self.edges.iter().map(|e| {
            let gap = scores[e.a as usize] - scores[e.b as usize];
            e.wins * softplus(-gap) + e.losses * softplus(gap)
        });
        let ground =
            (scores.iter().zip(&self.wins).zip(&self.losses)).map(|((&a, w), l)| {
                match self.ground {
                    Ground::Margin(m) => w * softplus(a - m) + l * softplus(-a - m),
                    Ground::Ridge(ridge) => 0.5 * ridge * a * a,
                }
            });
        pairs.sum::<f64>() + ground.sum::<f64>()
    }

    pub fn gradient(&self, scores: &[f64]) -> Gradient {
        let (mut of, mut terms) = (vec![0.0; self.arms()], vec![0.0; self.arms()]);
        for e in &self.edges {
            let (a, b) = (e.a as usize, e.b as usize);
            let (above, below) = both(scores[a] - scores[b]);
            let (down, up) = (e.losses * above, e.wins * below);
            of[a] += down - up;
            of[b] -= down - up;
            terms[a] += down + up;
            terms[b] += down + up;
        }
        for (a, &score) in scores.iter().enumerate() {
            let (down, up) = match self.ground {
                Ground::Margin(m) => (
                    self.wins[a] * both(score - m).0,
                    self.losses[a] * both(-score - m).0,
                ),
                Ground::Ridge(ridge) => (ridge * score.max(0.0), -ridge * score.min(0.0)),
            };
            of[a] += down - up;
            terms[a] += down + up;
        }
        Gradient { of, terms }
    }

    /// The Hessian, a grounded Laplacian.
    pub fn hessian(&self, scores: &[f64]) -> Grounded {
        let mut system = Grounded::new(self.arms());
        for e in &self.edges {
            let (a, b) = (e.a as usize, e.b as usize);
            let (s, t) = both(scores[a] - scores[b]);
            system.link(a, b, e.weight() * s * t);
        }
        for (a, &score) in scores.iter().enumerate() {
            system.ground[a] = match self.ground {
                Ground::Margin(m) => {
                    let ((s, t), (u, v)) = (both(score - m), both(-score - m));
                    self.wins[a] * s * t + self.losses[a] * u * v
                }
                Ground::Ridge(ridge) => ridge,
            };
        }
        system
    }
}
