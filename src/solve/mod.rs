//! Exact fixed points: where the expected update of an objective vanishes.
//!
//! Every answer carries how it was found, its residual (the largest entry of the expected update
//! there, in the units of the objective's gradient with respect to the logits) and whether it is
//! the only one. Where it is not, the answer is the limit of gradient flow from the reference (for
//! SLiC, the vertex reached from it by unit steps), and the notes say what stays free.

pub mod advantage;
pub mod best_of_n;
pub mod bpo;
pub mod calibration;
pub mod copg;
pub mod copr;
pub mod dro;
pub(crate) mod flow;
pub mod graph;
pub mod ipo;
pub mod kto;
mod laplacian;
mod min_cut;
pub mod minimise;
pub mod policy_gradient;
pub mod ppo_clip;
pub mod preference;
pub mod slic;
pub mod update;

use crate::bandit::{Evidence, Policy, Problem, Prompt, PromptEvidence, population};
use crate::error::{Error, Result};
use crate::loss::{Baseline, Objective};
pub use flow::Rest;

/// Most arms for solvers whose time grows with the square of the number of arms.
pub const QUADRATIC_CAP: usize = 20_000;

/// Most arms for solvers whose time grows with its cube.
pub const CUBIC_CAP: usize = 2_000;

/// Where an objective converges.
#[derive(Debug, Clone)]
pub struct FixedPoint {
    /// The limit; absent where there is none, or where it depends on the path.
    pub policy: Option<Policy>,
    /// `J(π*) − J` at the limit.
    pub regret: Option<f64>,
    /// How it was found.
    pub method: String,
    /// Largest entry of the expected update there.
    pub residual: Option<f64>,
    /// Whether no other point is a limit. For limits of gradient flow that have no closed form this
    /// was tried from other starts, not proved.
    pub unique: bool,
    /// What stays free, what diverges, what was assumed.
    pub notes: Vec<String>,
    /// The value V(x) found beside the policy, for objectives that have one (DRO).
    pub value: Option<Vec<f64>>,
    /// The scores found, for objectives that train a table of them and not a policy.
    pub table: Option<Vec<Vec<f64>>>,
}

/// The answer for one prompt.
#[derive(Debug, Clone)]
pub struct Part {
    /// ln π over the kept arms.
    pub log_policy: Option<Vec<f64>>,
    /// How it was found.
    pub method: &'static str,
    /// Largest entry of this prompt's expected update, per unit of its mass.
    pub residual: f64,
    /// Whether no other point is a limit.
    pub unique: bool,
    /// What to know about it.
    pub note: Option<String>,
}

/// The fixed point of a registered objective on the population or on a dataset.
///
/// # Errors
/// More arms than the solver's cap, or evidence of the wrong kind.
pub fn fixed_point(
    objective: Objective,
    problem: &Problem,
    evidence: &Evidence,
) -> Result<FixedPoint> {
    use Objective as O;
    use advantage::Form;
    use kto::{KlTerm, Split};
    let scores = |form| -> Result<FixedPoint> {
        advantage::fixed_point(
            problem,
            evidence,
            problem.parameters().needed_margin()?,
            form,
        )
    };
    let rated = |split, kl| kto::fixed_point(problem, evidence, kto::Options { split, kl });
    match objective {
        O::AdvantageModel => return scores(Form::SelfPairs),
        O::AdvantageModelDistinct => return scores(Form::Distinct),
        O::AdvantageModelCentred => return scores(Form::Centred),
        O::DroConstant => return dro::constant(problem, evidence),
        O::DroAlgorithm1 => return dro::algorithm_1_as_printed(problem, evidence),
        O::Kto => return rated(Split::Pooled, KlTerm::Exact),
        O::KtoPerPrompt => return rated(Split::PerPrompt, KlTerm::Exact),
        O::KtoNoKl => return rated(Split::Pooled, KlTerm::Zero),
        _ => {}
    }
    let mut point = assemble(problem, evidence, |x, prompt, share| {
        solve_prompt(objective, x, prompt, share, problem.beta())
    })?;
    if let (Some(_), Some(policy)) = (objective.value(), &point.policy) {
        let own = |(x, (prompt, share)): (usize, (&Prompt, &PromptEvidence))| match prompt.value {
            Some(held) if objective == Objective::DroFixed => held,
            _ => dro::value_of(prompt, share, problem.beta(), &policy.log()[x]),
        };
        let rows = problem.prompts().iter().zip(&evidence.prompts).enumerate();
        point.value = Some(rows.map(own).collect());
    }
    Ok(point)
}

/// The limit of the policy-gradient field with any baseline.
///
/// # Errors
/// A baseline law that does not fit the problem.
pub fn policy_gradient(
    problem: &Problem,
    evidence: &Evidence,
    baseline: &Baseline,
) -> Result<FixedPoint> {
    assemble(problem, evidence, |x, prompt, share| {
        policy_gradient::limit(x, prompt, share, problem.beta(), baseline)
    })
}

fn solve_prompt(
    objective: Objective,
    x: usize,
    prompt: &Prompt,
    share: &PromptEvidence,
    beta: f64,
) -> Result<Part> {
    use Objective as O;
    if let Some(baseline) = objective.baseline() {
        return policy_gradient::limit(x, prompt, share, beta, &baseline);
    }
    let cap = |what, cap| {
        if prompt.arms() <= cap {
            return Ok(());
        }
        Err(Error::TooLarge {
            what,
            cap,
            prompt: x,
            arms: prompt.arms(),
        })
    };
    match objective {
        O::Copg
        | O::CopgCompleted
        | O::CopgSquared
        | O::Rloo
        | O::DroV
        | O::DroVEliminated
        | O::DroAlgorithm1Corrected => copg::fixed_point(objective, x, prompt, share, beta),
        O::Ipo | O::IpoCopg | O::IpoGpo => {
            cap("IPO", QUADRATIC_CAP)?;
            ipo::fixed_point(objective, x, prompt, share, beta)
        }
        O::Dpo | O::RewardModel => {
            cap("a fit of the Bradley–Terry model", QUADRATIC_CAP)?;
            preference::fixed_point(objective, x, prompt, share, beta)
        }
        O::Slic => {
            cap("SLiC's linear program", slic::CAP)?;
            slic::fixed_point(prompt, share, beta)
        }
        O::PgZero | O::PgValue | O::PgSoftValue => unreachable!("a baseline was found above"),
        O::DroFixed => {
            let what = "the number V(x) to hold fixed";
            let held = (prompt.value).ok_or_else(|| population::missing(x, "value", what))?;
            // The same field as a policy gradient with baseline V, times β/2.
            let baseline = Baseline::Given(held);
            let part = policy_gradient::limit(x, prompt, share, beta, &baseline)?;
            let residual = part.residual * beta / 2.0;
            Ok(Part { residual, ..part })
        }
        O::Copr | O::CoprForward | O::CoprForwardMean | O::CoprSft | O::Sft => {
            let what = "arm indices from worst to best";
            let ranking = (prompt.ranking.as_deref())
                .ok_or_else(|| population::missing(x, "ranking", what))?;
            let part = match objective {
                O::Sft => copr::likelihood(prompt, ranking, beta)?,
                _ => copr::fixed_point(prompt, ranking, beta, objective == O::CoprSft)?,
            };
            let place = update::Place::new(x, prompt, share, beta);
            let residual = (part.log_policy.as_ref())
                .map(|log| update::gradient(objective, place, log))
                .transpose()?
                .map_or(0.0, largest);
            Ok(Part { residual, ..part })
        }
        O::DroConstant
        | O::DroAlgorithm1
        | O::Kto
        | O::KtoPerPrompt
        | O::KtoNoKl
        | O::AdvantageModel
        | O::AdvantageModelDistinct
        | O::AdvantageModelCentred => unreachable!("solved for all prompts together"),
    }
}

/// Solves prompt by prompt and joins the answers.
fn assemble(
    problem: &Problem,
    evidence: &Evidence,
    mut solve: impl FnMut(usize, &Prompt, &PromptEvidence) -> Result<Part>,
) -> Result<FixedPoint> {
    let mut rows = Some(Vec::with_capacity(problem.prompts().len()));
    let mut methods: Vec<&'static str> = Vec::new();
    let (mut residual, mut unique, mut notes) = (0.0f64, true, Vec::new());
    for (x, (prompt, share)) in problem.prompts().iter().zip(&evidence.prompts).enumerate() {
        let part = if share.mass > 0.0 {
            solve(x, prompt, share)?
        } else {
            Part {
                log_policy: Some(prompt.log_reference.clone()),
                method: "untouched",
                residual: 0.0,
                unique: false,
                note: Some("no example has it, so it stays at the reference".into()),
            }
        };
        if !methods.contains(&part.method) {
            methods.push(part.method);
        }
        residual = worse(residual, share.mass * part.residual);
        unique &= part.unique;
        notes.extend(part.note.map(|note| format!("prompt {x}: {note}")));
        match (&mut rows, part.log_policy) {
            (Some(rows), Some(row)) => rows.push(row),
            (rows, _) => *rows = None,
        }
    }
    let policy = rows.map(Policy::from_log);
    Ok(FixedPoint {
        regret: policy.as_ref().map(|p| problem.regret(p)),
        residual: policy.as_ref().map(|_| residual),
        policy,
        method: methods.join("; "),
        unique,
        notes,
        value: None,
        table: None,
    })
}

/// Normalises `ln π_ref + u`.
fn tilt(prompt: &Prompt, u: impl Iterator<Item = f64>) -> Vec<f64> {
    let log: Vec<f64> = prompt
        .log_reference
        .iter()
        .zip(u)
        .map(|(l, u)| l + u)
        .collect();
    log_softmax(&log)
}

/// The log-softmax of logits.
pub(crate) fn log_softmax(logits: &[f64]) -> Vec<f64> {
    let normaliser = crate::bandit::log_sum_exp(logits);
    logits.iter().map(|l| l - normaliser).collect()
}

fn largest(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().map(f64::abs).fold(0.0, worse)
}

/// The larger of two residuals; unlike `f64::max` it does not hide a NaN.
fn worse(a: f64, b: f64) -> f64 {
    if b <= a || a.is_nan() { a } else { b }
}
