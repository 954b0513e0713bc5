//! CoPG, off-policy RLOO and DRO with V eliminated: π* wherever the comparison graph connects the arms.
//!
//! In logits the expected update of −ℓ_CoPG is linear, `θ̇ = L_w (R − βu)` with L_w the Laplacian
//! of the comparison graph (the softmax normaliser cancels), so its whole trajectory is known.

use nalgebra::{DMatrix, DVector, SymmetricEigen};

use super::answer::by_prompt;
use super::exact::{Exact, Known, Start};
use super::graph::{components, describe};
use super::laplacian::solve_listed;
use super::update::{Place, gradient, scaled};
use super::{CUBIC_CAP, FixedPoint, Part, Rest, largest, tilt};
use crate::bandit::{Comparisons, Edge, Evidence, Policy, Problem, Prompt, PromptEvidence};
use crate::error::{Error, Result};
use crate::loss::{InputKind, Objective};

/// Losses whose gradient is a multiple of `L_w (R − βu)`, and their value at the reference.
struct Contrast {
    /// The multiple, at a β.
    scale: fn(f64) -> f64,
    at_reference: fn(&Start) -> Option<f64>,
}

pub(super) const EXACT: &Known = &[
    (
        Objective::COPG,
        &Contrast {
            scale: |_| -1.0,
            at_reference: |_| Some(0.0),
        },
    ),
    (
        Objective::COPG_COMPLETED,
        &Contrast {
            scale: |_| -1.0,
            at_reference: |_| Some(0.0),
        },
    ),
    (
        Objective::COPG_SQUARED,
        &Contrast {
            scale: |beta| -2.0 * beta,
            at_reference: |start| Some(start.mean(|prompt, _| squared_gap(prompt))),
        },
    ),
    (
        Objective::RLOO,
        &Contrast {
            scale: |_| -0.5,
            at_reference: |_| None,
        },
    ),
    (
        Objective::DRO_V_ELIMINATED,
        &Contrast {
            scale: |beta| -0.5 * beta,
            at_reference: |start| Some(start.mean(|prompt, _| half_variance(prompt))),
        },
    ),
];

impl Exact for Contrast {
    fn fixed_point(
        &self,
        objective: Objective,
        problem: &Problem,
        evidence: &Evidence,
    ) -> Result<FixedPoint> {
        by_prompt(objective, problem, evidence, |x, prompt, share| {
            fixed_point(objective, x, prompt, share, problem.beta())
        })
    }

    fn gradient(&self, place: Place<'_>, table: &[f64]) -> Result<Vec<f64>> {
        let Place { share, beta, .. } = place;
        let (pairs, u) = (share.compared(), place.log_ratio(table));
        // L_w (R − βu), with the differences of rewards that were seen where pairs were logged with them.
        let contrast = match share.observed_pull() {
            None => {
                let regularised = share.reward.iter().zip(&u).map(|(r, u)| r - beta * u);
                pairs.laplacian(&regularised.collect::<Vec<_>>())
            }
            Some(pull) => {
                let rest = pairs.laplacian(&u).into_iter();
                pull.iter().zip(rest).map(|(g, lu)| g - beta * lu).collect()
            }
        };
        Ok(scaled((self.scale)(beta), contrast))
    }

    fn at_reference(&self, start: &Start<'_>) -> Option<f64> {
        (self.at_reference)(start)
    }
}

/// `E (R(y) − R(y′))²` under the law of pairs.
fn squared_gap(prompt: &Prompt) -> f64 {
    let k = prompt.arms();
    let gap = |i: usize| prompt.reward[i / k] - prompt.reward[i % k];
    let table = prompt.law.table();
    (table.iter().enumerate())
        .map(|(i, p)| p * gap(i).powi(2))
        .sum()
}

/// Half the variance of rewards under the mean law.
fn half_variance(prompt: &Prompt) -> f64 {
    let (first, second) = prompt.law.marginals();
    let law = || {
        first
            .iter()
            .zip(&second)
            .map(|(p, q)| 0.5 * (p + q))
            .zip(&prompt.reward)
    };
    let average: f64 = law().map(|(m, r)| m * r).sum();
    law().map(|(m, r)| 0.5 * m * (r - average).powi(2)).sum()
}

/// CoPG's fixed point: `π ∝ π_ref e^{(R − mean_K R)/β}` on each component K of the comparison
/// graph, which is π* when there is one. Rewards seen with noise are those that fit the differences
/// seen best, by least squares on the graph. RLOO's is the same on the pairs within its groups, which for
/// i.i.d. responses from the mean law μ̄ are pairs from μ̄ × μ̄; so is DRO's with V eliminated.
///
/// # Errors
/// Rewards logged with pairs of more than 2,000 arms.
pub fn fixed_point(
    objective: Objective,
    x: usize,
    prompt: &Prompt,
    share: &PromptEvidence,
    beta: f64,
) -> Result<Part> {
    let parts = components(share.compared(), prompt.arms());
    let fitted = fitted(x, share, &parts)?;
    let reward = fitted.as_ref().unwrap_or(&share.reward);
    let log_policy = tilt(prompt, centre(reward, &parts).iter().map(|r| r / beta));
    let place = Place::new(x, prompt, share, beta);
    Ok(Part {
        residual: largest(gradient(objective, place, &log_policy)?),
        log_policy: Some(log_policy),
        method: if fitted.is_some() {
            "least squares of the differences seen, star-mesh elimination"
        } else {
            "closed form"
        },
        unique: parts.len() == 1,
        rest: Rest::of_components(&parts),
        error: None,
        note: (parts.len() > 1).then(|| describe(&parts, prompt.kept())),
    })
}

/// The rewards whose differences fit those logged with the pairs best, `L_w v = Σ_b w_ab r_ab`, up
/// to a constant per component; none where no rewards were logged with pairs.
///
/// # Errors
/// More than 2,000 arms.
fn fitted(x: usize, share: &PromptEvidence, parts: &[Vec<usize>]) -> Result<Option<Vec<f64>>> {
    let (Some(pull), Some(Comparisons::Listed { edges, .. })) =
        (share.observed_pull(), &share.comparisons)
    else {
        return Ok(None);
    };
    let mut v = vec![0.0; pull.len()];
    for part in parts {
        let values = solve_listed(edges, Edge::weight, part, &pull, x)?;
        part.iter().zip(values).for_each(|(&a, value)| v[a] = value);
    }
    Ok(Some(v))
}

/// Rewards less a constant per component: their largest if there is one component (which keeps
/// the digits that matter), their mean otherwise (which is what gradient flow conserves).
pub(super) fn centre(reward: &[f64], parts: &[Vec<usize>]) -> Vec<f64> {
    let mut centred = vec![0.0; reward.len()];
    for part in parts {
        let values = part.iter().map(|&a| reward[a]);
        let shift = if parts.len() == 1 {
            values.fold(f64::NEG_INFINITY, f64::max)
        } else {
            values.sum::<f64>() / part.len() as f64
        };
        for &a in part {
            centred[a] = reward[a] - shift;
        }
    }
    centred
}

/// CoPG's trajectory: gradient flow `θ̇ = ∇L`, L the paper's objective (eq. 6), from the reference,
/// at the given times (in units of 1/learning rate).
///
/// With the spectral decomposition of each prompt's `ρ L_w = Σ λ e eᵀ`, `u(t)` is
/// `Σ (1 − e^{−βλt})/β · ⟨e, R⟩ e` up to a shift.
///
/// # Errors
/// More than 2,000 arms, evidence without pairs, or a negative or infinite time.
pub fn trajectory(problem: &Problem, evidence: &Evidence, times: &[f64]) -> Result<Vec<Policy>> {
    let beta = problem.beta();
    if let Some(t) = times.iter().find(|t| !(0.0..=f64::MAX).contains(*t)) {
        return Err(Error::invalid(
            "times",
            format!("{t} is no time"),
            "give finite times from 0 on",
        ));
    }
    let mut rows = vec![Vec::new(); times.len()];
    let view = evidence.of(InputKind::ScoredPairs)?;
    for (x, (prompt, share)) in problem.prompts().iter().zip(&view.prompts).enumerate() {
        let k = prompt.arms();
        if k > CUBIC_CAP {
            return Err(Error::TooLarge {
                what: "CoPG's trajectory",
                cap: CUBIC_CAP,
                prompt: x,
                arms: k,
            });
        }
        if share.mass == 0.0 {
            rows.iter_mut()
                .for_each(|rows| rows.push(prompt.log_reference.clone()));
            continue;
        }
        let pairs = share.compared();
        let mut laplacian = DMatrix::<f64>::zeros(k, k);
        for e in pairs.edges(&share.reward).iter().filter(|e| e.a != e.b) {
            let (a, b, w) = (e.a as usize, e.b as usize, share.mass * e.weight());
            laplacian[(a, a)] += w;
            laplacian[(b, b)] += w;
            laplacian[(a, b)] -= w;
            laplacian[(b, a)] -= w;
        }
        let spectrum = SymmetricEigen::new(laplacian);
        let parts = components(pairs, k);
        let fitted = fitted(x, share, &parts)?;
        let reward = DVector::from_vec(fitted.unwrap_or_else(|| share.reward.clone()));
        // One mode per component does not move; rounding must not make it, however long the flow.
        let mut order: Vec<usize> = (0..k).collect();
        order.sort_by(|&a, &b| spectrum.eigenvalues[a].total_cmp(&spectrum.eigenvalues[b]));
        let still = &order[..parts.len()];
        let mut rates = spectrum.eigenvalues.map(|lambda| beta * lambda.max(0.0));
        still.iter().for_each(|&mode| rates[mode] = 0.0);
        let along = spectrum.eigenvectors.tr_mul(&reward);
        for (rows, &t) in rows.iter_mut().zip(times) {
            // −expm1 keeps the digits of slow modes.
            let moved = DVector::from_iterator(
                k,
                (along.iter().zip(rates.iter())).map(|(c, rate)| -(-rate * t).exp_m1() / beta * c),
            );
            let u = &spectrum.eigenvectors * moved;
            rows.push(tilt(prompt, u.iter().copied()));
        }
    }
    Ok(rows.into_iter().map(Policy::from_log).collect())
}
