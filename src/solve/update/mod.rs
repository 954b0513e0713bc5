//! Expected updates in closed form: what the gradient of each population loss comes to, prompt by
//! prompt, without visiting pairs where the algebra allows. The residual of every answer is its
//! largest entry; the certificates compare it with the loss itself.

mod advantage;
mod lists;
mod singles;

use crate::backend::nd::sigmoid;
use crate::bandit::{Evidence, Problem, Prompt, PromptEvidence, Threshold};
use crate::error::Result;
use crate::loss::{InputKind, Objective, Parameters};

use super::{log_softmax, policy_gradient};

/// Arguments of one prompt's gradient besides its table.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// Index of the prompt.
    pub x: usize,
    /// The prompt.
    pub prompt: &'a Prompt,
    /// Its evidence.
    pub share: &'a PromptEvidence,
    /// β and m.
    pub parameters: Parameters,
    /// V or z₀, where there is one.
    pub held: f64,
    /// Reward above which a response is desirable.
    pub threshold: Threshold,
}

impl<'a> Place<'a> {
    /// A prompt for an objective that holds its responses against no number.
    pub fn new(x: usize, prompt: &'a Prompt, share: &'a PromptEvidence, beta: f64) -> Self {
        Self {
            x,
            prompt,
            share,
            parameters: beta.into(),
            held: 0.0,
            threshold: Threshold::given(0.0),
        }
    }
}

/// Gradient of the population loss with respect to every prompt's table, weighted by the prompts'
/// mass, and with respect to the number each prompt's responses are held against.
#[derive(Debug, Clone)]
pub struct Expected {
    /// Gradient with respect to the logits or scores.
    pub table: Vec<Vec<f64>>,
    /// Gradient with respect to V; zero for what is detached.
    pub held: Vec<f64>,
}

/// The gradient of the population loss at a table, in closed form; `held` are the numbers that
/// responses are held against, where there are any.
///
/// # Errors
/// As [`gradient`].
pub fn expected(
    objective: Objective,
    problem: &Problem,
    evidence: &Evidence,
    table: &[Vec<f64>],
    held: Option<&[f64]>,
) -> Result<Expected> {
    let view = evidence.of(objective.spec().inputs)?;
    let rated = objective.spec().inputs == InputKind::Rated;
    let pooled = if rated {
        view.threshold()
    } else {
        Threshold::given(0.0)
    };
    let mut all = Expected {
        table: Vec::new(),
        held: Vec::new(),
    };
    for (x, (prompt, share)) in problem.prompts().iter().zip(&view.prompts).enumerate() {
        if share.mass == 0.0 {
            all.table.push(vec![0.0; prompt.arms()]);
            all.held.push(0.0);
            continue;
        }
        let threshold = match objective {
            Objective::KtoPerPrompt => share.threshold(),
            _ => pooled,
        };
        let place = Place {
            x,
            prompt,
            share,
            parameters: problem.parameters(),
            held: held.map_or(0.0, |v| v[x]),
            threshold,
        };
        let scale = |g: f64| share.mass * g;
        let row = gradient(objective, place, &table[x])?;
        all.table.push(row.into_iter().map(scale).collect());
        all.held
            .push(scale(singles::of_value(objective, &place, &table[x])));
    }
    Ok(all)
}

/// The gradient of the population loss with respect to one prompt's logits (or scores), per unit
/// of the prompt's mass. With `f = R − βu` and `μ̄ = (μ₁ + μ₂)/2`:
///
/// | objective | gradient |
/// |---|---|
/// | copg, copg-completed | `−L_w (R − βu)` |
/// | copg-squared | `−2β L_w (R − βu)` |
/// | rloo | `−½ L_w (R − βu)`, w of the pairs within groups (of a population: μ̄ × μ̄) |
/// | dpo | `β Σ_b w_ab (σ(βu_a − βu_b) − p_ab)` |
/// | reward-model | `Σ_b w_ab (σ(r_a − r_b) − p_ab)` |
/// | ipo | `2 (L_w u − r/β)`, `r_a = Σ_b w_ab (p_ab − ½)` |
/// | ipo-copg | `2β² (L_w u − r/β)` |
/// | ipo-gpo | `2β² (L_w u − 2r/β)` |
/// | slic | `−β Σ_b w_ab (p_ab [βu_ab < 1] − p_ba [βu_ba < 1])` |
/// | pg-* | `−m (R_β − b) + π Σ m (R_β − b)` |
/// | dro-v, dro-fixed, dro-constant | `−β [μ̄ (f − V) − π Σ μ̄ (f − V)]` |
/// | dro-v-eliminated | `−½β L_w (R − βu)`, w as for rloo |
/// | dro-algorithm-1 | `−μ̄ (R − V − cu) + π Σ μ̄ (R − V − cu)`, c = 1 as printed, β corrected |
/// | kto | `β [h − π Σ h]`, `h = −κ s(1 − s)`, κ the pulls, `s = σ(β(u − z₀))` |
/// | copr | `P_θ (ln P_θ/P* − KL)` on the list |
/// | copr-forward | `P_θ − P*` on the list (over J for the mean) |
/// | sft | `π − 1_best` |
/// | advantage-model | `Σ_b w_ab (σ(a_a − a_b) − p_ab) + win_a σ(a_a − m) − loss_a σ(−a_a − m)` |
///
/// # Errors
/// A baseline law that does not fit, or a margin or a ranking that is missing.
pub fn gradient(objective: Objective, place: Place<'_>, table: &[f64]) -> Result<Vec<f64>> {
    use Objective as O;
    let Place {
        x, prompt, share, ..
    } = place;
    let beta = place.parameters.beta;
    let u = || -> Vec<f64> {
        table
            .iter()
            .zip(&prompt.log_reference)
            .map(|(t, l)| t - l)
            .collect()
    };
    let regularised = || -> Vec<f64> {
        share
            .reward
            .iter()
            .zip(u())
            .map(|(r, u)| r - beta * u)
            .collect()
    };
    // L_w (R − βu), with the differences of rewards that were seen where pairs were logged with them.
    let contrast = || -> Vec<f64> {
        let pairs = share.compared();
        match share.observed_pull() {
            None => pairs.laplacian(&regularised()),
            Some(pull) => {
                let rest = pairs.laplacian(&u()).into_iter();
                pull.iter().zip(rest).map(|(g, lu)| g - beta * lu).collect()
            }
        }
    };
    let scaled =
        |by: f64, values: Vec<f64>| -> Vec<f64> { values.into_iter().map(|v| by * v).collect() };
    if let Some(baseline) = objective.baseline() {
        let log_policy = log_softmax(table);
        let update = policy_gradient::update(x, prompt, share, beta, &baseline, &log_policy)?;
        return Ok(scaled(-1.0, update));
    }
    Ok(match objective {
        O::Copg | O::CopgCompleted => scaled(-1.0, contrast()),
        O::CopgSquared => scaled(-2.0 * beta, contrast()),
        O::Rloo => scaled(-0.5, contrast()),
        O::Dpo => scaled(beta, preference_gap(share, &scaled(beta, u()))),
        O::RewardModel => preference_gap(share, table),
        O::Ipo => least_squares_gap(share, &u(), 2.0, 1.0 / beta),
        O::IpoCopg => least_squares_gap(share, &u(), 2.0 * beta * beta, 1.0 / beta),
        O::IpoGpo => least_squares_gap(share, &u(), 2.0 * beta * beta, 2.0 / beta),
        O::Slic => hinge(share, &u(), beta),
        O::PgZero | O::PgValue | O::PgSoftValue => unreachable!("a baseline was found above"),
        O::DroV | O::DroFixed | O::DroConstant => {
            scaled(beta, singles::regression(&place, table, beta, place.held))
        }
        O::DroVEliminated => scaled(-0.5 * beta, contrast()),
        O::DroAlgorithm1 => singles::regression(&place, table, 1.0, place.held),
        O::DroAlgorithm1Corrected => singles::regression(&place, table, beta, place.held),
        O::Kto | O::KtoPerPrompt | O::KtoNoKl => singles::rated(&place, table),
        O::Copr => lists::reverse(&place, table, 0.0)?,
        O::CoprSft => lists::reverse(&place, table, 1.0)?,
        O::CoprForward => lists::forward(&place, table, false)?,
        O::CoprForwardMean => lists::forward(&place, table, true)?,
        O::Sft => lists::best(&place, table)?,
        O::AdvantageModel | O::AdvantageModelDistinct | O::AdvantageModelCentred => {
            advantage::gradient(objective, &place, table)?
        }
    })
}

fn preference_gap(share: &PromptEvidence, scores: &[f64]) -> Vec<f64> {
    let pairs = share.compared();
    let pull = pairs.pull(&share.reward);
    (pairs.logistic_pull(scores).iter().zip(pull))
        .map(|(a, b)| a - b)
        .collect()
}

fn least_squares_gap(share: &PromptEvidence, u: &[f64], scale: f64, target: f64) -> Vec<f64> {
    let pairs = share.compared();
    let pull = pairs.pull(&share.reward);
    (pairs.laplacian(u).iter().zip(pull))
        .map(|(lu, r)| scale * (lu - target * r))
        .collect()
}

fn hinge(share: &PromptEvidence, u: &[f64], beta: f64) -> Vec<f64> {
    let mut gradient = vec![0.0; u.len()];
    for e in share.compared().edges(&share.reward) {
        let (a, b) = (e.a as usize, e.b as usize);
        let z = beta * (u[a] - u[b]);
        let active = |won: f64, z: f64| if z < 1.0 { won } else { 0.0 };
        let push = beta * (active(e.wins, z) - active(e.losses, -z));
        gradient[a] -= push;
        gradient[b] += push;
    }
    gradient
}

/// The Bradley–Terry gradient of listed comparisons among the arms `inside`.
pub(super) fn inner_preference_gradient(
    edges: &[crate::bandit::Edge],
    scores: &[f64],
    inside: &[bool],
) -> Vec<f64> {
    let mut gradient = vec![0.0; scores.len()];
    for e in edges {
        let (a, b) = (e.a as usize, e.b as usize);
        if a != b && inside[a] && inside[b] {
            let d = scores[a] - scores[b];
            let g = e.losses * sigmoid(d) - e.wins * sigmoid(-d);
            gradient[a] += g;
            gradient[b] -= g;
        }
    }
    gradient
}
