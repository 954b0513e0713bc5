//! Expected updates on single responses.

use super::Place;
use crate::backend::nd::sigmoid;
use crate::loss::Objective;
use crate::solve::dro::value_of;
use crate::solve::log_softmax;

/// π and u at a table of logits.
fn policy(place: &Place<'_>, table: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let log = log_softmax(table);
    let reference = &place.prompt.log_reference;
    (
        log.iter().map(|l| l.exp()).collect(),
        log.iter().zip(reference).map(|(l, r)| l - r).collect(),
    )
}

/// `h − π Σ h`.
fn through_softmax(policy: &[f64], h: Vec<f64>) -> Vec<f64> {
    let sum: f64 = h.iter().sum();
    h.iter().zip(policy).map(|(h, p)| h - p * sum).collect()
}

/// `h − π Σ h` with `h = −μ̄ (R − cu − V)`.
pub(super) fn regression(place: &Place<'_>, table: &[f64], c: f64, value: f64) -> Vec<f64> {
    let (policy, u) = policy(place, table);
    let reward = &place.share.reward;
    let h = (place.share.mean_law().iter().enumerate())
        .map(|(a, m)| {
            if *m > 0.0 {
                -m * (reward[a] - c * u[a] - value)
            } else {
                0.0
            }
        })
        .collect();
    through_softmax(&policy, h)
}

/// KTO: `β (h − π Σ h)`, `h = −κ s(1 − s)`.
pub(super) fn rated(place: &Place<'_>, table: &[f64]) -> Vec<f64> {
    let (policy, u) = policy(place, table);
    let beta = place.parameters.beta;
    let h = (place.share.pulls(place.threshold).iter().zip(&u))
        .map(|(pull, u)| {
            let z = beta * (u - place.held);
            -beta * pull * sigmoid(z) * sigmoid(-z)
        })
        .collect();
    through_softmax(&policy, h)
}

/// The gradient with respect to V, `−(E_μ̄[R_β] − V)`, where V is trained.
pub(super) fn of_value(objective: Objective, place: &Place<'_>, table: &[f64]) -> f64 {
    use Objective as O;
    match objective {
        O::DroV | O::DroConstant | O::DroAlgorithm1 | O::DroAlgorithm1Corrected => {}
        _ => return 0.0,
    }
    let beta = place.parameters.beta;
    place.held - value_of(place.prompt, place.share, beta, &log_softmax(table))
}
