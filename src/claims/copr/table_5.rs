//! Table 5's columns, by the losses themselves.

use super::super::Finding;
use crate::error::{Error, Result};
use crate::loss::{Batch, Given, InputKind, Objective};
use crate::magnitude::largest;
use crate::verify::report::{Outcome, invariance as invariants};

/// How far the gradient on four given responses, in a list if the loss takes lists, moves when all rewards rise by 3.
fn on_responses(objective: Objective) -> Result<f64> {
    let spec = objective.spec();
    let gradient = |level: f64| -> Result<Vec<f64>> {
        let mut batch = Batch::default();
        batch.log_policy[0] = vec![-0.9, -1.3, -1.7, -2.1];
        batch.log_reference[0] = vec![-1.2, -1.5, -1.3, -1.6];
        batch.reward[0] = [-0.75, -0.25, 0.25, 0.75].map(|r| r + level).to_vec();
        if spec.inputs.is_ragged() {
            batch.sizes = vec![4];
            batch.weight = vec![1.0];
        } else {
            batch.baseline = vec![0.0; 4];
            batch.weight = vec![0.25; 4];
        }
        let mut out = objective.bind(&Given::from(0.5))?.on_tape(&batch)?;
        Ok(out.gradient.swap_remove(0))
    };
    let (here, raised) = (gradient(0.0)?, gradient(3.0)?);
    Ok(largest(here.iter().zip(&raised).map(|(a, b)| a - b)))
}

/// How far the limit moves when all rewards rise, by the report on the loss.
fn of_limit(objective: Objective) -> Result<f64> {
    let property = "rewards + 3";
    let found = invariants(objective)?
        .into_iter()
        .find(|check| check.property == property);
    let check = found.ok_or_else(|| {
        Error::invalid(
            objective.name(),
            format!("`{property}` was not checked"),
            "choose an objective that has a limit",
        )
    })?;
    Ok(match check.outcome {
        Outcome::Ok => check.number.unwrap_or(f64::NAN),
        _ => f64::INFINITY,
    })
}

pub(super) fn invariance() -> Result<Finding> {
    let (mut sampled, mut limits) = ([0.0; 3], [0.0; 3]);
    let all = [Objective::PPO_CLIP, Objective::COPR, Objective::RRHF];
    for (i, objective) in all.into_iter().enumerate() {
        sampled[i] = on_responses(objective)?;
        limits[i] = of_limit(objective)?;
    }
    let [ppo, copr, rrhf] = sampled;
    let evidence = format!(
        "all rewards + 3: the gradient on four given responses moves by {ppo:.2} for PPO, {copr:.0e} for COPR and \
         {rrhf:.0e} for RRHF; the limits on the bandit of `verify` by {:.0e}, {:.0e} and {:.0e}",
        limits[0], limits[1], limits[2]
    );
    let apart = ppo > 0.1 && copr < 1e-12 && rrhf < 1e-12;
    let alike = limits.iter().all(|moved| *moved < 1e-9);
    Ok(Finding::holds_if(apart, alike, evidence)
        .measure("PPO: change of the gradient on given responses", ppo)
        .measure("PPO: change of the limit", limits[0]))
}

pub(super) fn pairwise() -> Result<Finding> {
    let kind = |objective: Objective| objective.spec().inputs;
    let reward_model = kind(Objective::REWARD_MODEL) == InputKind::LabelledPairs;
    let alone = kind(Objective::PPO_CLIP) == InputKind::Singles;
    let evidence = format!(
        "registered as losses of {} (PPO-clip) and of {} (reward model)",
        kind(Objective::PPO_CLIP).name(),
        kind(Objective::REWARD_MODEL).name()
    );
    Ok(Finding::holds_if(reward_model, alone, evidence))
}
