//! Damped Newton on a table of scores, free or on a hyperplane.

use super::pulls::Pulls;

/// Steps before it gives up.
const MOST_STEPS: usize = 300;

/// Relative balance after which one more step reaches rounding.
const BALANCED: f64 = 1e-12;

/// Part of an arm's links added to its ground: where the true ground is smaller, rounding would
/// otherwise move whole groups of arms; their common shift is found apart ([`super::shift`]).
const DAMPING: f64 = 1e-13;

/// Where Newton's steps ended.
pub(super) struct Found {
    pub scores: Vec<f64>,
    /// Largest entry of the gradient, on a hyperplane of its projection.
    pub residual: f64,
    /// The largest imbalance of up and down at an arm, relative to their sizes; 0 if that is rounding.
    pub off: f64,
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Minimises from `start`; with `normal` c, subject to `c·a = 0`.
pub(super) fn minimise(
    pulls: &Pulls,
    start: Vec<f64>,
    normal: Option<&[f64]>,
    reach: f64,
) -> Found {
    let mut scores = start;
    let (mut last, mut balance) = (false, f64::INFINITY);
    for _ in 0..MOST_STEPS {
        let gradient = pulls.gradient(&scores);
        let mut system = pulls.hessian(&scores);
        for a in 0..scores.len() {
            let links: f64 = system.links[a].iter().sum();
            system.ground[a] += DAMPING * links;
            for b in 0..a {
                system.ground[b] += DAMPING * system.links[a][b];
            }
        }
        let downhill: Vec<f64> = gradient.of.iter().map(|g| -g).collect();
        let (mut step, multiplier) = match normal {
            None => {
                let [step] = system.solve([downhill]);
                (step, 0.0)
            }
            Some(c) => {
                let [step, along] = system.solve([downhill, c.to_vec()]);
                let multiplier = (dot(c, &step) + dot(c, &scores)) / dot(c, &along);
                let step = step.iter().zip(&along).map(|(s, q)| s - multiplier * q);
                (step.collect(), multiplier)
            }
        };
        let c = |a: usize| normal.map_or(0.0, |c| c[a]);
        balance = (0..scores.len())
            .map(|a| {
                let force = multiplier * c(a);
                let size = gradient.terms[a] + force.abs();
                let left = (gradient.of[a] + force).abs();
                if left > 0.0 { left / size } else { 0.0 }
            })
            .fold(0.0, super::super::larger);
        let size = step.iter().map(|s| s.abs()).fold(0.0, f64::max);
        let polished = last;
        last = balance < BALANCED;
        if polished || size == 0.0 || !size.is_finite() {
            break;
        }
        // No score is further than the reach from any other place it may have to go.
        if size > reach {
            step.iter_mut().for_each(|s| *s *= reach / size);
        }
        let length = if last {
            1.0
        } else {
            along(pulls, &scores, &step)
        };
        (scores.iter_mut().zip(&step)).for_each(|(a, s)| *a += length * s);
    }
    let gradient = pulls.gradient(&scores);
    let multiplier = normal.map_or(0.0, |c| -dot(c, &gradient.of) / dot(c, c));
    let left =
        (0..scores.len()).map(|a| gradient.of[a] + multiplier * normal.map_or(0.0, |c| c[a]));
    Found {
        residual: super::super::largest(left),
        scores,
        off: if last { 0.0 } else { balance },
    }
}

/// How far to go along a direction of descent: the slope there is no longer downhill by much, nor
/// uphill. Only slopes are compared, since in the tails the loss itself has no digits left.
fn along(pulls: &Pulls, scores: &[f64], step: &[f64]) -> f64 {
    let slope = |length: f64| {
        let moved: Vec<f64> = (scores.iter().zip(step))
            .map(|(a, s)| a + length * s)
            .collect();
        dot(&pulls.gradient(&moved).of, step)
    };
    let first = slope(0.0);
    if first >= 0.0 {
        return 1.0;
    }
    let mut length = 1.0;
    let mut here = slope(length);
    if here < 0.5 * first {
        for _ in 0..60 {
            let further = slope(2.0 * length);
            if further > 0.0 {
                break;
            }
            length *= 2.0;
            if further > 0.5 * first || further == 0.0 {
                break;
            }
        }
        return length;
    }
    // By convexity the loss is lower wherever the slope is not uphill.
    for _ in 0..1100 {
        if here <= -0.1 * first {
            break;
        }
        length /= 2.0;
        here = slope(length);
    }
    length
}
