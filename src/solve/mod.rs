//! Exact fixed points: where the expected update of an objective vanishes.
//!
//! Every answer carries how it was found, its residual (the largest entry of the expected update
//! there), whether it is the only one, and what it is to the flow around it ([`Rest`]). Where it is not, the answer is the limit of gradient flow from the reference (for
//! SLiC, the vertex reached from it by unit steps), and the notes say what stays free.

pub mod advantage;
mod answer;
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

use crate::bandit::{Evidence, Problem, Prompt, PromptEvidence, population};
use crate::error::{Error, Result};
use crate::loss::{Baseline, InputKind, Objective, Value};
pub use answer::{FixedPoint, Part};
pub use flow::Rest;

use answer::assemble;

/// Most arms for solvers whose time grows with the square of the number of arms.
pub const QUADRATIC_CAP: usize = 20_000;

/// Most arms for solvers whose time grows with its cube.
pub const CUBIC_CAP: usize = 2_000;

/// Most prompts for which a flow is followed, prompt after prompt: each takes some ten milliseconds.
pub const FLOWS_CAP: usize = 1_000;

/// The fixed point of a registered objective on the population or on a dataset.
///
/// # Errors
/// More arms or prompts than the solver's cap, or evidence of the wrong kind.
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
        O::DroV => return dro::joint_regression(problem, evidence),
        O::DroAlgorithm1 => return dro::algorithm_1_as_printed(problem, evidence),
        O::DroAlgorithm1Corrected => return dro::algorithm_1(problem, evidence, problem.beta()),
        O::Kto => return rated(Split::Pooled, KlTerm::Exact),
        O::KtoPerPrompt => return rated(Split::PerPrompt, KlTerm::Exact),
        O::KtoNoKl => return rated(Split::Pooled, KlTerm::Zero),
        _ => {}
    }
    let view = evidence.of(objective.spec().inputs)?;
    // Each of its prompts takes a flow.
    if objective == O::PgValue {
        few_flows(problem, problem.prompts().len())?;
    }
    let mut point = assemble(problem, view, |x, prompt, share| {
        solve_prompt(objective, x, prompt, share, problem.beta())
    })?;
    if objective.value() == Some(Value::Given) {
        point.value = problem.prompts().iter().map(|p| p.value).collect();
    }
    Ok(point)
}

/// Whether so many flows may be followed.
fn few_flows(problem: &Problem, flows: usize) -> Result<()> {
    if flows <= FLOWS_CAP {
        return Ok(());
    }
    Err(Error::TooMany {
        what: "gradient flow, prompt after prompt,",
        cap: FLOWS_CAP,
        prompts: problem.prompts().len(),
    })
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
    let view = evidence.of(InputKind::Singles)?;
    assemble(problem, view, |x, prompt, share| {
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
        O::Copg | O::CopgCompleted | O::CopgSquared | O::Rloo | O::DroVEliminated => {
            copg::fixed_point(objective, x, prompt, share, beta)
        }
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
            let part = copr::limit(objective, x, prompt, share, beta)?;
            let place = update::Place::new(x, prompt, share, beta);
            let residual = (part.log_policy.as_ref())
                .map(|log| update::gradient(objective, place, log))
                .transpose()?
                .map_or(0.0, largest);
            Ok(Part { residual, ..part })
        }
        O::DroConstant
        | O::DroV
        | O::DroAlgorithm1
        | O::DroAlgorithm1Corrected
        | O::Kto
        | O::KtoPerPrompt
        | O::KtoNoKl
        | O::AdvantageModel
        | O::AdvantageModelDistinct
        | O::AdvantageModelCentred => unreachable!("solved for all prompts together"),
    }
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
