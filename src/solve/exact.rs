//! What is known exactly of a loss: a second file of it, beside its formula.

use super::update::Place;
use super::{
    FixedPoint, advantage, copg, copr, dro, general, ipo, kto, policy_gradient, ppo_clip,
    preference, ranking, slic, squared_hinge,
};
use crate::bandit::{Evidence, Problem, Prompt, PromptEvidence, View};
use crate::error::Result;
use crate::loss::Objective;

/// What was derived on paper of a loss.
pub trait Exact: Sync {
    /// The limit of its population form: unless it is known, that of its gradient flow.
    ///
    /// # Errors
    /// More arms or prompts than the solver's cap, or evidence of the wrong kind.
    fn fixed_point(
        &self,
        objective: Objective,
        problem: &Problem,
        evidence: &Evidence,
    ) -> Result<FixedPoint> {
        general::fixed_point(objective, problem, evidence)
    }

    /// The gradient of its population form with respect to one prompt's logits (or scores), per unit of the prompt's
    /// mass.
    ///
    /// # Errors
    /// A baseline law that does not fit, or a margin or a ranking that is missing.
    fn gradient(&self, place: Place<'_>, table: &[f64]) -> Result<Vec<f64>>;

    /// Its value where π = π_ref and every score is 0; none of a field.
    fn at_reference(&self, start: &Start<'_>) -> Option<f64>;

    /// Logits of a prompt so far on the way to a limit at which arms vanish that value and gradient are the limit's to
    /// rounding; none where it does not matter how far each arm is.
    fn approach(&self, place: Place<'_>) -> Option<Vec<f64>> {
        let _ = place;
        None
    }
}

/// Losses of a solver's file, each with what is known of it.
pub(super) type Known = [(Objective, &'static dyn Exact)];

const ALL: [&Known; 12] = [
    copg::EXACT,
    ipo::EXACT,
    preference::EXACT,
    slic::EXACT,
    squared_hinge::EXACT,
    policy_gradient::EXACT,
    ppo_clip::EXACT,
    dro::EXACT,
    kto::EXACT,
    copr::EXACT,
    ranking::EXACT,
    advantage::EXACT,
];

/// What is known exactly of an objective, if anything.
pub fn exact(objective: Objective) -> Option<&'static dyn Exact> {
    let all = ALL.iter().flat_map(|known| known.iter());
    let found = all.copied().find(|(known, _)| *known == objective);
    found.map(|(_, exact)| exact)
}

/// A problem and its evidence, where training starts.
pub struct Start<'a> {
    /// The problem.
    pub problem: &'a Problem,
    /// What it is trained on.
    pub view: &'a View,
}

impl Start<'_> {
    /// A mean over prompts.
    pub(super) fn mean(&self, of: impl Fn(&Prompt, &PromptEvidence) -> f64) -> f64 {
        let rows = self.problem.prompts().iter().zip(&self.view.prompts);
        rows.map(|(prompt, share)| share.mass * of(prompt, share))
            .sum()
    }
}
