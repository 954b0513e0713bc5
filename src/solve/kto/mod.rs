//! Kahneman–Tversky Optimization on rewards split into thumbs up and down.
//!
//! With labels, `λ_D = λ_U = 1`, `s_a = σ(β(u_a − z₀))` and `z₀ = max(0, E_ρ KL(π‖π_ref))`, which
//! couples the prompts and carries no gradient, the loss `E[1 − σ(±β(u − z₀))]` is linear in s:
//! with `κ_a = μ̄_a (2q_a − 1)`, q the probability of a thumb up, it is `−Σ κ s` up to a constant.
//! Its gradient flow on logits is `θ̇_a = ρ (g_a − π_a Σ g)`, `g_a = β κ_a s_a (1 − s_a)`.

mod exact;
mod field;
mod roots;

use super::flow::Motion;
use super::{FixedPoint, Rest, largest};
use crate::bandit::{Evidence, Policy, Problem, Threshold, View};
use crate::error::{Error, Result};
use crate::loss::InputKind;
pub(super) use exact::EXACT;
use field::Field;

/// Threshold of KTO's thumbs: a response counts as desirable if its reward is strictly above it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Split {
    /// `E_ρ E_μ̄ R`, the mean over all prompts (the DRO paper's minibatch mean, batch → ∞).
    Pooled,
    /// `E_μ̄[R|x]`, the prompt's own mean.
    PerPrompt,
    /// A given number.
    Threshold(f64),
}

/// Reference point z₀ of KTO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KlTerm {
    /// `max(0, E_ρ KL(π‖π_ref))`.
    Exact,
    /// 0.
    Zero,
}

/// Options of KTO on rewards: the threshold of the thumbs, and the reference point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// The split into desirable and undesirable.
    pub split: Split,
    /// z₀.
    pub kl: KlTerm,
}

impl Default for Options {
    /// The pooled mean and the exact KL.
    fn default() -> Self {
        Self {
            split: Split::Pooled,
            kl: KlTerm::Exact,
        }
    }
}

/// What a reward of each prompt must exceed.
fn thresholds(view: &View, split: Split) -> Vec<Threshold> {
    let pooled = view.threshold();
    (view.prompts.iter())
        .map(|share| match split {
            Split::Pooled => pooled,
            Split::PerPrompt => share.threshold(),
            Split::Threshold(t) => Threshold::given(t),
        })
        .collect()
}

/// Desirable arms of each prompt: those whose (mean) reward exceeds the threshold.
///
/// A reward equal to the threshold counts as undesirable (the DRO paper's "greater or less" leaves
/// it open); arms that no response shows get a label too, which nothing uses. Responses logged with
/// rewards of their own are rated one by one, [`pulls`].
///
/// # Errors
/// Data without single responses.
pub fn desirable(evidence: &Evidence, split: Split) -> Result<Vec<Vec<bool>>> {
    let view = evidence.of(InputKind::Rated)?;
    let each = view.prompts.iter().zip(thresholds(view, split));
    Ok(each
        .map(|(share, t)| share.reward.iter().map(|&r| t.exceeded_by(r)).collect())
        .collect())
}

/// `κ_a = μ̄_a (2q_a − 1)`, q the share of an arm's responses whose own reward exceeds the threshold.
///
/// # Errors
/// Data without single responses.
pub fn pulls(evidence: &Evidence, split: Split) -> Result<Vec<Vec<f64>>> {
    let view = evidence.of(InputKind::Rated)?;
    let each = view.prompts.iter().zip(thresholds(view, split));
    Ok(each.map(|(share, t)| share.pulls(t)).collect())
}

/// Expectation of KTO's KL estimate from mismatched pairs (a prompt with responses to other prompts) on a bandit
/// whose responses all come from μ̄: `E_μ̄[u]`, before it is clamped at 0.
///
/// That is the KL only where μ̄ = π; at π = π_ref both are 0, and `E_μ̄[u]` may be negative. Arms
/// without mass count nothing.
pub fn mismatched_kl(law: &[f64], log_policy: &[f64], log_reference: &[f64]) -> f64 {
    (law.iter().zip(log_policy.iter().zip(log_reference)))
        .filter(|(mass, _)| **mass > 0.0)
        .map(|(mass, (l, reference))| mass * (l - reference))
        .sum()
}

/// KTO's limit on rewards split as `options` say: [`fixed_point_of`] with κ = ±μ̄.
///
/// # Errors
/// A threshold that is no number; otherwise as [`fixed_point_of`].
pub fn fixed_point(problem: &Problem, evidence: &Evidence, options: Options) -> Result<FixedPoint> {
    if let Split::Threshold(t) = options.split
        && t.is_nan()
    {
        return Err(Error::invalid(
            "threshold",
            "it is NaN",
            "give the number that desirable rewards exceed",
        ));
    }
    let pulls = pulls(evidence, options.split)?;
    fixed_point_of(problem, evidence, &pulls, options.kl)
}

/// KTO's limit for any pulls `κ_a = μ̄_a (2q_a − 1)`, q the probability of a thumb up: that of
/// gradient flow from the reference.
///
/// * With D = {κ > 0} not empty, every other arm goes to probability 0 (as t^{−1/β} where κ < 0), and
///   on D `κ s (1 − s)/π` is one number: for β ≤ 1 a nested root, of Σπ = 1 for each prompt and of
///   `z₀ = E_ρ KL` over all. Which of its rewards are larger does not matter. (At β = 1 an arm of D
///   may go to 0 too.) Given z₀ the policy is one; z₀ need not be, from β ≈ 0.6 on where κ and π_ref
///   disagree strongly. Then the joint flow from the reference chooses and `unique` is false. (Several
///   z₀ are looked for on a grid.)
/// * With D empty the interior rest repels for β < 1 and the policy ends on one arm, any of which
///   attracts. Joint flow from the reference says which; arms with κ = 0 (never shown) win over
///   those with κ < 0, the likeliest under the reference first.
///   Arms that nothing tells apart share.
/// * For β > 1 nothing is established. Every arm of D attracts once it has taken nearly all
///   probability, so limits are many; shown is the flow's from the reference, and `unique` is false
///   unless every D holds one arm, which wins at any temperature.
/// * Residual: the largest entry of the expected update.
///
/// # Errors
/// Pulls that do not fit the problem or are not finite, or more than 20,000 arms where a flow has to
/// be followed, more than 50,000 where z₀ is looked for.
pub fn fixed_point_of(
    problem: &Problem,
    evidence: &Evidence,
    pulls: &[Vec<f64>],
    kl: KlTerm,
) -> Result<FixedPoint> {
    check(problem, pulls)?;
    let field = Field::new(problem, evidence.of(InputKind::Rated)?, pulls, kl);
    let (beta, mut notes) = (field.beta, Vec::new());
    let mut method = "nested root of Σπ = 1 and z₀ = KL";
    let (mut unique, mut rest) = (true, Rest::Stable);
    for block in &field.blocks {
        let fate = block.fate(beta);
        unique &= fate.unique;
        notes.extend((fate.note).map(|note| format!("prompt {}: {note}", block.index)));
    }
    let flows = (field.blocks.iter()).any(|b| b.fate(beta).support.is_none());
    if flows {
        field.small_enough()?;
    }
    let rows = if beta > 1.0 && flows {
        method = "joint gradient flow from the reference, Newton polish";
        notes.push(
            "for β > 1 no limit is established: shown is gradient flow's from the reference".into(),
        );
        let (rows, kind) = field.hot();
        rest = kind;
        rows
    } else {
        let limits = if flows {
            method =
                "joint gradient flow from the reference to find the arms that win, nested root";
            let (limits, undecided) = field.winners();
            if !undecided.is_empty() {
                rest = Rest::Repelling;
            }
            notes.extend(undecided.iter().map(|x| {
                format!(
                    "prompt {x}: gradient flow from the reference rests between arms, a point that \
                     others leave"
                )
            }));
            limits
        } else {
            field.blocks.iter().map(|b| field.won(b, &[])).collect()
        };
        field.few_enough(&limits)?;
        let roots = field.reference_points(&limits);
        let z = match roots.as_slice() {
            [z] => *z,
            several => {
                unique = false;
                method = "nested roots of Σπ = 1 and z₀ = KL, joint gradient flow to choose";
                notes.push(format!(
                    "{} values of z₀ = KL attract; shown is the one that gradient flow from the \
                     reference comes to",
                    several.len()
                ));
                field.reached(several)?
            }
        };
        field.rows(&limits, z)
    };
    if field.blocks.len() < problem.prompts().len() {
        (unique, rest) = (false, rest.weaker(Rest::Neutral));
        notes.push("prompts without examples stay at the reference".into());
    }
    if rows.iter().flatten().any(|l| *l == f64::NEG_INFINITY) {
        rest = rest.weaker(Rest::Boundary);
    }
    let residual = largest(field.local(&rows.concat()).update);
    let mut all: Vec<Vec<f64>> = (problem.prompts().iter())
        .map(|p| p.log_reference.clone())
        .collect();
    for (block, row) in field.blocks.iter().zip(rows) {
        all[block.index] = row;
    }
    let policy = Policy::from_log(all);
    FixedPoint {
        regret: None,
        policy: Some(policy),
        method: method.into(),
        residual: Some(residual),
        unique,
        rest,
        error: None,
        notes,
        value: None,
        table: None,
    }
    .sound(problem)
}

fn check(problem: &Problem, pulls: &[Vec<f64>]) -> Result<()> {
    let fits = pulls.len() == problem.prompts().len()
        && (problem.prompts().iter().zip(pulls)).all(|(p, row)| p.arms() == row.len());
    if fits && pulls.iter().flatten().all(|k| k.is_finite()) {
        return Ok(());
    }
    Err(Error::invalid(
        "pulls",
        "there is not one finite number for each prompt and arm",
        "give κ = μ̄(2q − 1), q the probability of a thumb up",
    ))
}
