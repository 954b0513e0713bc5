//! Expected update of the Advantage Model.

use super::Place;
use crate::backend::nd::sigmoid;
use crate::error::Result;
use crate::loss::Objective;

/// The gradient of eq. 6 with respect to the scores; of the centred form, with respect to scores
/// whose mean is subtracted before.
pub(super) fn gradient(objective: Objective, place: &Place<'_>, table: &[f64]) -> Result<Vec<f64>> {
    let margin = place.parameters.needed_margin()?;
    let centred = objective == Objective::AdvantageModelCentred;
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
        if e.a == e.b && objective == Objective::AdvantageModelDistinct {
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
