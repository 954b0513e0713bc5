//! BPO: preference optimisation in phases, each with the policy of the last one as its reference.
//!
//! In phase k pairs are drawn from the behaviour policy `π_{k−1}` and labelled by the Bradley–Terry
//! model, and an inner loss (DPO, IPO or SLiC) is solved with `π_{k−1}` as its reference. Solved
//! exactly, `π_k` is
//!
//! | inner loss | policy after phase k | gain of the best arm's ln odds over the next, per phase |
//! |---|---|---|
//! | DPO | `∝ π_0 e^{kR/β}`, the static optimum at temperature β/k | `(R_1 − R_2)/β` |
//! | IPO | `∝ π_{k−1} e^{P_k/β}`, `P_k(a) = E_{b∼π_{k−1}} p_ab` | `(p_12 − ½)/β` in the end |
//! | SLiC | `∝ π_{k−1} e^{z/β}`, z an integer vector | `(z_1 − z_2)/β` |
//!
//! so no phase is the last: the policy goes on to the arm of the largest reward, and its regret,
//! which is measured by J_β with the initial reference, grows with it.
//!
//! Source: Xu et al. 2024, eq. 2 to 6 and Algorithm 1.

use super::{FixedPoint, Part, QUADRATIC_CAP, Rest, assemble, fixed_point, largest, tilt, update};
use crate::bandit::{
    Beta, Evidence, PairLaw, Policy, Problem, Prompt, PromptEvidence, log_sum_exp,
};
use crate::error::{Error, Result};
use crate::loss::{InputKind, Objective};

/// Most numbers that the policies of all phases may hold together.
const MOST_NUMBERS: usize = 50_000_000;

/// The loss solved in each phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Inner {
    /// [`dpo`](crate::loss::dpo::Dpo), BPO's eq. 2.
    Dpo,
    /// [`ipo`](crate::loss::ipo::Ipo), eq. 3.
    Ipo,
    /// [`slic`](crate::loss::slic::Slic), eq. 4.
    Slic,
}

impl Inner {
    /// Each of them, in the order of the equations.
    pub const ALL: [Self; 3] = [Self::Dpo, Self::Ipo, Self::Slic];

    /// The registered loss.
    pub fn objective(self) -> Objective {
        match self {
            Self::Dpo => Objective::DPO,
            Self::Ipo => Objective::IPO,
            Self::Slic => Objective::SLIC,
        }
    }

    /// The loss of each phase, in a few words.
    pub fn formula(self) -> &'static str {
        match self {
            Self::Dpo => "dpo in phases",
            Self::Ipo => "ipo in phases",
            Self::Slic => "slic in phases",
        }
    }

    /// Where the phases lead.
    pub fn limit(self) -> &'static str {
        match self {
            Self::Dpo => "π_0 e^{kR/β} after k phases",
            Self::Ipo => "π_{k−1} e^{P/β} after phase k, P the win rate against π_{k−1}",
            Self::Slic => "π_{k−1} e^{z/β} after phase k, z integer",
        }
    }

    /// BPO's name with this loss, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dpo => "bpo-dpo",
            Self::Ipo => "bpo-ipo",
            Self::Slic => "bpo-slic",
        }
    }

    /// `c` of [`first_update`]: β for DPO, 2/β for IPO, 2β for SLiC.
    pub fn first_step(self, beta: f64) -> f64 {
        match self {
            Self::Dpo => beta,
            Self::Ipo => 2.0 / beta,
            Self::Slic => 2.0 * beta,
        }
    }
}

/// A phase solved exactly.
#[derive(Debug, Clone)]
pub struct Phase {
    /// The policy after it; residual by the phase's own loss, regret by J_β of the original
    /// problem, unique if the phases before were too.
    pub answer: FixedPoint,
    /// The reference of the next phase.
    pub reference: Policy,
}

/// The problem of a phase: its reference and both its behaviour laws are `reference`.
///
/// References stay in log space, so 1e-300 and far below is kept. Behaviour laws are probabilities:
/// an arm of which less than 5e-324 is left stays in the reference and is never drawn.
///
/// # Errors
/// A policy of another shape, or one that is 0 somewhere.
pub fn phase_problem(problem: &Problem, reference: &Policy) -> Result<Problem> {
    stage(problem, reference, reference)
}

/// The exact policies after 1, 2, …, `phases` phases.
///
/// # Errors
/// No phase, too many to hold, or more arms than the inner solver takes.
pub fn phases(problem: &Problem, inner: Inner, phases: usize) -> Result<Vec<FixedPoint>> {
    let solved = ema(problem, inner, 1.0, phases)?;
    Ok(solved.into_iter().map(|phase| phase.answer).collect())
}

/// Like [`phases`], with a reference that lags behind: after each phase its logits become `τ ln π + (1 − τ) ln π_ref`
/// (BPO's eq. 6, with the inner loss solved exactly at every step); pairs still come from the last policy. τ = 0
/// keeps the initial reference, τ = 1 is BPO.
///
/// With DPO the reference after k phases is `∝ π_0 e^{kτR/β}` and the policy
/// `∝ π_0 e^{(1 + (k − 1)τ)R/β}`.
///
/// # Errors
/// τ outside \[0, 1\], and as [`phases`].
pub fn ema(problem: &Problem, inner: Inner, tau: f64, phases: usize) -> Result<Vec<Phase>> {
    if !(0.0..=1.0).contains(&tau) {
        return Err(Error::invalid(
            "tau",
            format!("it is {tau}"),
            "give a number from 0 (a static reference) to 1 (the last policy)",
        ));
    }
    let arms: usize = problem.prompts().iter().map(Prompt::arms).sum();
    let most = MOST_NUMBERS / arms.max(1);
    if !(1..=most).contains(&phases) {
        return Err(Error::invalid(
            "phases",
            format!("{phases} cannot be solved"),
            format!("ask for 1 to {most} on a problem of {arms} arms"),
        ));
    }
    let (mut reference, mut behaviour) = (problem.reference(), problem.reference());
    let (mut solved, mut unique) = (Vec::with_capacity(phases), true);
    for k in 1..=phases {
        let stage = stage(problem, &reference, &behaviour)?;
        // Both in units of R/β; from the start rather than step by step, so that nothing adds up.
        let tilts = (1.0 + (k - 1) as f64 * tau, k as f64 * tau);
        let mut answer = solve(problem, &stage, inner, tilts.0)?;
        unique &= answer.unique;
        answer.unique = unique;
        let policy = answer.policy.clone().ok_or_else(|| {
            Error::invalid(
                format!("phase {k}"),
                "its loss has no minimiser",
                "use another inner loss",
            )
        })?;
        answer.regret = Some(problem.regret(&policy));
        reference = match inner {
            Inner::Dpo => tilted(problem, tilts.1),
            Inner::Ipo | Inner::Slic => lag(&reference, &policy, tau),
        };
        behaviour = policy;
        solved.push(Phase {
            answer,
            reference: reference.clone(),
        });
    }
    Ok(solved)
}

/// The problem whose one static phase equals `phases` exact phases of DPO: the temperature β/F.
///
/// # Errors
/// No phase, or so many that the temperature leaves its range.
pub fn static_equivalent(problem: &Problem, phases: usize) -> Result<Problem> {
    let beta = Beta::new("beta / phases", problem.beta() / phases as f64)?;
    Ok(problem.at(beta))
}

/// The policy whose logits are the mean of the members': their normalised geometric mean. DPO, IPO
/// and SLiC are convex in logits, so its loss is at most the mean of theirs.
///
/// # Errors
/// No policy, policies of different shapes, or no arm to which all give probability.
pub fn merge(policies: &[Policy]) -> Result<Policy> {
    let Some((first, rest)) = policies.split_first() else {
        return Err(Error::invalid(
            "policies",
            "there is none",
            "give at least one to merge",
        ));
    };
    let mut sum = first.log().to_vec();
    for (i, policy) in rest.iter().enumerate() {
        let shape = |log: &[Vec<f64>]| log.iter().map(Vec::len).collect::<Vec<_>>();
        if shape(policy.log()) != shape(&sum) {
            return Err(Error::invalid(
                format!("policies[{}]", i + 1),
                "it has other prompts or arms than the first",
                "merge policies of one problem",
            ));
        }
        for (sum, l) in sum.iter_mut().flatten().zip(policy.log().iter().flatten()) {
            *sum += l;
        }
    }
    let count = policies.len() as f64;
    sum.iter_mut().flatten().for_each(|l| *l /= count);
    if let Some(x) = sum.iter().position(|row| log_sum_exp(row).is_infinite()) {
        return Err(Error::invalid(
            format!("policies at prompt {x}"),
            "no arm has probability in all of them",
            "merge policies that share an arm",
        ));
    }
    Ok(Policy::softmax(&sum))
}

/// The expected update `−∇L` of a phase's first step, at `π = π_ref = behaviour`: whatever the
/// inner loss it is `ρ c π_a (2P(a) − 1)`, P(a) being how often a is preferred to a draw of π; the
/// reference cancels. This is the policy gradient of the win rate against oneself; with one update
/// per phase (F = T, K = 1) it is all there is, and under plain SGD β is only a learning rate.
///
/// # Errors
/// A policy of another shape, or one that is 0 somewhere.
pub fn first_update(problem: &Problem, inner: Inner, policy: &Policy) -> Result<Vec<Vec<f64>>> {
    fits(problem, policy)?;
    let step = 2.0 * inner.first_step(problem.beta());
    let rows = problem.prompts().iter().zip(policy.log());
    Ok(rows
        .map(|(prompt, log)| {
            (log.iter().zip(prompt.win_margins(log)))
                .map(|(l, margin)| prompt.weight * step * l.exp() * margin)
                .collect()
        })
        .collect())
}

fn stage(problem: &Problem, reference: &Policy, behaviour: &Policy) -> Result<Problem> {
    fits(problem, reference)?;
    fits(problem, behaviour)?;
    Ok(problem.map_prompts(|x, prompt| {
        prompt.log_reference.clone_from(&reference.log()[x]);
        let law: Vec<f64> = behaviour.log()[x].iter().map(|l| l.exp()).collect();
        prompt.law = PairLaw::Product {
            first: law.clone(),
            second: law,
        };
    }))
}

fn fits(problem: &Problem, policy: &Policy) -> Result<()> {
    let (prompts, rows) = (problem.prompts(), policy.log());
    if prompts.len() != rows.len() {
        return Err(Error::invalid(
            "policy",
            format!("it has {} prompts", rows.len()),
            format!("give one row for each of the problem's {}", prompts.len()),
        ));
    }
    for (x, (prompt, row)) in prompts.iter().zip(rows).enumerate() {
        if prompt.arms() != row.len() {
            return Err(Error::invalid(
                format!("policy at prompt {x}"),
                format!("it has {} arms", row.len()),
                format!("give one number for each of the {} kept", prompt.arms()),
            ));
        }
        if let Some(a) = row.iter().position(|l| !l.is_finite()) {
            return Err(Error::invalid(
                format!("policy at prompt {x}"),
                format!(
                    "the log-probability of arm {} is {}",
                    prompt.kept()[a],
                    row[a]
                ),
                "a reference must give every arm some probability",
            ));
        }
    }
    Ok(())
}

/// One phase; `exponent` is the policy's in units of R/β, where the inner loss is DPO.
fn solve(problem: &Problem, stage: &Problem, inner: Inner, exponent: f64) -> Result<FixedPoint> {
    let evidence = Evidence::population(stage);
    let mut found = match inner {
        Inner::Slic => fixed_point(Objective::SLIC, stage, &evidence)?,
        Inner::Dpo | Inner::Ipo => assemble(
            stage,
            evidence.of(InputKind::LabelledPairs)?,
            |x, prompt, share| {
                let log_policy = match inner {
                    Inner::Dpo => tilt_by_reward(&problem.prompts()[x], problem.beta(), exponent),
                    _ => {
                        cap(x, prompt)?;
                        let behaviour: Vec<f64> =
                            prompt.law.marginals().0.iter().map(|p| p.ln()).collect();
                        let margins = prompt.win_margins(&behaviour);
                        tilt(prompt, margins.iter().map(|m| m / stage.beta()))
                    }
                };
                part(inner, x, prompt, share, stage.beta(), log_policy)
            },
        )?,
    };
    found.notes.extend(undrawn(stage));
    Ok(found)
}

fn cap(x: usize, prompt: &Prompt) -> Result<()> {
    if prompt.arms() <= QUADRATIC_CAP {
        return Ok(());
    }
    Err(Error::TooLarge {
        what: "a phase of BPO",
        cap: QUADRATIC_CAP,
        prompt: x,
        arms: prompt.arms(),
    })
}

fn part(
    inner: Inner,
    x: usize,
    prompt: &Prompt,
    share: &PromptEvidence,
    beta: f64,
    log_policy: Vec<f64>,
) -> Result<Part> {
    cap(x, prompt)?;
    let gradient = update::gradient(
        inner.objective(),
        update::Place::new(x, prompt, share, beta),
        &log_policy,
    )?;
    Ok(Part {
        residual: largest(gradient),
        log_policy: Some(log_policy),
        method: match inner {
            Inner::Dpo => "closed form, π_ref e^{kR/β}",
            Inner::Ipo | Inner::Slic => "recursion in closed form, π e^{P/β}",
        },
        // Pairs of the policy's own compare every arm with every other.
        unique: true,
        rest: Rest::Stable,
        error: None,
        note: None,
    })
}

/// Arms that a phase's behaviour law has lost to underflow.
fn undrawn(stage: &Problem) -> Vec<String> {
    let lost = |prompt: &Prompt| {
        let (law, _) = prompt.law.marginals();
        law.iter().filter(|&&p| p == 0.0).count()
    };
    (stage.prompts().iter().enumerate())
        .map(|(x, prompt)| (x, lost(prompt)))
        .filter(|&(_, lost)| lost > 0)
        .map(|(x, lost)| {
            format!(
                "prompt {x}: arms whose probability is below 5e-324, so that no pair shows them: {lost}"
            )
        })
        .collect()
}

/// `ln π ∝ ln π_ref + kR/β`. The largest reward is subtracted before dividing by β.
fn tilt_by_reward(prompt: &Prompt, beta: f64, k: f64) -> Vec<f64> {
    let top = (prompt.reward.iter().copied()).fold(f64::NEG_INFINITY, f64::max);
    tilt(prompt, prompt.reward.iter().map(|r| k * ((r - top) / beta)))
}

fn tilted(problem: &Problem, k: f64) -> Policy {
    let rows = problem.prompts().iter();
    Policy::from_log(
        rows.map(|prompt| {
            // What is never shown never moves.
            let k = if prompt.weight > 0.0 { k } else { 0.0 };
            tilt_by_reward(prompt, problem.beta(), k)
        })
        .collect(),
    )
}

/// `τ ln π + (1 − τ) ln π_ref`, normalised.
fn lag(reference: &Policy, policy: &Policy, tau: f64) -> Policy {
    if tau == 1.0 {
        return policy.clone();
    }
    let rows: Vec<Vec<f64>> = (reference.log().iter().zip(policy.log()))
        .map(|(reference, policy)| {
            (reference.iter().zip(policy))
                .map(|(r, p)| r + tau * (p - r))
                .collect()
        })
        .collect();
    Policy::softmax(&rows)
}
