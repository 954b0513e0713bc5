//! Limit of COPR's fit, alone and with the likelihood of the best response.

use super::sampling::{Divergence, Target};
use crate::backend::nd::softplus;
use crate::bandit::{Prompt, log_sum_exp};
use crate::error::Result;
use crate::solve::policy_gradient::log_wright_omega;
use crate::solve::{Part, Rest, largest, tilt};

use super::advantage::linear_advantage;

/// The limit of COPR's objective (eq. 7) at one prompt, by gradient flow from the reference;
/// `ranking` lists kept arms from worst to best.
///
/// * The fit: no logit off Y moves and those on Y keep their sum, so the limit is
///   `π ∝ π_ref e^{1_Y Adv/β}`, whichever way round the divergence is. The mass of Y is what the start
///   made it: the answer is unique only where Y is everything.
/// * With `sft`, the likelihood of the best response, weight 1: all mass goes to Y (arms off Y fall to
///   0, as 1/t) and there it settles as [`with_likelihood`] says, which is not P*.
///
/// # Errors
/// A ranking that is empty, repeats an arm or names one that does not exist.
pub fn fixed_point(prompt: &Prompt, ranking: &[u32], beta: f64, sft: bool) -> Result<Part> {
    let target = Target::ranked(prompt, ranking, beta)?;
    let partial = target.arms.len() < prompt.arms();
    let (log_policy, method, unique, note) = if sft {
        let on_y = with_likelihood(&target.log, Divergence::Reverse, 1.0);
        let mut log = vec![f64::NEG_INFINITY; prompt.arms()];
        target.arms.iter().zip(on_y).for_each(|(&a, l)| log[a] = l);
        let note = "arms that are not ranked go to probability 0, as 1/t";
        (log, "closed form, Lambert W", true, note)
    } else {
        let mut u = vec![0.0; prompt.arms()];
        for (j, &a) in target.arms.iter().enumerate() {
            u[a] = linear_advantage(j + 1, target.arms.len()) / beta;
        }
        let note = "arms that are not ranked get no gradient: the mass of the ranked ones depends on \
                    the start, here the reference";
        (
            tilt(prompt, u.into_iter()),
            "closed form, flow from the reference",
            !partial,
            note,
        )
    };
    let likelihood = if sft { 1.0 } else { 0.0 };
    let gradient = target.gradient_with_likelihood(&log_policy, Divergence::Reverse, likelihood);
    Ok(Part {
        log_policy: Some(log_policy),
        method,
        residual: largest(gradient),
        unique,
        rest: match (sft, partial) {
            (_, false) => Rest::Stable,
            (true, true) => Rest::Boundary,
            (false, true) => Rest::Neutral,
        },
        error: None,
        note: partial.then(|| note.into()),
    })
}

/// The limit of the likelihood of the best response alone (supervised fine-tuning): all probability
/// on it, approached as 1/t.
///
/// # Errors
/// As [`fixed_point`].
pub fn likelihood(prompt: &Prompt, ranking: &[u32], beta: f64) -> Result<Part> {
    let top = Target::ranked(prompt, ranking, beta)?.top();
    let mut log = vec![f64::NEG_INFINITY; prompt.arms()];
    log[top] = 0.0;
    Ok(Part {
        log_policy: Some(log),
        method: "closed form",
        residual: 0.0,
        unique: true,
        rest: if prompt.arms() > 1 {
            Rest::Boundary
        } else {
            Rest::Stable
        },
        error: None,
        note: (prompt.arms() > 1)
            .then(|| "every arm but the best ranked goes to probability 0".into()),
    })
}

/// The minimiser over the simplex of `divergence(P, P*) − weight·ln P(top)`, top being the last
/// entry; `weight` ≥ 0.
///
/// In reverse `P_a = P*_a e^c` off the top, with `c = KL − weight`: one equation in the log-odds z of
/// the top, `z − weight/σ(z) = z*`, which Lambert's W solves: `z = ln weight − ln W(weight e^{−weight − z*})`.
/// Forward it is the mixture `(P* + weight·1_top)/(1 + weight)`.
pub fn with_likelihood(log_target: &[f64], which: Divergence, weight: f64) -> Vec<f64> {
    let Some((&top, others)) = log_target.split_last() else {
        return Vec::new();
    };
    if others.is_empty() || weight == 0.0 {
        return log_target.to_vec();
    }
    let rest = log_sum_exp(others);
    let (log_rest, log_top) = match which {
        Divergence::Reverse => {
            let z = weight.ln() - log_wright_omega(weight.ln() - weight - (top - rest));
            (-softplus(z), -softplus(-z))
        }
        Divergence::Forward => {
            let scale = weight.ln_1p();
            (rest - scale, log_sum_exp(&[top, weight.ln()]) - scale)
        }
    };
    let mut log: Vec<f64> = others.iter().map(|l| l - rest + log_rest).collect();
    log.push(log_top);
    log
}
