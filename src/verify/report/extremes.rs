//! Policy = reference, and numbers far out.

use super::engine::{Run, directions, forward, random, reverse, slots};
use super::gradient::{ROUNDING, parameters};
use super::{Area, Check, Loss, Outcome};
use crate::bandit::population::Batch;
use crate::error::Result;
use crate::loss::{Parameters, Table};

pub(super) fn checks<L: Loss>(loss: &L) -> Result<Vec<Check>> {
    Ok(vec![ties(loss)?, far(loss)?])
}

/// Step 0 of every training run: every log-ratio exactly 0, and once all rewards equal too.
fn tied<L: Loss>(loss: &L) -> [Batch; 2] {
    let mut batch = random(loss.inputs(), 12, 41);
    for slot in 0..slots(loss.inputs()) {
        if loss.feed().table == Table::Logits {
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

fn ties<L: Loss>(loss: &L) -> Result<Check> {
    let property = "policy = reference";
    let fault = |says: &str| Check::new(Area::Numbers, property, Outcome::Fault, says);
    let mut worst = 0.0f64;
    for batch in tied(loss) {
        let run = reverse(loss, &batch, parameters(0))?;
        if let Some(what) = not_finite(&run) {
            return Ok(fault(&format!(
                "{what} where every log-ratio is 0, which is where training starts"
            )));
        }
        let along = directions(&run, 42);
        let pairs = run.gradient.iter().flatten().zip(along.iter().flatten());
        let dotted: f64 = pairs.map(|(g, d)| g * d).sum();
        let gap = (forward(loss, &batch, parameters(0), &along)? - dotted).abs();
        worst = if gap <= worst { worst } else { gap };
        #[cfg(feature = "llm")]
        {
            let there = super::engine::tensors(loss, &batch, parameters(0))?;
            let gap = super::engine::apart(run.numbers(), there.numbers());
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

/// Log-ratios (or scores) to ±1e4, rewards to ±1e4, temperatures from 1e-3 to 1e3.
fn far<L: Loss>(loss: &L) -> Result<Check> {
    let property = "far out";
    for beta in [1e-3, 1.0, 1e3] {
        for size in [1e3, 1e4] {
            let batch = stretched(loss, size);
            let margin = Some(2.5);
            let run = reverse(loss, &batch, Parameters { beta, margin })?;
            if let Some(what) = not_finite(&run) {
                let says = format!("{what} at log-ratios of {size:.0e}, β = {beta:e}");
                let outcome = if what.ends_with("NaN") {
                    Outcome::Fault
                } else {
                    Outcome::Differs
                };
                return Ok(Check::new(Area::Numbers, property, outcome, says));
            }
        }
    }
    let says = "finite at log-ratios and rewards of ±1e4, β from 1e-3 to 1e3";
    Ok(Check::new(Area::Numbers, property, Outcome::Ok, says))
}

fn stretched<L: Loss>(loss: &L, size: f64) -> Batch {
    let mut batch = random(loss.inputs(), 16, 43);
    let lists = loss.inputs() == crate::loss::InputKind::Lists;
    for slot in 0..slots(loss.inputs()) {
        for i in 0..batch.log_policy[slot].len() {
            // Both signs, in every combination over the slots.
            let up = (i >> slot) % 2 == 0;
            let (low, high) = (-size, 0.0);
            if loss.feed().table == Table::Logits {
                batch.log_policy[slot][i] = if up { high } else { low };
                batch.log_reference[slot][i] = if up { low } else { high };
            } else {
                batch.log_policy[slot][i] = if up { size } else { -size };
            }
            // A list's numbers are advantages, which are small.
            if !lists {
                batch.reward[slot][i] = if i % 3 == 0 { size } else { -size };
            }
        }
    }
    batch
}
