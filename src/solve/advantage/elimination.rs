//! Linear systems of a comparison graph with a ground: `(L + D) v = r`.

use rayon::prelude::*;

/// Rows beyond which the elimination of one arm is shared among threads.
const PARALLEL: usize = 256;

/// Symmetric links between arms (row i holds those to 0 … i−1) and each arm's link to the ground,
/// all non-negative.
pub(super) struct Grounded {
    /// `c_ab`, lower triangle.
    pub links: Vec<Vec<f64>>,
    /// `d_a`.
    pub ground: Vec<f64>,
}

impl Grounded {
    /// A system without links.
    pub fn new(arms: usize) -> Self {
        Self {
            links: (0..arms).map(|i| vec![0.0; i]).collect(),
            ground: vec![0.0; arms],
        }
    }

    /// Adds a link between two different arms.
    pub fn link(&mut self, a: usize, b: usize, weight: f64) {
        self.links[a.max(b)][a.min(b)] += weight;
    }

    /// Solves `Σ_b c_ab (v_a − v_b) + d_a v_a = r_a` for several right sides at once.
    ///
    /// One arm after the other is eliminated, its star replaced by a mesh. No weight is ever
    /// subtracted, so links of any range of sizes keep their digits. An arm without any link stays
    /// at 0.
    pub fn solve<const N: usize>(mut self, mut r: [Vec<f64>; N]) -> [Vec<f64>; N] {
        let arms = self.ground.len();
        let mut degree = vec![0.0; arms];
        for k in (0..arms).rev() {
            let (head, tail) = self.links.split_at_mut(k);
            let row = &tail[0];
            degree[k] = row.iter().sum::<f64>() + self.ground[k];
            if degree[k] < f64::MIN_POSITIVE {
                continue;
            }
            let eliminate = |(i, target): (usize, &mut Vec<f64>)| {
                let share = row[i] / degree[k];
                if share > 0.0 {
                    (target.iter_mut().zip(row)).for_each(|(t, link)| *t += share * link);
                }
            };
            if k > PARALLEL {
                head.par_iter_mut()
                    .with_min_len(32)
                    .enumerate()
                    .for_each(eliminate);
            } else {
                head.iter_mut().enumerate().for_each(eliminate);
            }
            for (i, link) in row.iter().enumerate() {
                let share = link / degree[k];
                self.ground[i] += share * self.ground[k];
                for r in &mut r {
                    r[i] += share * r[k];
                }
            }
        }
        for v in &mut r {
            for k in 0..arms {
                if degree[k] < f64::MIN_POSITIVE {
                    v[k] = 0.0;
                    continue;
                }
                let pull: f64 = (self.links[k].iter().zip(&v[..k]))
                    .map(|(c, v)| c * v)
                    .sum();
                v[k] = (v[k] + pull) / degree[k];
            }
        }
        r
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn solves_what_it_says_at_every_scale() {
        for arms in [1, 2, 7, 300] {
            let mut system = Grounded::new(arms);
            let scale = |i: usize| 10f64.powi((i * 7 % 13) as i32 - 6);
            for a in 0..arms {
                for b in 0..a {
                    system.link(a, b, scale(a + b));
                }
                system.ground[a] = 1e-3 * scale(a);
            }
            let (links, ground) = (system.links.clone(), system.ground.clone());
            let wanted: Vec<f64> = (0..arms).map(|a| (a as f64).cos()).collect();
            let degree = |a: usize| {
                let links = (0..arms)
                    .filter(|&b| b != a)
                    .map(|b| links[a.max(b)][a.min(b)]);
                links.sum::<f64>() + ground[a]
            };
            let [v, zero] = system.solve([wanted.clone(), vec![0.0; arms]]);
            assert_eq!(zero, vec![0.0; arms]);
            for a in 0..arms {
                let links = (0..arms)
                    .filter(|&b| b != a)
                    .map(|b| links[a.max(b)][a.min(b)] * (v[a] - v[b]));
                let left = links.sum::<f64>() + ground[a] * v[a];
                let size = 1.0 + degree(a) * v.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
                assert!(
                    (left - wanted[a]).abs() < 1e-13 * size,
                    "{arms} {a}: {left} {}",
                    wanted[a]
                );
            }
        }
    }
}
