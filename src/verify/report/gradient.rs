//! Derivatives: against forward mode, against the loss's own differences, on every backend.

use super::{Area, Check, Outcome};
use crate::error::Result;
use crate::loss::Kind;
use crate::solve::general::engine::{directions, forward, random, reverse};
use crate::solve::general::subject::{
    Candidate, QUOTIENT, ROUNDING, TRIES, dot, parameters, slope_error,
};

pub(super) fn checks(loss: &Candidate) -> Result<Vec<Check>> {
    let (mut modes, mut slopes) = (0.0f64, 0.0f64);
    let worse = |a: f64, b: f64| if b <= a { a } else { b };
    for key in 0..TRIES {
        let batch = random(loss.inputs(), 24, key);
        let run = reverse(&loss.at(&parameters(key))?, &batch)?;
        let along = directions(&run, key);
        let dotted = dot(&run, &along);
        let tangent = forward(&loss.at(&parameters(key))?, &batch, &along)?;
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

#[cfg(feature = "llm")]
fn backends(loss: &Candidate) -> Result<Check> {
    let mut worst = 0.0f64;
    for key in 0..TRIES {
        let batch = random(loss.inputs(), 24, key);
        let (here, there) = (
            reverse(&loss.at(&parameters(key))?, &batch)?,
            crate::solve::general::engine::tensors(&loss.at(&parameters(key))?, &batch)?,
        );
        let gap = crate::solve::general::engine::apart(here.numbers(), there.numbers());
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
fn backends(_: &Candidate) -> Result<Check> {
    Ok(Check::new(
        Area::Gradient,
        "same on both backends",
        Outcome::Skipped,
        "built without candle (feature `llm`)",
    ))
}
