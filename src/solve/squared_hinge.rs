//! The squared hinge: convex and piecewise quadratic, by Newton's method.
//!
//! The population loss is `Σ_ab w⁺_ab max(0, 1 − βd_ab)²`, w⁺ the mass of comparisons that a wins. At a minimum the
//! active ones are a circulation, so where within every component each arm beats its way to each other no part can
//! shift against another: the minimum is one point. Elsewhere it may be a face, and gradient flow is followed to the
//! end that it reaches from the reference.

use super::answer::{by_prompt, few_arms};
use super::exact::{Exact, Known, Start};
use super::graph::{components, describe, strong_components};
use super::laplacian::solve_listed;
use super::preference::inside;
use super::slic::hinged;
use super::update::Place;
use super::{CUBIC_CAP, FixedPoint, Part, Rest, general, largest, tilt};
use crate::bandit::{Edge, Evidence, Problem};
use crate::error::Result;
use crate::loss::Objective;

/// Newton steps; the pieces are few, and each is met once or twice.
const STEPS: usize = 200;

struct Squared;

pub(super) const EXACT: &Known = &[(Objective::SQUARED_HINGE, &Squared)];

impl Exact for Squared {
    fn fixed_point(
        &self,
        objective: Objective,
        problem: &Problem,
        evidence: &Evidence,
    ) -> Result<FixedPoint> {
        let view = evidence.of(objective.spec().inputs)?;
        let mut apart = false;
        for (x, (prompt, share)) in problem.prompts().iter().zip(&view.prompts).enumerate() {
            if share.mass > 0.0 {
                few_arms("the squared hinge", CUBIC_CAP, x, prompt)?;
                let edges = share.compared().edges(&share.reward);
                let parts = components(share.compared(), prompt.arms());
                apart |= strong_components(&edges, prompt.arms()).len() > parts.len();
            }
        }
        if apart {
            return general::fixed_point(objective, problem, evidence);
        }
        by_prompt(objective, problem, evidence, |x, prompt, share| {
            self.minimum(Place::new(x, prompt, share, problem.beta()))
        })
    }

    fn gradient(&self, place: Place<'_>, table: &[f64]) -> Result<Vec<f64>> {
        Ok(hinged(place, table, |short| 2.0 * short))
    }

    fn at_reference(&self, _: &Start<'_>) -> Option<f64> {
        Some(1.0)
    }
}

impl Squared {
    fn minimum(&self, place: Place<'_>) -> Result<Part> {
        let (prompt, beta) = (place.prompt, place.beta);
        let pairs = place.share.compared();
        let parts = components(pairs, prompt.arms());
        let mut edges = pairs.edges(&place.share.reward);
        edges.retain(|e| e.a != e.b);
        // z = βu, of mean 0 over each component as gradient flow from the reference leaves it.
        let mut z = vec![0.0; prompt.arms()];
        for part in &parts {
            descend(&edges, part, place.x, &mut z)?;
        }
        let log_policy = tilt(prompt, z.iter().map(|z| z / beta));
        Ok(Part {
            residual: largest(self.gradient(place, &log_policy)?),
            log_policy: Some(log_policy),
            method: "piecewise quadratic, Newton",
            unique: parts.len() == 1,
            rest: Rest::of_components(&parts),
            error: None,
            note: (parts.len() > 1).then(|| describe(&parts, prompt.kept())),
        })
    }
}

/// Newton's method with halved steps on one component, each step a Laplacian system.
fn descend(edges: &[Edge], part: &[usize], x: usize, z: &mut [f64]) -> Result<()> {
    let inside = inside(part, z.len());
    let edges: Vec<Edge> = (edges.iter().copied())
        .filter(|e| inside[e.a as usize])
        .collect();
    // By how much each side of a comparison falls short of a margin of 1.
    let short = |z: &[f64], e: &Edge| {
        let d = z[e.a as usize] - z[e.b as usize];
        [(1.0 - d).max(0.0), (1.0 + d).max(0.0)]
    };
    let value = |z: &[f64]| -> f64 {
        let of = |e: &Edge| {
            let [won, lost] = short(z, e);
            e.wins * won * won + e.losses * lost * lost
        };
        edges.iter().map(of).sum()
    };
    let mut here = value(z);
    for _ in 0..STEPS {
        let mut downhill = vec![0.0; z.len()];
        for e in &edges {
            let [won, lost] = short(z, e);
            let push = 2.0 * (e.wins * won - e.losses * lost);
            downhill[e.a as usize] += push;
            downhill[e.b as usize] -= push;
        }
        let curvature = |e: &Edge| {
            let [won, lost] = short(z, e).map(|short| f64::from(u8::from(short > 0.0)));
            // A little of every comparison keeps the system regular where some are met with room.
            2.0 * (e.wins * won + e.losses * lost) + 1e-12 * e.weight()
        };
        let step = solve_listed(&edges, curvature, part, &downhill, x)?;
        let moved = |length: f64| {
            let mut next = z.to_vec();
            (part.iter().zip(&step)).for_each(|(&a, s)| next[a] += length * s);
            next
        };
        let lengths = (0..40).map(|halvings| 0.5f64.powi(halvings));
        let better = lengths.map(moved).find(|next| value(next) < here);
        let Some(next) = better else {
            break;
        };
        here = value(&next);
        z.copy_from_slice(&next);
    }
    let mean = part.iter().map(|&a| z[a]).sum::<f64>() / part.len() as f64;
    part.iter().for_each(|&a| z[a] -= mean);
    Ok(())
}
