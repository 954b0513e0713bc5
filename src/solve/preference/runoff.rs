//! Limit of gradient flow when the labels are separable: the margins that grow, and the odds that are kept.
//!
//! Let groups be the arms that beat their way to each other, and let K beat L wherever an arm of K
//! ever beats one of L (never the reverse). Inside a group scores settle at its own Bradley–Terry
//! estimate; between groups margins grow as `s = ŵ ln t + ρ`, where
//!
//! * ŵ is the direction of the largest margin, `min Σ_K n_K ŵ_K²` with `ŵ_K − ŵ_L ≥ 1` wherever K
//!   beats L (n_K arms; Soudry et al. 2018, Ji and Telgarsky 2019);
//! * ρ balances the pulls that decay as 1/t: `Σ_L W_KL e^{−(ρ_K − ρ_L)} − Σ_L W_LK e^{−(ρ_L − ρ_K)} =
//!   n_K ŵ_K` over the pairs whose margin is 1, W_KL the mass of K's wins over L at the estimates;
//! * gradient flow keeps the sum of the scores of each connected component.
//!
//! All probability ends on the groups of the largest ŵ, at reference odds times e^{s/β}. For two arms
//! that nobody beats and that each beat a third, that is `(w_A/w_B)^{1/β}`, whatever the start.

use nalgebra::{DMatrix, DVector};

use super::estimate::{estimate, inside};
use crate::bandit::{Edge, Prompt};
use crate::error::{Error, Result};
use crate::solve::graph::{arm_list, listing};
use crate::solve::update::inner_preference_gradient;
use crate::solve::{Part, Rest, largest, tilt};

#[cfg(test)]
mod tests;

/// Most groups whose directions are looked for.
const GROUPS_CAP: usize = 300;

/// Newton's steps to a balance.
const MOST_STEPS: usize = 1_000;

/// Directions that differ by less are the same, and a margin that exceeds 1 by less is 1.
const LEVEL: f64 = 1e-9;

/// A pull that is smaller at the end bears no part of the balance.
const LOST: f64 = 1e-12;

/// The limit of gradient flow from the reference where some arms never lose to others.
///
/// # Errors
/// More than 300 groups of arms of which several are never beaten, or a group of more than 2,000 arms.
pub(super) fn limit(
    x: usize,
    prompt: &Prompt,
    edges: &[Edge],
    groups: &[Vec<usize>],
    parts: &[Vec<usize>],
    beta: f64,
) -> Result<Part> {
    let race = Race::new(prompt.arms(), edges, groups, parts);
    let tops = match race.only_top() {
        Some(top) => vec![top],
        None if groups.len() > GROUPS_CAP => {
            return Err(Error::TooLarge {
                what: "the run-off of several groups of arms that nobody beats",
                cap: GROUPS_CAP,
                prompt: x,
                arms: groups.len(),
            });
        }
        None => race.fastest(),
    };
    let mut scores = vec![f64::NEG_INFINITY; prompt.arms()];
    let mut inner = vec![0.0; prompt.arms()];
    for (k, group) in groups.iter().enumerate() {
        // What happens inside a group that loses all probability does not count.
        if tops.len() > 1 || tops.contains(&k) {
            let fitted = estimate(edges, group, x)?;
            group.iter().zip(fitted).for_each(|(&a, s)| inner[a] = s);
        }
    }
    let names = prompt.kept();
    let arms: Vec<usize> = tops
        .iter()
        .flat_map(|&k| groups[k].iter().copied())
        .collect();
    let levels = if tops.len() == 1 {
        Some(vec![0.0; groups.len()])
    } else {
        race.levels(edges, &inner)
    };
    let Some(levels) = levels else {
        let note = format!(
            "the labels are separable, and the margins of {} over the rest grow without bound; those \
             among them drift as ln ln t, and no limit of them is established",
            arm_list(&arms, names)
        );
        return Ok(Part::none("none: margins drift apart as ln ln t", note));
    };
    for &k in &tops {
        groups[k]
            .iter()
            .for_each(|&a| scores[a] = inner[a] + levels[k]);
    }
    let residual = tops.iter().map(|&k| {
        let members = inside(&groups[k], prompt.arms());
        largest(inner_preference_gradient(edges, &scores, &members))
    });
    let one_part = tops.iter().all(|&k| race.part[k] == race.part[tops[0]]);
    let listed: Vec<Vec<usize>> = tops.iter().map(|&k| groups[k].clone()).collect();
    let mut note = format!(
        "the labels are separable: no other arm ever beats one of {}, so the margin grows without \
         bound (as ln t) and they share all mass",
        arm_list(&arms, names)
    );
    if tops.len() > 1 {
        note += &format!(
            "; nothing compares {} with each other: gradient flow keeps the odds that its wins over the \
             rest make",
            listing(&listed, names)
        );
    }
    if !one_part {
        note += ", from the reference (the start moves them)";
    }
    Ok(Part {
        residual: largest(residual),
        log_policy: Some(tilt(prompt, scores.iter().map(|s| s / beta))),
        method: if tops.len() == 1 {
            "limit of gradient flow, no finite minimiser"
        } else {
            "limit of gradient flow, no finite minimiser: largest margin and balance"
        },
        unique: one_part,
        rest: Rest::Boundary,
        error: None,
        note: Some(note),
    })
}

/// Groups of arms and who beats whom.
struct Race<'a> {
    groups: &'a [Vec<usize>],
    /// The group of each arm.
    home: Vec<usize>,
    /// The connected component of each group.
    part: Vec<usize>,
    /// Pairs of groups, the winner first.
    beats: Vec<(usize, usize)>,
}

impl<'a> Race<'a> {
    fn new(arms: usize, edges: &[Edge], groups: &'a [Vec<usize>], parts: &[Vec<usize>]) -> Self {
        let (mut home, mut place) = (vec![0; arms], vec![0; arms]);
        for (k, group) in groups.iter().enumerate() {
            group.iter().for_each(|&a| home[a] = k);
        }
        for (p, part) in parts.iter().enumerate() {
            part.iter().for_each(|&a| place[a] = p);
        }
        let mut beats: Vec<(usize, usize)> = (edges.iter())
            .flat_map(|e| [(e.a, e.b, e.wins), (e.b, e.a, e.losses)])
            .filter(|(_, _, mass)| *mass > 0.0)
            .map(|(winner, loser, _)| (home[winner as usize], home[loser as usize]))
            .filter(|(k, l)| k != l)
            .collect();
        beats.sort_unstable();
        beats.dedup();
        Self {
            part: groups.iter().map(|group| place[group[0]]).collect(),
            groups,
            home,
            beats,
        }
    }

    /// The group that ends with everything, where one alone is never beaten among those that beat
    /// any.
    fn only_top(&self) -> Option<usize> {
        let mut tops: Vec<usize> = self.beats.iter().map(|&(k, _)| k).collect();
        tops.retain(|k| self.beats.iter().all(|(_, l)| l != k));
        tops.dedup();
        match tops.as_slice() {
            [top] => Some(*top),
            _ => None,
        }
    }

    fn size(&self, k: usize) -> f64 {
        self.groups[k].len() as f64
    }

    /// ŵ, by coordinate ascent on the multipliers of its margins (Hildreth).
    fn directions(&self) -> Vec<f64> {
        let share: Vec<f64> = (0..self.groups.len()).map(|k| 1.0 / self.size(k)).collect();
        let mut direction = vec![0.0f64; self.groups.len()];
        let mut multiplier = vec![0.0f64; self.beats.len()];
        let sweeps = (200_000_000 / self.beats.len().max(1)).min(100_000);
        for _ in 0..sweeps {
            let mut moved = 0.0f64;
            for (m, &(k, l)) in multiplier.iter_mut().zip(&self.beats) {
                let give = share[k] + share[l];
                let by = ((1.0 - direction[k] + direction[l]) / give).max(-*m);
                *m += by;
                direction[k] += by * share[k];
                direction[l] -= by * share[l];
                moved = moved.max(by.abs());
            }
            if moved < 1e-15 {
                break;
            }
        }
        direction
    }

    /// The groups of the largest ŵ.
    fn fastest(&self) -> Vec<usize> {
        let directions = self.directions();
        let most = directions.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        (0..directions.len())
            .filter(|&k| directions[k] > most - LEVEL)
            .collect()
    }

    /// ρ by Newton's method on the convex function whose gradient is its balance; none where that has
    /// no minimum, because a margin of 1 bears no part of the balance.
    fn levels(&self, edges: &[Edge], inner: &[f64]) -> Option<Vec<f64>> {
        let direction = self.directions();
        let n = direction.len();
        let mut pulls: Vec<(usize, usize, f64)> = Vec::new();
        for e in edges {
            let (a, b) = (e.a as usize, e.b as usize);
            for (winner, loser, mass) in [(a, b, e.wins), (b, a, e.losses)] {
                let (k, l) = (self.home[winner], self.home[loser]);
                if mass > 0.0 && k != l && direction[k] - direction[l] < 1.0 + LEVEL {
                    pulls.push((k, l, mass * (inner[loser] - inner[winner]).exp()));
                }
            }
        }
        let mut level = vec![0.0f64; n];
        let value = |level: &[f64]| -> f64 {
            let pull = pulls
                .iter()
                .map(|&(k, l, w)| w * (level[l] - level[k]).exp());
            let drift = (0..n).map(|k| self.size(k) * direction[k] * level[k]);
            pull.sum::<f64>() + drift.sum::<f64>()
        };
        for _ in 0..MOST_STEPS {
            let mut gradient: Vec<f64> = (0..n).map(|k| self.size(k) * direction[k]).collect();
            let mut hessian = DMatrix::<f64>::zeros(n, n);
            for &(k, l, w) in &pulls {
                let pull = w * (level[l] - level[k]).exp();
                gradient[k] -= pull;
                gradient[l] += pull;
                hessian[(k, k)] += pull;
                hessian[(l, l)] += pull;
                hessian[(k, l)] -= pull;
                hessian[(l, k)] -= pull;
            }
            // The sum over each component is kept: a penalty on it changes nothing else.
            for k in 0..n {
                for l in (0..n).filter(|&l| self.part[l] == self.part[k]) {
                    hessian[(k, l)] += self.size(k) * self.size(l);
                }
            }
            let step = hessian.lu().solve(&DVector::from_vec(gradient.clone()))?;
            let size = step.amax();
            let here = value(&level);
            let along = |length: f64| -> Vec<f64> {
                (level.iter().zip(step.iter()))
                    .map(|(r, s)| r - length * s)
                    .collect()
            };
            // A short step is Newton's own: the fall of the value may be below its rounding.
            let mut length = 1.0;
            while size > 1e-8 && value(&along(length)) > here {
                length /= 2.0;
            }
            level = along(length);
            if size < 1e-14 * (1.0 + largest(level.iter().copied())) {
                break;
            }
        }
        // Such a margin runs off, a unit a step, until its pull is lost beside the others, which are as
        // large as the drift nŵ that they balance.
        (pulls.iter())
            .all(|&(k, l, w)| w * (level[l] - level[k]).exp() > LOST)
            .then_some(level)
    }
}
