//! The sampled bandit experiment, run again: 10⁴ pairs, batches of 512, Adam, a table of logits.

use super::super::{Finding, toy};
use crate::bandit::{Dataset, Evidence};
use crate::error::Result;
use crate::loss::Objective;
use crate::observer::Silent;
use crate::sim::{Config, Optimizer, run};
use crate::solve::fixed_point;

const SEEDS: usize = 8;

/// Mean regret over the seeds of each objective after the given epochs.
fn train(objectives: &[Objective], lr: f64, epochs: &[usize]) -> Result<Vec<Vec<f64>>> {
    let config = Config {
        objectives: objectives.to_vec(),
        seeds: SEEDS,
        key: 0,
        samples: 10_000,
        batch: 512,
        epochs: epochs.iter().copied().max().unwrap_or(0),
        drop_last: false,
        optimizer: Optimizer::adam(lr),
        threads: 1,
    };
    let mut means = vec![vec![0.0; epochs.len()]; objectives.len()];
    run(
        &toy()?,
        &config,
        |rows| {
            for row in rows {
                let which = objectives.iter().position(|o| *o == row.objective);
                let when = epochs.iter().position(|e| *e == row.epoch);
                if let (Some(i), Some(j)) = (which, when) {
                    means[i][j] += row.regret / SEEDS as f64;
                }
            }
            Ok(())
        },
        &Silent,
    )?;
    Ok(means)
}

pub(super) fn copg() -> Result<Finding> {
    let slow = train(&[Objective::COPG], 1e-3, &[100, 200])?.concat();
    let fast = train(&[Objective::COPG], 1e-2, &[100])?.concat();
    let problem = toy()?;
    let furthest = (problem.optimum().policy.log()[0].iter())
        .zip(&problem.prompts()[0].log_reference)
        .map(|(l, r)| l - r)
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), u| {
            (low.min(u), high.max(u))
        });
    let evidence = format!(
        "mean of {SEEDS} seeds: {:.4} after 100 epochs, {:.1e} after 200; at 1e-2, {:.1e} after 100",
        slow[0], slow[1], fast[0]
    );
    let finding = Finding::holds_if(slow[1] < 1e-4 && fast[0] < 1e-6, slow[0] > 5e-3, evidence);
    Ok(finding
        .measure("regret after 100 epochs at 1e-3", slow[0])
        .measure(
            "some logit has to move by at least",
            (furthest.1 - furthest.0) / 2.0,
        ))
}

pub(super) fn value_baseline() -> Result<Finding> {
    let three = [
        Objective::COPG,
        Objective::PG_VALUE,
        Objective::PG_SOFT_VALUE,
    ];
    let slow = train(&three, 1e-3, &[25, 50, 100])?;
    let fast = train(&three, 1e-2, &[100])?;
    let evidence = format!(
        "mean of {SEEDS} seeds at 1e-3, epochs 25, 50, 100: CoPG {:.4}, {:.4}, {:.4}; E_π[R] {:.4}, \
         {:.4}, {:.4}; at 1e-2, epoch 100: {:.1e} and {:.4}",
        slow[0][0],
        slow[0][1],
        slow[0][2],
        slow[1][0],
        slow[1][1],
        slow[1][2],
        fast[0][0],
        fast[1][0]
    );
    let under = fast[1][0] > 0.01 && fast[0][0] < 1e-5 && fast[2][0] < 1e-5;
    let below = slow[1][0] < slow[0][0] && slow[1][1] < slow[0][1];
    let unbiased_above_too = slow[2][2] > slow[0][2];
    let finding = Finding::holds_if(under, below && unbiased_above_too, evidence);
    Ok(finding.measure("regret of E_π[R_β] after 100 epochs at 1e-3", slow[2][2]))
}

pub(super) fn ipo() -> Result<Finding> {
    let problem = toy()?;
    let population = Evidence::population(&problem);
    let regret = |which, evidence: &Evidence| -> Result<f64> {
        let limit = fixed_point(which, &problem, evidence)?;
        Ok(limit.regret.unwrap_or(f64::NAN))
    };
    let exact = regret(Objective::IPO, &population)?;
    let on_data = |n: usize, seeds: u64| -> Result<f64> {
        let mut mean = 0.0;
        for seed in 0..seeds {
            let data = Dataset::preferences(&problem, n, seed, 0);
            let evidence = Evidence::from_dataset(&problem, &data);
            mean += regret(Objective::IPO, &evidence)? / seeds as f64;
        }
        Ok(mean)
    };
    let (few, many) = (on_data(10_000, 20)?, on_data(1_000_000, 1)?);
    let gpo = regret(Objective::IPO_GPO, &population)?;
    let evidence = format!(
        "the exact limit keeps regret {exact:.12}; on datasets of 10⁴ pairs {few:.4} (mean of 20), on \
         10⁶ pairs {many:.4}"
    );
    let biased = exact > 0.1 && (many - exact).abs() < 0.01 && (few - exact).abs() < 0.01;
    Ok(Finding::holds(biased, evidence)
        .measure("regret", exact)
        .measure("of the (βd − 1)² form", gpo))
}
