//! DRO under a value that stays fixed: its minima, equation 5, and what the value's error costs.

use super::value_of;
use crate::bandit::{Prompt, PromptEvidence, log_sum_exp};
use crate::error::{Error, Result};
use crate::loss::Baseline;
use crate::random::{Purpose, Stream};
use crate::solve::policy_gradient::{FLOW_CAP, Field, limit};
use crate::solve::{Part, larger, largest};

/// `π_V`: the limit of `π ↦ L(π, V)` for one prompt under a fixed value `V`.
///
/// It is policy gradient's with the frozen baseline V: for V ≤ V\* the unique minimum, by Lambert's
/// W; above V\* the limit of gradient flow from the reference, others being tried.
///
/// # Errors
/// Flow over more than 20,000 arms.
pub fn fixed_value_policy(
    x: usize,
    prompt: &Prompt,
    share: &PromptEvidence,
    beta: f64,
    value: f64,
) -> Result<Part> {
    let mut part = limit(x, prompt, share, beta, &Baseline::Given(value))?;
    part.residual *= beta / 2.0;
    Ok(part)
}

/// `−∇_θ L(π, V)` per unit of the prompt's mass: `β(μ̄ t − π Σ μ̄ t)` with `t = R − V − βu`.
pub fn fixed_value_update(
    prompt: &Prompt,
    share: &PromptEvidence,
    beta: f64,
    value: f64,
    log_policy: &[f64],
) -> Vec<f64> {
    let baseline = Baseline::Given(value);
    let field = Field::given(prompt, share, beta, &baseline);
    (field.update(log_policy).into_iter())
        .map(|f| 0.5 * beta * f)
        .collect()
}

/// Distance of a policy from equation 5, `π ∝ π_ref exp((R − (π/μ̄)(V^π − V))/τ)`: the largest difference of ln π and
/// the normalised right side.
///
/// At a stationary point of `L(·, V)` it vanishes, and the factor of proportionality is `e^{−V/τ}`.
/// Arms that no response shows are left out: there the equation divides by zero.
pub fn equation_5(
    prompt: &Prompt,
    share: &PromptEvidence,
    beta: f64,
    value: f64,
    log_policy: &[f64],
) -> f64 {
    let delta = value_of(prompt, share, beta, log_policy) - value;
    let mean = share.mean_law();
    let shown: Vec<usize> = (0..prompt.arms()).filter(|&a| mean[a] > 0.0).collect();
    let right: Vec<f64> = (shown.iter())
        .map(|&a| {
            let ratio = (log_policy[a] - mean[a].ln()).exp();
            prompt.log_reference[a] + (share.reward[a] - ratio * delta) / beta
        })
        .collect();
    let left: Vec<f64> = shown.iter().map(|&a| log_policy[a]).collect();
    let (over, under) = (log_sum_exp(&right), log_sum_exp(&left));
    largest(
        left.iter()
            .zip(&right)
            .map(|(l, r)| (l - under) - (r - over)),
    )
}

/// The error of a policy against the error of the value it was trained with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ValueError {
    /// `δ = V^π − V`.
    pub delta: f64,
    /// `max |ln π/π*|`.
    pub error: f64,
    /// The right side of eq. 6: `(2/τ) max |δ(1 − π/μ̄)|`.
    pub bound: f64,
    /// A sharper one: `(|δ|/τ)(max π/μ̄ − min π/μ̄)`.
    pub sharper: f64,
}

/// Both sides of equation 6, and a sharper right side, at the policy π_V of a value.
///
/// Subtracting eq. 5 from eq. 2, `ln π_V/π* = k − (δ/τ) π_V/μ̄` with one k for all arms; as both are
/// distributions the left side takes both signs, so that k lies between the least and the largest
/// `(δ/τ) π_V/μ̄`: this is the sharper bound. With 1 inserted it gives eq. 6. Laws must cover the
/// arms; where they do not, bounds are infinite.
pub fn value_error(
    prompt: &Prompt,
    share: &PromptEvidence,
    beta: f64,
    value: f64,
    log_policy: &[f64],
) -> ValueError {
    let mut seen = prompt.clone();
    seen.reward.clone_from(&share.reward);
    let (_, optimum) = seen.optimum(beta);
    let delta = value_of(prompt, share, beta, log_policy) - value;
    let ratios: Vec<f64> = (log_policy.iter().zip(share.mean_law()))
        .map(|(l, mass)| (l - mass.ln()).exp())
        .collect();
    let high = ratios.iter().copied().fold(0.0, larger);
    let low = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    ValueError {
        delta,
        error: largest(log_policy.iter().zip(&optimum).map(|(l, o)| l - o)),
        bound: 2.0 / beta * largest(ratios.iter().map(|r| delta * (1.0 - r))),
        sharper: delta.abs() / beta * (high - low),
    }
}

/// A local minimum of `L(·, V)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Minimum {
    /// ln π.
    pub log_policy: Vec<f64>,
    /// `½ E_μ̄[(R − V − βu)²]`.
    pub loss: f64,
    /// Number of starts that led to it.
    pub starts: usize,
}

/// The local minima of `π ↦ L(π, V)` for one prompt that gradient flow finds from the reference and
/// `starts` random starts, lowest loss first; for V ≤ V\* there is one.
///
/// Starts are drawn around the reference, from near it to near the corners of the simplex, so their
/// counts do not measure basins. A start that comes to no rest is left out.
///
/// # Errors
/// More than 20,000 arms.
pub fn minima(
    x: usize,
    prompt: &Prompt,
    share: &PromptEvidence,
    beta: f64,
    value: f64,
    (starts, seed): (u64, u64),
) -> Result<Vec<Minimum>> {
    if prompt.arms() > FLOW_CAP {
        return Err(Error::TooLarge {
            what: "the search for minima",
            cap: FLOW_CAP,
            prompt: x,
            arms: prompt.arms(),
        });
    }
    let baseline = Baseline::Given(value);
    let field = Field::given(prompt, share, beta, &baseline);
    let mean = share.mean_law();
    let range = |values: &[f64]| -> f64 {
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        high - values.iter().copied().fold(f64::INFINITY, f64::min)
    };
    let widest = 8.0 + range(&share.reward) / beta;
    let mut found: Vec<Minimum> = Vec::new();
    for i in 0..=starts {
        let mut stream = Stream::new(seed, Purpose::Start, i);
        let spread = widest * i as f64 / starts.max(1) as f64;
        let start = (prompt.log_reference.iter())
            .map(|l| l + spread * (2.0 * stream.uniform() - 1.0))
            .collect();
        let log_policy = field.flow(start);
        // NaN is no rest either.
        let rests = largest(field.update(&log_policy)) <= 1e-9 * field.scale(&log_policy);
        if !rests {
            continue;
        }
        let known = found.iter_mut().find(|m| {
            (m.log_policy.iter().zip(&log_policy)).all(|(a, b)| (a.exp() - b.exp()).abs() < 1e-6)
        });
        if let Some(known) = known {
            known.starts += 1;
            continue;
        }
        let loss = (0..prompt.arms()).filter(|&a| mean[a] > 0.0).map(|a| {
            let u = log_policy[a] - prompt.log_reference[a];
            0.5 * mean[a] * (share.reward[a] - value - beta * u).powi(2)
        });
        found.push(Minimum {
            loss: loss.sum(),
            log_policy,
            starts: 1,
        });
    }
    found.sort_by(|a, b| a.loss.total_cmp(&b.loss));
    Ok(found)
}
