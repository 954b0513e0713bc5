//! What is known exactly of the Advantage Model: limit, expected update, value at scores of 0.

use super::{Form, fixed_point};
use crate::backend::nd::sigmoid;
use crate::bandit::{Evidence, Problem};
use crate::error::Result;
use crate::loss::advantage::Bounds;
use crate::loss::{Given, Numbers, Objective};
use crate::solve::FixedPoint;
use crate::solve::exact::{Exact, Known, Start};
use crate::solve::update::Place;

pub(in crate::solve) const EXACT: &Known = &[
    (Objective::ADVANTAGE_MODEL, &Form::SelfPairs),
    (Objective::ADVANTAGE_MODEL_DISTINCT, &Form::Distinct),
    (Objective::ADVANTAGE_MODEL_CENTRED, &Form::Centred),
];

impl Exact for Form {
    fn fixed_point(
        &self,
        _: Objective,
        problem: &Problem,
        evidence: &Evidence,
    ) -> Result<FixedPoint> {
        let Bounds { margin } = Bounds::read(&problem.given())?;
        fixed_point(problem, evidence, margin, *self)
    }

    /// The gradient of eq. 6 with respect to the scores; of the centred form, with respect to scores
    /// whose mean is subtracted before.
    fn gradient(&self, place: Place<'_>, table: &[f64]) -> Result<Vec<f64>> {
        let none = Given::new();
        let Bounds { margin } = Bounds::read(place.given.unwrap_or(&none))?;
        let centred = *self == Self::Centred;
        let centre = place.prompt.centre();
        let mean = if centred {
            centre.iter().zip(table).map(|(p, a)| p * a).sum()
        } else {
            0.0
        };
        let a: Vec<f64> = table.iter().map(|a| a - mean).collect();
        let mut gradient = vec![0.0; a.len()];
        let mut compared = |winner: usize, loser: usize, mass: f64| {
            let pull = mass * sigmoid(a[loser] - a[winner]);
            gradient[winner] += mass * sigmoid(a[winner] - margin) - pull;
            gradient[loser] += pull - mass * sigmoid(-a[loser] - margin);
        };
        for e in place.share.compared().edges(&place.share.reward) {
            if e.a == e.b && *self == Self::Distinct {
                continue;
            }
            compared(e.a as usize, e.b as usize, e.wins);
            compared(e.b as usize, e.a as usize, e.losses);
        }
        if centred {
            let sum: f64 = gradient.iter().sum();
            gradient
                .iter_mut()
                .zip(&centre)
                .for_each(|(g, p)| *g -= sum * p);
        }
        Ok(gradient)
    }

    fn at_reference(&self, start: &Start<'_>) -> Option<f64> {
        let margin = start.problem.margin()?;
        let each = std::f64::consts::LN_2 + 2.0 * (-margin).exp().ln_1p();
        let self_pairs = start.mean(|prompt, _| {
            let table = prompt.law.table();
            table.iter().step_by(prompt.arms() + 1).sum()
        });
        let kept = if *self == Self::Distinct {
            1.0 - self_pairs
        } else {
            1.0
        };
        Some(kept * each)
    }
}
