//! Groups of arms that hold together far more strongly than anything else holds them: their common
//! shift is where the pulls from outside balance, found in log space.
//!
//! With a large margin the bounding loss is e⁻ᵐ of the ranking loss, so in the sum of all pulls
//! its digits are lost; without the pulls inside the group (which cancel exactly) none are.

use super::pulls::{Ground, Pulls};
use crate::backend::nd::softplus;
use crate::bandit::log_sum_exp;

/// A group is moved as one where the strongest hold from outside is less than this part of the
/// weakest inside.
const SOFT: f64 = 1e-3;

/// Sweeps over the groups before giving up.
const MOST_SWEEPS: usize = 500;

fn log_sigmoid(z: f64) -> f64 {
    -softplus(-z)
}

/// Moves every soft group until none moves; the largest movement of the last sweep, relative to
/// the scores, or nothing where there is no soft group.
pub(super) fn settle(pulls: &Pulls, scores: &mut [f64]) -> Option<f64> {
    let Ground::Margin(margin) = pulls.ground else {
        return None;
    };
    let groups = soft(pulls, margin, scores);
    if groups.is_empty() {
        return None;
    }
    let size = 1.0 + scores.iter().map(|a| a.abs()).fold(0.0, f64::max);
    let mut moved = f64::INFINITY;
    for _ in 0..MOST_SWEEPS {
        moved = 0.0;
        for group in &groups {
            let shift = balance(pulls, margin, scores, group);
            group.iter().for_each(|&a| scores[a] += shift);
            moved = f64::max(moved, shift.abs() / size);
        }
        if moved < 4.0 * f64::EPSILON {
            break;
        }
    }
    Some(moved)
}

/// The soft groups at these scores. Joining arms along their strongest links first (Kruskal) makes
/// every group that can be soft.
fn soft(pulls: &Pulls, margin: f64, scores: &[f64]) -> Vec<Vec<usize>> {
    let hold = |z: f64| log_sigmoid(z) + log_sigmoid(-z);
    let mut links: Vec<(f64, usize, usize)> = (pulls.edges.iter())
        .map(|e| {
            let (a, b) = (e.a as usize, e.b as usize);
            (e.weight().ln() + hold(scores[a] - scores[b]), a, b)
        })
        .collect();
    links.sort_by(|x, y| y.0.total_cmp(&x.0));
    let ground: Vec<f64> = (0..pulls.arms())
        .map(|a| {
            let up = pulls.losses[a].ln() + hold(scores[a] + margin);
            let down = pulls.wins[a].ln() + hold(scores[a] - margin);
            up.max(down)
        })
        .collect();
    struct Group {
        members: Vec<usize>,
        inside: f64,
        ground: f64,
    }
    let mut home: Vec<usize> = (0..pulls.arms()).collect();
    let mut groups: Vec<Option<Group>> = (0..pulls.arms())
        .map(|a| {
            Some(Group {
                members: vec![a],
                inside: (pulls.wins[a] + pulls.losses[a]).ln(),
                ground: ground[a],
            })
        })
        .collect();
    let mut found = Vec::new();
    let mut note = |group: &Group, outside: f64| {
        if outside.max(group.ground) < group.inside + SOFT.ln() {
            found.push(group.members.clone());
        }
    };
    for (strength, a, b) in links {
        let (a, b) = (home[a], home[b]);
        if a == b {
            continue;
        }
        let (Some(mut one), Some(mut other)) = (groups[a].take(), groups[b].take()) else {
            continue;
        };
        note(&one, strength);
        note(&other, strength);
        let to = if one.members.len() < other.members.len() {
            std::mem::swap(&mut one, &mut other);
            b
        } else {
            a
        };
        other.members.iter().for_each(|&arm| home[arm] = to);
        one.members.append(&mut other.members);
        one.inside = strength;
        one.ground = one.ground.max(other.ground);
        groups[to] = Some(one);
    }
    for group in groups.iter().flatten() {
        note(group, f64::NEG_INFINITY);
    }
    found.retain(|group| group.iter().all(|&a| pulls.compared(a)));
    found
}

/// The common shift of a group at which the pulls on it from outside balance.
fn balance(pulls: &Pulls, margin: f64, scores: &[f64], group: &[usize]) -> f64 {
    let mut inside = vec![false; pulls.arms()];
    group.iter().for_each(|&a| inside[a] = true);
    // ln weight and argument of each pull: up falls with the shift, down rises.
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for e in &pulls.edges {
        let (a, b) = (e.a as usize, e.b as usize);
        let gap = scores[a] - scores[b];
        let (wins, losses, gap) = match (inside[a], inside[b]) {
            (true, false) => (e.wins, e.losses, gap),
            (false, true) => (e.losses, e.wins, -gap),
            _ => continue,
        };
        up.push((wins.ln(), -gap));
        down.push((losses.ln(), gap));
    }
    for &a in group {
        up.push((pulls.losses[a].ln(), -margin - scores[a]));
        down.push((pulls.wins[a].ln(), scores[a] - margin));
    }
    let total = |terms: &[(f64, f64)], shift: f64| -> f64 {
        let each: Vec<f64> = (terms.iter())
            .filter(|(weight, _)| *weight > f64::NEG_INFINITY)
            .map(|(weight, z)| weight + log_sigmoid(z + shift))
            .collect();
        log_sum_exp(&each)
    };
    let excess = |shift: f64| total(&up, -shift) - total(&down, shift);
    // The excess falls through zero: bracket it, then bisect.
    let sign = excess(0.0);
    if sign == 0.0 || sign.is_nan() {
        return 0.0;
    }
    let toward = sign.signum();
    let (mut near, mut far) = (0.0, toward * 1e-12);
    while excess(far) * toward > 0.0 {
        near = far;
        far *= 4.0;
        if !far.is_finite() {
            return 0.0;
        }
    }
    for _ in 0..200 {
        let middle = 0.5 * (near + far);
        if middle == near || middle == far {
            break;
        }
        if excess(middle) * toward > 0.0 {
            near = middle;
        } else {
            far = middle;
        }
    }
    0.5 * (near + far)
}
