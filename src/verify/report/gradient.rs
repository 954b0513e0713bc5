//! Derivatives: against forward mode, against the loss's own differences, on every backend.

use super::engine::{Run, directions, forward, random, reverse, slots};
use super::{Area, Check, Loss, Outcome};
use crate::error::Result;
use crate::loss::{Batch, Kind, Parameters, Value};

/// Batches tried.
const TRIES: u64 = 6;
/// Rounding allowed between two ways to compute the same number.
pub(super) const ROUNDING: f64 = 1e-12;
/// Error allowed in a difference quotient.
const QUOTIENT: f64 = 1e-6;

/// Temperatures and margins of the random batches.
pub(super) fn parameters(key: u64) -> Parameters {
    Parameters {
        beta: [0.5, 0.1, 2.0][key as usize % 3],
        margin: Some(2.5),
    }
}

/// Whether the gradient is not that of the value.
pub(super) fn hides_a_detach<L: Loss>(loss: &L) -> Result<bool> {
    for key in 0..TRIES {
        let batch = random(loss.inputs(), 24, key);
        let run = reverse(loss, &batch, parameters(key))?;
        let error = slope_error(loss, &batch, &run, key)?;
        if error > QUOTIENT || error.is_nan() {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) fn checks<L: Loss>(loss: &L) -> Result<Vec<Check>> {
    let (mut modes, mut slopes) = (0.0f64, 0.0f64);
    let worse = |a: f64, b: f64| if b <= a { a } else { b };
    for key in 0..TRIES {
        let batch = random(loss.inputs(), 24, key);
        let run = reverse(loss, &batch, parameters(key))?;
        let along = directions(&run, key);
        let dotted = dot(&run, &along);
        let tangent = forward(loss, &batch, parameters(key), &along)?;
        modes = worse(modes, (dotted - tangent).abs() / (1.0 + dotted.abs()));
        if loss.kind() != Kind::Field {
            slopes = worse(slopes, slope_error(loss, &batch, &run, key)?);
        }
    }
    let mut checks = Vec::new();
    let agree = modes <= ROUNDING;
    let check = |property, good: bool, says: &str, error: f64| {
        let outcome = if good { Outcome::Ok } else { Outcome::Fault };
        Check::new(Area::Gradient, property, outcome, says).with(error)
    };
    checks.push(check(
        "reverse mode = forward mode",
        agree,
        if agree {
            "on random batches, detaches included"
        } else {
            "the two modes give different slopes: an operation of the backend is wrong"
        },
        modes,
    ));
    checks.push(match loss.kind() {
        Kind::Field => Check::new(
            Area::Gradient,
            "slope of its value",
            Outcome::Skipped,
            "a field: its gradient is the update, and its value means nothing",
        ),
        _ if slopes <= QUOTIENT => check(
            "slope of its value",
            true,
            "the gradient is that of the loss, away from kinks",
            slopes,
        ),
        _ => check(
            "slope of its value",
            false,
            "the gradient is not that of the loss: something is detached that should not be, or the \
             loss is a field and should say so in `kind`",
            slopes,
        ),
    });
    checks.push(backends(loss)?);
    Ok(checks)
}

fn dot(run: &Run, along: &[Vec<f64>]) -> f64 {
    let pairs = run.gradient.iter().flatten().zip(along.iter().flatten());
    pairs.map(|(g, d)| g * d).sum()
}

/// The relative error of the gradient along a random direction against central differences of the
/// loss. A kink within the smallest of the steps is all that could disturb every one of them.
fn slope_error<L: Loss>(loss: &L, batch: &Batch, run: &Run, key: u64) -> Result<f64> {
    let mut along = directions(run, 100 + key);
    // What a prompt is held against is a given number, unless the loss trains it.
    let trains_value = matches!(loss.feed().value, Some(Value::Own | Value::Constant));
    let trained = slots(loss.inputs()) + usize::from(trains_value);
    (along.iter_mut().skip(trained)).for_each(|d| d.iter_mut().for_each(|d| *d = 0.0));
    let wanted = dot(run, &along);
    let at = |h: f64| -> Result<f64> {
        let mut moved = batch.clone();
        let shift = |to: &mut [f64], by: &[f64]| {
            to.iter_mut().zip(by).for_each(|(t, d)| *t += h * d);
        };
        for (to, by) in moved
            .log_policy
            .iter_mut()
            .zip(&along)
            .take(slots(loss.inputs()))
        {
            shift(to, by);
        }
        if let (true, Some(of_value)) = (trains_value, along.get(slots(loss.inputs()))) {
            shift(&mut moved.baseline, of_value);
        }
        Ok(reverse(loss, &moved, parameters(key))?.value(&moved))
    };
    let mut best = f64::INFINITY;
    for h in [1e-3, 1e-4, 1e-5, 1e-6] {
        let quotient = (at(h)? - at(-h)?) / (2.0 * h);
        best = best.min((quotient - wanted).abs() / (1.0 + wanted.abs()));
    }
    Ok(best)
}

#[cfg(feature = "llm")]
fn backends<L: Loss>(loss: &L) -> Result<Check> {
    let mut worst = 0.0f64;
    for key in 0..TRIES {
        let batch = random(loss.inputs(), 24, key);
        let (here, there) = (
            reverse(loss, &batch, parameters(key))?,
            super::engine::tensors(loss, &batch, parameters(key))?,
        );
        let gap = super::engine::apart(here.numbers(), there.numbers());
        worst = if gap <= worst { worst } else { gap };
    }
    let good = worst <= ROUNDING;
    let (outcome, says) = if good {
        (
            Outcome::Ok,
            "value and gradient, ndarray against candle in f64",
        )
    } else {
        (Outcome::Fault, "ndarray and candle give different numbers")
    };
    Ok(Check::new(Area::Gradient, "same on both backends", outcome, says).with(worst))
}

#[cfg(not(feature = "llm"))]
fn backends<L: Loss>(_: &L) -> Result<Check> {
    Ok(Check::new(
        Area::Gradient,
        "same on both backends",
        Outcome::Skipped,
        "built without candle (feature `llm`)",
    ))
}
