//! CoPG's bandit experiment (section 5, Figure 1), and what it hides.
//!
//! Claim: trained by sampling on off-policy pairs, CoPG reaches zero regret; IPO is biased; policy
//! gradient without a baseline makes things worse, with a value baseline it is biased.
//!
//! Two things the figure does not show. At its learning rate nothing but IPO has converged after
//! 100 epochs, so a second run at 1e-2 lets the curves reach their exact limits. And a policy
//! gradient whose baseline is the *regularised* value E_π[R_β] (the paper's own section 2) has zero
//! regret too: it is trained along as a control.

use std::path::Path;
use std::time::Instant;

use crate::bandit::{Evidence, Problem};
use crate::loss::Objective;
use crate::observer::Observer;
use crate::rows::spread::Spread;
use crate::rows::table::{Record, write};
use crate::sim::folder::Folder;
use crate::sim::{Config, Optimizer, Row, run};
use crate::solve::fixed_point;
use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::report::markdown;
use super::{Policy, Request, Sim, transformers};
use crate::rows::copg_toy::{self as rows, Limit, Rate, read_limits, read_rows};

pub const SIM: Sim = Sim {
    name: "copg-toy",
    about: "CoPG's bandit (section 5, Figure 1): who converges where on off-policy pairs",
    run: simulate,
    report,
};

const BANDIT: &str = r#"{"beta": 0.5, "prompts": [{
    "reward": [2.5, 2.0, 1.0],
    "behavior": [[0.1, 0.2, 0.7], [0.05, 0.05, 0.9]]
}]}"#;

const OBJECTIVES: [Objective; 5] = [
    Objective::COPG,
    Objective::IPO,
    Objective::PG_ZERO,
    Objective::PG_VALUE,
    Objective::PG_SOFT_VALUE,
];

fn simulate(request: &Request, dir: &Path) -> Result<()> {
    let problem = match &request.problem {
        Some(problem) => problem.clone(),
        None => Problem::from_json(BANDIT)?,
    };
    let objectives = request.objectives.clone().unwrap_or(OBJECTIVES.to_vec());
    let tabular = request.policy == Policy::Tabular;
    // A step of one size on every weight of a transformer moves a logit a hundred times as far as
    // on a table.
    let rates = if tabular {
        vec![1e-3, 1e-2]
    } else {
        vec![1e-5, 1e-4]
    };
    let rates = request.lr.clone().unwrap_or(rates);
    let config = |lr| Config {
        objectives: objectives.clone(),
        seeds: request.seeds.unwrap_or(if tabular { 40 } else { 20 }),
        key: request.key,
        samples: request.samples.unwrap_or(10_000),
        batch: request.batch.unwrap_or(512),
        epochs: request.epochs.unwrap_or(if tabular { 100 } else { 50 }),
        drop_last: request.drop_last,
        optimizer: if request.sgd {
            Optimizer::Sgd { lr }
        } else {
            Optimizer::adam(lr)
        },
        threads: request.threads,
    };

    for (i, &lr) in rates.iter().enumerate() {
        config(lr).check()?;
        ensure!(
            !rates[..i].contains(&lr),
            "--lr: {lr} is given twice; give each once"
        );
    }
    let shared = config(rates[0]);
    let names: Vec<_> = objectives.iter().map(|o| o.name()).collect();
    let mut record = json!({
        "problem": serde_json::from_str::<serde_json::Value>(&problem.to_json())?,
        "objectives": names,
        "lr": rates,
        "optimizer": if request.sgd { "sgd" } else { "adam" },
        "seeds": shared.seeds,
        "key": shared.key,
        "samples": shared.samples,
        "batch": shared.batch,
        "epochs": shared.epochs,
        "steps": shared.steps(),
        "drop_last": shared.drop_last,
    });
    if let (false, Value::Object(record)) = (tabular, &mut record) {
        record.insert("policy".into(), transformers::record(&problem)?);
    }
    // The exact limits, from the solver.
    let population = Evidence::population(&problem);
    let mut limits = Vec::new();
    for &objective in &objectives {
        // Sampled RLOO takes the two responses of a pair, so it is CoPG's gradient, halved (CoPG,
        // Property 2); only for independent responses of one law is it the solver's RLOO.
        let solved = if objective == Objective::RLOO {
            Objective::COPG
        } else {
            objective
        };
        limits.push(Limit {
            objective: objective.name().into(),
            regret: fixed_point(solved, &problem, &population)?.regret,
        });
    }
    let mut folder = Folder::create(
        dir,
        SIM.name,
        record,
        request.threads,
        &rows::Row::header(),
        request.overwrite,
    )?;
    folder.write("limits.csv", &write(&limits))?;

    // The sampled runs.
    let length = rates.len() * shared.seeds * shared.epochs;
    let work = request.observer.begin(SIM.name, length as u64);
    let started = Instant::now();
    for &lr in &rates {
        let line = |row: &Row| {
            let row = rows::Row {
                lr: Rate(lr),
                objective: row.objective.name().into(),
                seed: row.seed as u64,
                epoch: row.epoch as u64,
                regret: row.regret,
            };
            row.line()
        };
        let append = |rows: &[Row]| folder.append(&rows.iter().map(line).collect::<Vec<_>>());
        match request.policy {
            Policy::Tabular => run(&problem, &config(lr), append, &*work)?,
            Policy::Transformer => transformers::train(&problem, &config(lr), append, &*work)?,
        }
    }
    let train_s = started.elapsed().as_secs_f64();
    drop(work);
    folder.finish(Some(train_s))?;
    Ok(())
}

/// Epochs whose regrets the report shows.
const SHOWN: [u64; 5] = [1, 10, 25, 50, 100];

fn report(dir: &Path, observer: &dyn Observer) -> Result<String> {
    let sweeps = read_rows(&dir.join("rows.csv"), observer)?;
    let limits = read_limits(&dir.join("limits.csv"), observer)?;
    let mut text = String::from(
        "Regret `J(π*) − J(π)` of policies trained on sampled pairs, mean ± standard deviation over \
         seeds, beside the exact limit of each objective on the population.\n",
    );
    for sweep in &sweeps {
        text += &format!("\nLearning rate {}\n\n", sweep.lr);
        let epochs: Vec<u64> = (SHOWN.into_iter())
            .filter(|e| sweep.curves.values().all(|c| c.contains_key(e)))
            .collect();
        let shown: Vec<String> = epochs.iter().map(|e| format!("epoch {e}")).collect();
        let header: Vec<&str> = ["objective"]
            .into_iter()
            .chain(shown.iter().map(String::as_str))
            .chain(["exact limit"])
            .collect();
        let rows: Vec<Vec<String>> = (sweep.curves.iter())
            .map(|(name, curve)| {
                let mut row = vec![name.clone()];
                row.extend(epochs.iter().map(|e| {
                    Spread::of(curve[e].values().copied())
                        .map_or("–".into(), |s| format!("{:.5} ± {:.5}", s.mean, s.sd))
                }));
                row.push(limits.get(name).map_or("–".into(), |r| format!("{r:.6}")));
                row
            })
            .collect();
        text += &markdown(&header, &rows);
    }
    Ok(text)
}
