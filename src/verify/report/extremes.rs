//! Policy = reference, and numbers far out.

use super::{Area, Check, Outcome};
use crate::error::Result;
use crate::loss::{Batch, Given, InputKind};
use crate::solve::general::engine::{Run, directions, forward, random, reverse};
use crate::solve::general::subject::{Candidate, ROUNDING, parameters};

pub(super) fn checks(loss: &Candidate) -> Result<Vec<Check>> {
    Ok(vec![ties(loss)?, far(loss)?])
}

/// Step 0 of every training run: every log-ratio exactly 0, and once all rewards equal too.
fn tied(loss: &Candidate) -> [Batch; 2] {
    let mut batch = random(loss.inputs(), 12, 41);
    for slot in 0..loss.inputs().slots() {
        if !loss.spec().trains_scores() {
            batch.log_policy[slot] = batch.log_reference[slot].clone();
        } else {
            batch.log_policy[slot].fill(0.0);
        }
    }
    let mut level = batch.clone();
    level.reward.iter_mut().for_each(|r| r.fill(0.0));
    level.baseline.fill(0.0);
    [batch, level]
}

fn ties(loss: &Candidate) -> Result<Check> {
    let property = "policy = reference";
    let fault = |says: &str| Check::new(Area::Numbers, property, Outcome::Fault, says);
    let mut worst = 0.0f64;
    for batch in tied(loss) {
        let run = reverse(&loss.at(&parameters(0))?, &batch)?;
        if let Some(what) = not_finite(&run) {
            return Ok(fault(&format!(
                "{what} where every log-ratio is 0, which is where training starts"
            )));
        }
        let along = directions(&run, 42);
        let pairs = run.gradient.iter().flatten().zip(along.iter().flatten());
        let dotted: f64 = pairs.map(|(g, d)| g * d).sum();
        let gap = (forward(&loss.at(&parameters(0))?, &batch, &along)? - dotted).abs();
        worst = if gap <= worst { worst } else { gap };
        #[cfg(feature = "llm")]
        {
            let there = crate::solve::general::engine::tensors(&loss.at(&parameters(0))?, &batch)?;
            let gap = crate::solve::general::engine::apart(run.numbers(), there.numbers());
            worst = if gap <= worst { worst } else { gap };
        }
    }
    if worst > ROUNDING || worst.is_nan() {
        return Ok(fault("the slopes at ties are not the same everywhere").with(worst));
    }
    let what = if cfg!(feature = "llm") {
        "finite, with the same slope on both backends and in both modes"
    } else {
        "finite, with the same slope in both modes"
    };
    Ok(Check::new(Area::Numbers, property, Outcome::Ok, what).with(worst))
}

/// What is wrong with the numbers of a run, if anything.
fn not_finite(run: &Run) -> Option<&'static str> {
    let value = |of: &dyn Fn(f64) -> bool| run.each.iter().any(|&v| of(v));
    let slope = |of: &dyn Fn(f64) -> bool| run.gradient.iter().flatten().any(|&v| of(v));
    if value(&f64::is_nan) {
        Some("the loss is NaN")
    } else if slope(&f64::is_nan) {
        Some("the gradient is NaN")
    } else if value(&f64::is_infinite) {
        Some("the loss is infinite")
    } else if slope(&f64::is_infinite) {
        Some("the gradient is infinite")
    } else {
        None
    }
}

/// What is taken far out, everything else staying near 1.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Far {
    /// Log-ratios, or scores, of this size.
    Ratios(f64),
    /// Rewards of this size.
    Rewards(f64),
    /// A temperature.
    Beta(f64),
}

impl Far {
    fn name(self, scores: bool) -> String {
        match self {
            Self::Ratios(size) if scores => format!("scores of ±{size:.0e}"),
            Self::Ratios(size) => format!("log-ratios of ±{size:.0e}"),
            Self::Rewards(size) => format!("rewards of ±{size:.0e}"),
            Self::Beta(beta) => format!("β = {beta:.0e}"),
        }
    }
}

/// Log-ratios (or scores) and rewards to ±1e4, temperatures from 1e-3 to 1e3: one at a time, so that
/// what overflows is named, then together.
fn far(loss: &Candidate) -> Result<Check> {
    let property = "far out";
    let scores = loss.spec().trains_scores();
    let wrong = |far: &[Far]| -> Result<Option<&'static str>> {
        let (mut batch, mut beta) = (random(loss.inputs(), 16, 43), 0.5);
        for &far in far {
            match far {
                Far::Ratios(size) => stretch(loss, &mut batch, size),
                Far::Rewards(size) => reward(loss, &mut batch, size),
                Far::Beta(far) => beta = far,
            }
        }
        let given = Given::from(beta).with("margin", 2.5);
        Ok(not_finite(&reverse(&loss.at(&given)?, &batch)?))
    };
    let mut broken: Vec<(Far, &'static str)> = Vec::new();
    for kind in [Far::Ratios, Far::Rewards] {
        for size in [1e3, 1e4] {
            if let Some(what) = wrong(&[kind(size)])? {
                broken.push((kind(size), what));
                break;
            }
        }
    }
    for beta in [1e-3, 1e3] {
        if let Some(what) = wrong(&[Far::Beta(beta)])? {
            broken.push((Far::Beta(beta), what));
        }
    }
    let mut says: Vec<String> = (broken.iter())
        .map(|(far, what)| format!("{what} at {}", far.name(scores)))
        .collect();
    let mut nan = broken.iter().any(|(_, what)| what.ends_with("NaN"));
    let alone = |far: &Far| broken.iter().any(|(b, _)| b == far);
    if alone(&Far::Rewards(1e3)) && alone(&Far::Beta(1e-3)) {
        let both = [Far::Rewards(1e3), Far::Beta(1e3)];
        if wrong(&both)?.is_none() {
            says.push("finite again where both are 1e3: it is R/β that overflows".into());
        }
    }
    // Together, if nothing breaks alone; an overflow times 0 is no news.
    let mut together = Vec::new();
    for beta in [1e-3, 1.0, 1e3] {
        for size in [1e3, 1e4] {
            together.push([Far::Ratios(size), Far::Rewards(size), Far::Beta(beta)]);
        }
    }
    for all in together.into_iter().filter(|_| broken.is_empty()) {
        if let Some(what) = wrong(&all)? {
            let names: Vec<String> = all.iter().map(|f| f.name(scores)).collect();
            says.push(format!("{what} at {} together", names.join(", ")));
            nan = what.ends_with("NaN");
            break;
        }
    }
    if says.is_empty() {
        let says =
            "finite at log-ratios and rewards of ±1e4, β from 1e-3 to 1e3, alone and together";
        return Ok(Check::new(Area::Numbers, property, Outcome::Ok, says));
    }
    let outcome = if nan {
        Outcome::Fault
    } else {
        Outcome::Differs
    };
    Ok(Check::new(
        Area::Numbers,
        property,
        outcome,
        says.join("; "),
    ))
}

/// Log-ratios or scores of a size, of both signs in every combination over the slots.
fn stretch(loss: &Candidate, batch: &mut Batch, size: f64) {
    for slot in 0..loss.inputs().slots() {
        for i in 0..batch.log_policy[slot].len() {
            let up = (i >> slot) % 2 == 0;
            let (low, high) = (-size, 0.0);
            if !loss.spec().trains_scores() {
                batch.log_policy[slot][i] = if up { high } else { low };
                batch.log_reference[slot][i] = if up { low } else { high };
            } else {
                batch.log_policy[slot][i] = if up { size } else { -size };
            }
        }
    }
}

/// Rewards of a size. A list's numbers are advantages, which are small.
fn reward(loss: &Candidate, batch: &mut Batch, size: f64) {
    if loss.inputs() == InputKind::Lists {
        return;
    }
    for slot in &mut batch.reward {
        for (i, r) in slot.iter_mut().enumerate() {
            *r = if i % 3 == 0 { size } else { -size };
        }
    }
}
