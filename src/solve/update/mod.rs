//! Expected updates in closed form: what the gradient of each population loss comes to, prompt by
//! prompt, without visiting pairs where the algebra allows. The residual of every answer is its
//! largest entry; the certificates compare it with the loss itself.

use crate::backend::nd::sigmoid;
use crate::bandit::{Evidence, Problem, Prompt, PromptEvidence, Threshold};
use crate::error::{Error, Result};
use crate::loss::{Given, InputKind, Objective, Value};

use super::dro::value_of;
use super::{exact, log_softmax};

/// Arguments of one prompt's gradient besides its table.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// Index of the prompt.
    pub x: usize,
    /// The prompt.
    pub prompt: &'a Prompt,
    /// Its evidence.
    pub share: &'a PromptEvidence,
    /// β.
    pub beta: f64,
    /// The numbers of the loss that were given.
    pub given: Option<&'a Given>,
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
            beta,
            given: None,
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
    let (spec, given) = (objective.spec(), problem.given());
    let view = evidence.of(spec.inputs)?;
    let rated = spec.inputs == InputKind::Rated;
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
        let threshold = if spec.rating.per_prompt {
            share.threshold()
        } else {
            pooled
        };
        let place = Place {
            x,
            prompt,
            share,
            beta: problem.beta(),
            given: Some(&given),
            held: held.map_or(0.0, |v| v[x]),
            threshold,
        };
        let scale = |g: f64| share.mass * g;
        let row = gradient(objective, place, &table[x])?;
        all.table.push(row.into_iter().map(scale).collect());
        all.held.push(match spec.value {
            Some(Value::Own | Value::Constant) => {
                let own = value_of(prompt, share, place.beta, &log_softmax(&table[x]));
                scale(place.held - own)
            }
            _ => 0.0,
        });
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
/// | ppo-clip | `−2 (g − π Σ g)`, `g = π A` where the clip leaves a slope, else 0 |
/// | dro-v, dro-fixed, dro-constant | `−β [μ̄ (f − V) − π Σ μ̄ (f − V)]` |
/// | dro-v-eliminated | `−½β L_w (R − βu)`, w as for rloo |
/// | dro-algorithm-1 | `−μ̄ (R − V − cu) + π Σ μ̄ (R − V − cu)`, c = 1 as printed, β corrected |
/// | kto | `β [h − π Σ h]`, `h = −κ s(1 − s)`, κ the pulls, `s = σ(β(u − z₀))` |
/// | copr | `P_θ (ln P_θ/P* − KL)` on the list |
/// | copr-forward | `P_θ − P*` on the list (over J for the mean) |
/// | sft | `π − 1_best` |
/// | rrhf | `h − π Σ h`, `h_a` = less likely arms ranked above a, less likelier ones ranked below, less `w 1_best` |
/// | pro | `h − π Σ h`, `h = Σ_k T_k· (q_k − 1_k) − s(J − 1)² 1_best`, q_k the shares of contest k |
/// | advantage-model | `Σ_b w_ab (σ(a_a − a_b) − p_ab) + win_a σ(a_a − m) − loss_a σ(−a_a − m)` |
///
/// # Errors
/// A baseline law that does not fit, a margin or a ranking that is missing, or an objective of which no closed form
/// is known.
pub fn gradient(objective: Objective, place: Place<'_>, table: &[f64]) -> Result<Vec<f64>> {
    let known = exact(objective).ok_or_else(|| {
        Error::invalid(
            objective.name(),
            "no closed form of its expected update is known",
            "take the gradient of its population loss",
        )
    })?;
    known.gradient(place, table)
}

impl Place<'_> {
    /// `u = ln π/π_ref` up to a constant, from logits.
    pub(super) fn log_ratio(&self, table: &[f64]) -> Vec<f64> {
        (table.iter().zip(&self.prompt.log_reference))
            .map(|(t, l)| t - l)
            .collect()
    }

    /// π and u at a table of logits.
    pub(super) fn policy(&self, table: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let log = log_softmax(table);
        let reference = &self.prompt.log_reference;
        (
            log.iter().map(|l| l.exp()).collect(),
            log.iter().zip(reference).map(|(l, r)| l - r).collect(),
        )
    }
}

/// Each number times another.
pub(super) fn scaled(by: f64, values: Vec<f64>) -> Vec<f64> {
    values.into_iter().map(|v| by * v).collect()
}

/// `h − π Σ h`.
pub(super) fn through_softmax(policy: &[f64], h: Vec<f64>) -> Vec<f64> {
    let sum: f64 = h.iter().sum();
    h.iter().zip(policy).map(|(h, p)| h - p * sum).collect()
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
