//! SLiC: a linear program whose vertices are integers.
//!
//! With `z = βu` the population loss is `Σ_{a<b} g_ab(z_a − z_b)`, each g convex and piecewise
//! linear with kinks at ±1. Such a sum is L-convex: its minimum is attained at an integer z, and an
//! integer z is a minimiser exactly when no set S of arms gains by moving up by one together. The
//! best S is a minimum cut.

use super::graph::{components, describe};
use super::min_cut::Network;
use super::{Part, tilt};
use crate::bandit::{Edge, Prompt, PromptEvidence};
use crate::error::Result;

/// Most arms: each step is a minimum cut of a dense graph.
pub const CAP: usize = 300;

/// Capacities below this share of the whole are rounding.
const ROUNDING: f64 = 1e-14;

/// Steps after which the loss is taken to have no minimum.
fn step_limit(arms: usize) -> usize {
    4 * arms + 16
}

/// SLiC's optimum; where it is a whole face, the vertex reached from the reference by the steepest
/// unit steps. The residual is the most that any unit step of a set of arms would gain.
///
/// # Errors
/// If no pairs were logged.
pub fn fixed_point(prompt: &Prompt, share: &PromptEvidence, beta: f64) -> Result<Part> {
    let pairs = share.compared()?;
    let parts = components(pairs, prompt.arms());
    let edges: Vec<Edge> = pairs
        .edges(&share.reward)
        .into_iter()
        .filter(|e| e.a != e.b)
        .collect();
    let mut z = vec![0i64; prompt.arms()];
    let mut gain = f64::INFINITY;
    let mut only = false;
    for _ in 0..step_limit(prompt.arms()) {
        let step = steepest(&edges, &z);
        (gain, only) = (step.gain, step.strict);
        if step.up.is_empty() {
            break;
        }
        step.up.iter().for_each(|&a| z[a] += 1);
    }
    let mut z: Vec<f64> = z.into_iter().map(|z| z as f64).collect();
    if parts.len() > 1 {
        // What each component's vertex is up to: gradient flow conserves the sum of its logits.
        for part in &parts {
            let mean = part.iter().map(|&a| z[a]).sum::<f64>() / part.len() as f64;
            part.iter().for_each(|&a| z[a] -= mean);
        }
    }
    let unique = only && parts.len() == 1;
    let note = if parts.len() > 1 {
        Some(describe(&parts, prompt.kept()))
    } else if unique {
        None
    } else {
        Some("the optimum is a face, not a point: shown is the vertex reached from the reference by unit steps".into())
    };
    Ok(Part {
        log_policy: Some(tilt(prompt, z.iter().map(|z| z / beta))),
        method: "linear program, minimum cuts",
        residual: gain,
        unique,
        note,
    })
}

/// What the best unit step gains.
struct Step {
    /// The arms to move up; none when nothing is gained.
    up: Vec<usize>,
    /// By how much the loss falls.
    gain: f64,
    /// Whether every proper set of arms would lose by moving.
    strict: bool,
}

/// `g(t + 1) − g(t)` of `g(t) = wins·(1 − t)₊ + losses·(1 + t)₊` at an integer t.
fn rise(e: &Edge, t: i64) -> f64 {
    (if t >= -1 { e.losses } else { 0.0 }) - (if t < 1 { e.wins } else { 0.0 })
}

/// Minimises `f(z + χ_S) − f(z) = Σ_{a∈S, b∉S} c_ab` over sets S. Splitting c into a symmetric
/// part (≥ 0 by convexity) and an antisymmetric one (which sums to one number per arm) makes it a
/// minimum cut.
fn steepest(edges: &[Edge], z: &[i64]) -> Step {
    let n = z.len();
    let (source, sink) = (n, n + 1);
    let mut network = Network::new(n + 2);
    let mut height = vec![0.0; n];
    let mut total = 0.0;
    for e in edges {
        let (a, b) = (e.a as usize, e.b as usize);
        let t = z[a] - z[b];
        let (up, down) = (rise(e, t), -rise(e, t - 1));
        let symmetric = (up + down) / 2.0;
        network.add(a, b, symmetric);
        network.add(b, a, symmetric);
        height[a] += (up - down) / 2.0;
        height[b] -= (up - down) / 2.0;
        total += e.weight();
    }
    for (a, &h) in height.iter().enumerate() {
        if h < 0.0 {
            network.add(source, a, -h);
        } else {
            network.add(a, sink, h);
        }
    }
    let wanted: f64 = height.iter().filter(|&&h| h < 0.0).map(|h| -h).sum();
    let floor = ROUNDING * total;
    let gain = (wanted - network.maximum_flow(source, sink, floor)).max(0.0);
    let reach = network.reachable(source, floor);
    // A gain at rounding level is no gain: without this a flat face could be walked for ever.
    let improves = gain > floor * n as f64;
    let up = (0..n).filter(|&a| improves && reach[a]).collect();
    // Minimum cuts are the closed sets of what is left; only the trivial ones if every arm still
    // reaches every other. Source and sink are saturated at an optimum, so they open no way round.
    let mut strict = false;
    if !improves && n > 0 {
        let all = |network: &Network| network.reachable(0, floor)[..n].iter().all(|&r| r);
        strict = all(&network) && {
            network.reverse();
            all(&network)
        };
    }
    Step { up, gain, strict }
}
