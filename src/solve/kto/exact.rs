//! What is known exactly of KTO: limit, expected update, value at the reference.

use super::{KlTerm, Options, Split, fixed_point, fixed_point_of, pulls};
use crate::backend::nd::sigmoid;
use crate::bandit::{Evidence, Problem};
use crate::error::Result;
use crate::loss::kto::Weighted;
use crate::loss::{InputKind, Numbers, Objective};
use crate::solve::FixedPoint;
use crate::solve::exact::{Exact, Known, Start};
use crate::solve::update::{Place, through_softmax};

const fn options(split: Split, kl: KlTerm) -> Options {
    Options { split, kl }
}

pub(in crate::solve) const EXACT: &Known = &[
    (Objective::KTO, &options(Split::Pooled, KlTerm::Exact)),
    (
        Objective::KTO_PER_PROMPT,
        &options(Split::PerPrompt, KlTerm::Exact),
    ),
    (Objective::KTO_NO_KL, &options(Split::Pooled, KlTerm::Zero)),
];

impl Weighted {
    /// The pull `κ = λ_D μ̄q − λ_U μ̄(1 − q)` of an arm that is shown with mass μ̄, from `μ̄(2q − 1)`.
    fn pull(&self, mass: f64, pull: f64) -> f64 {
        let [good, bad] = [self.desirable_weight, self.undesirable_weight];
        if [good, bad] == [1.0, 1.0] {
            pull
        } else {
            0.5 * (good * (mass + pull) - bad * (mass - pull))
        }
    }
}

impl Exact for Options {
    fn fixed_point(
        &self,
        _: Objective,
        problem: &Problem,
        evidence: &Evidence,
    ) -> Result<FixedPoint> {
        let weights = Weighted::read(&problem.given())?;
        if weights.desirable_weight == 1.0 && weights.undesirable_weight == 1.0 {
            return fixed_point(problem, evidence, *self);
        }
        let mut all = pulls(evidence, self.split)?;
        let view = evidence.of(InputKind::Rated)?;
        for (row, share) in all.iter_mut().zip(&view.prompts) {
            (row.iter_mut().zip(share.mean_law())).for_each(|(k, m)| *k = weights.pull(m, *k));
        }
        fixed_point_of(problem, evidence, &all, self.kl)
    }

    /// `β (h − π Σ h)`, `h = −κ s(1 − s)`.
    fn gradient(&self, place: Place<'_>, table: &[f64]) -> Result<Vec<f64>> {
        let beta = place.beta;
        let weights = match place.given {
            Some(given) => Weighted::read(given)?,
            None => Weighted::read(&beta.into())?,
        };
        let (policy, u) = place.policy(table);
        let pulls = place.share.pulls(place.threshold).into_iter();
        let h = (pulls.zip(place.share.mean_law()).zip(&u))
            .map(|((pull, mass), u)| {
                let z = beta * (u - place.held);
                -beta * weights.pull(mass, pull) * sigmoid(z) * sigmoid(-z)
            })
            .collect();
        Ok(through_softmax(&policy, h))
    }

    fn at_reference(&self, _: &Start<'_>) -> Option<f64> {
        Some(0.5)
    }
}
