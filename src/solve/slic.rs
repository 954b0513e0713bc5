//! SLiC: a linear program whose vertices are integers.
//!
//! With `z = βu` the population loss is `Σ_{a<b} g_ab(z_a − z_b)`, each g convex and piecewise
//! linear with kinks at ±1. Such a sum is L-convex: its minimum is attained at an integer z, and an
//! integer z is a minimiser exactly when no set S of arms gains by moving up by one together. The
//! best S is a minimum cut.

use super::answer::{by_prompt, few_arms};
use super::exact::{Exact, Known, Start};
use super::graph::{components, listing};
use super::min_cut::Network;
use super::update::Place;
use super::{FixedPoint, Part, Rest, tilt};
use crate::bandit::{Edge, Evidence, Problem, Prompt, PromptEvidence};
use crate::error::Result;
use crate::loss::Objective;

/// Most arms: each step is a minimum cut of a dense graph.
pub const CAP: usize = 300;

struct Hinge;

pub(super) const EXACT: &Known = &[(Objective::SLIC, &Hinge)];

/// The gradient in logits of `Σ f(1 − βd)` over labelled pairs, f of slope `slope` above 0 and 0 below.
pub(super) fn hinged(place: Place<'_>, table: &[f64], slope: impl Fn(f64) -> f64) -> Vec<f64> {
    let (share, beta, u) = (place.share, place.beta, place.log_ratio(table));
    let mut gradient = vec![0.0; u.len()];
    for e in share.compared().edges(&share.reward) {
        let (a, b) = (e.a as usize, e.b as usize);
        let z = beta * (u[a] - u[b]);
        let active = |won: f64, z: f64| if z < 1.0 { won * slope(1.0 - z) } else { 0.0 };
        let push = beta * (active(e.wins, z) - active(e.losses, -z));
        gradient[a] -= push;
        gradient[b] += push;
    }
    gradient
}

impl Exact for Hinge {
    fn fixed_point(
        &self,
        objective: Objective,
        problem: &Problem,
        evidence: &Evidence,
    ) -> Result<FixedPoint> {
        by_prompt(objective, problem, evidence, |x, prompt, share| {
            few_arms("SLiC's linear program", CAP, x, prompt)?;
            fixed_point(prompt, share, problem.beta())
        })
    }

    fn gradient(&self, place: Place<'_>, table: &[f64]) -> Result<Vec<f64>> {
        Ok(hinged(place, table, |_| 1.0))
    }

    fn at_reference(&self, _: &Start<'_>) -> Option<f64> {
        Some(1.0)
    }
}

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
    let pairs = share.compared();
    let parts = components(pairs, prompt.arms());
    let edges: Vec<Edge> = pairs
        .edges(&share.reward)
        .into_iter()
        .filter(|e| e.a != e.b)
        .collect();
    let mut z = vec![0i64; prompt.arms()];
    let (mut gain, mut only) = (f64::INFINITY, false);
    for _ in 0..step_limit(prompt.arms()) {
        let step = steepest(&edges, &z, &parts);
        (gain, only) = (step.gain, step.strict);
        if step.up.is_empty() {
            break;
        }
        step.up.iter().for_each(|&a| z[a] += 1);
    }
    let mut z: Vec<f64> = z.into_iter().map(|z| z as f64).collect();
    let mut notes = Vec::new();
    if parts.len() > 1 {
        // Each component is free to shift: like gradient flow, keep the sum of its logits.
        for part in &parts {
            let mean = part.iter().map(|&a| z[a]).sum::<f64>() / part.len() as f64;
            part.iter().for_each(|&a| z[a] -= mean);
        }
        notes.push(format!(
            "the comparison graph is not connected: components {}; how much mass each gets is free",
            listing(&parts, prompt.kept())
        ));
    }
    if !only {
        notes.push(
            "the optimum is a face, not a point: shown is the vertex reached from the reference by unit steps".into(),
        );
    }
    Ok(Part {
        log_policy: Some(tilt(prompt, z.iter().map(|z| z / beta))),
        method: "linear program, minimum cuts",
        residual: gain,
        unique: notes.is_empty(),
        rest: if notes.is_empty() {
            Rest::Stable
        } else {
            Rest::Neutral
        },
        error: None,
        note: (!notes.is_empty()).then(|| notes.join("; ")),
    })
}

/// What the best unit step gains.
struct Step {
    /// The arms to move up; none when nothing is gained.
    up: Vec<usize>,
    /// By how much the loss falls.
    gain: f64,
    /// Whether every set of arms would lose by moving, unless it is made of whole components.
    strict: bool,
}

/// `g(t + 1) − g(t)` of `g(t) = wins·(1 − t)₊ + losses·(1 + t)₊` at an integer t.
fn rise(e: &Edge, t: i64) -> f64 {
    (if t >= -1 { e.losses } else { 0.0 }) - (if t < 1 { e.wins } else { 0.0 })
}

/// Minimises `f(z + χ_S) − f(z) = Σ_{a∈S, b∉S} c_ab` over sets S. Splitting c into a symmetric
/// part (≥ 0 by convexity) and an antisymmetric one (which sums to one number per arm) makes it a
/// minimum cut.
fn steepest(edges: &[Edge], z: &[i64], parts: &[Vec<usize>]) -> Step {
    let n = z.len();
    let (source, sink) = (n, n + 1);
    let mut network = Network::new(n + 2);
    let (mut height, mut incident) = (vec![0.0; n], vec![0.0; n]);
    for e in edges {
        let (a, b) = (e.a as usize, e.b as usize);
        let t = z[a] - z[b];
        let (up, down) = (rise(e, t), -rise(e, t - 1));
        let symmetric = (up + down) / 2.0;
        network.add(a, b, symmetric, e.weight());
        network.add(b, a, symmetric, e.weight());
        height[a] += (up - down) / 2.0;
        height[b] -= (up - down) / 2.0;
        incident[a] += e.weight();
        incident[b] += e.weight();
    }
    for (a, &h) in height.iter().enumerate() {
        if h < 0.0 {
            network.add(source, a, -h, incident[a]);
        } else {
            network.add(a, sink, h, incident[a]);
        }
    }
    network.maximum_flow(source, sink);
    // What the source could not send is what moving the arms it still reaches would gain.
    let gain = (0..n).map(|a| network.capacity(source, a)).sum();
    let reach = network.reachable(source);
    let up: Vec<usize> = (0..n).filter(|&a| reach[a]).collect();
    // Minimum cuts are the closed sets of what is left; only whole components if within each every
    // arm still reaches every other. Source and sink are saturated at an optimum, so they open no
    // way round.
    let mut strict = up.is_empty();
    for _ in 0..2 {
        strict &= parts.iter().all(|part| {
            let reach = network.reachable(part[0]);
            part.iter().all(|&a| reach[a])
        });
        network.reverse();
    }
    Step { up, gain, strict }
}
