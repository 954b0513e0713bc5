//! BPO's phases (BPO, Algorithm 1): what more phases do, exactly and by sampling.
//!
//! Claim: online preference optimisation with the behaviour policy as reference does better the more
//! phases it has. Solved exactly, F phases of DPO are one static phase at temperature β/F: no
//! phase is the last, the policy goes on to the arm of the largest reward, and regret by J_β, zero
//! after one phase of DPO, grows. The true reward grows with it: whether that is better depends on what is
//! measured. By sampling at a fixed budget of labels, each phase has fewer updates: little of it is
//! seen before the reference moves along.

use std::path::Path;

use crate::bandit::{Evidence, Problem};
use crate::loss::Objective;
use crate::observer::Observer;
use crate::rows::bpo_phases::{Exact, Static, Trained, trained};
use crate::rows::table::read;
use crate::sim::Optimizer;
use crate::sim::phases::{self, Reference};
use crate::solve::bpo::{self, Inner};
use crate::solve::fixed_point;
use anyhow::{Context, Result};
use serde_json::json;

use super::report::{markdown, maybe, number};
use super::run::Run;
use super::{Request, Sim};

pub const SIM: Sim = Sim {
    name: "bpo-phases",
    about: "BPO in phases: regret against their number, exact and sampled, and static DPO at β/F",
    run: simulate,
    report,
};

const BANDIT: &str = r#"{"beta": 0.5, "prompts": [{
    "reward": [1.5, 1.0, 0.5, 0.0], "behavior": [[0.25, 0.25, 0.25, 0.25]]
}]}"#;
const PHASES: usize = 20;
/// Divisors of the number of updates.
const SAMPLED: [usize; 7] = [1, 2, 5, 10, 25, 100, 400];
const UPDATES: usize = 400;
const BATCH: usize = 64;
const RATE: f64 = 2e-2;
const SEEDS: usize = 16;

fn simulate(request: &Request, dir: &Path) -> Result<()> {
    request.takes(SIM.name, &["seeds"])?;
    let seeds = request.seeds.unwrap_or(SEEDS);
    let problem = Problem::from_json(BANDIT)?;
    let config = json!({
        "problem": serde_json::from_str::<serde_json::Value>(&problem.to_json())?,
        "exact_phases": PHASES, "phases": SAMPLED, "updates": UPDATES, "batch": BATCH,
        "optimizer": "adam", "rate": RATE, "seeds": seeds, "key": request.key,
    });
    let plan = |inner, reference, phases| phases::Config {
        inner,
        reference,
        updates: UPDATES,
        phases,
        batch: BATCH,
        every: UPDATES,
        optimizer: Optimizer::adam(RATE),
        seeds,
        key: request.key,
        threads: 1,
    };
    plan(Inner::Dpo, Reference::Static, 1).check()?;
    let run = Run::start(SIM.name, request, dir, config)?;

    let mean_reward = |policy: &crate::bandit::Policy| -> f64 {
        let each = problem.prompts().iter().zip(policy.probabilities());
        each.map(|(prompt, row)| {
            prompt.weight
                * row
                    .iter()
                    .zip(&prompt.reward)
                    .map(|(p, r)| p * r)
                    .sum::<f64>()
        })
        .sum()
    };
    let exact = run.map(&Inner::ALL, |&inner| {
        let solved = bpo::phases(&problem, inner, PHASES)?
            .into_iter()
            .enumerate();
        Ok(solved
            .filter_map(|(k, point)| {
                Some(Exact {
                    inner: inner.name().into(),
                    phases: k as u64 + 1,
                    regret: point.regret?,
                    reward: mean_reward(&point.policy?),
                })
            })
            .collect::<Vec<_>>())
    })?;
    run.write("rows.csv", &exact.concat())?;

    let counts: Vec<usize> = (1..=PHASES).collect();
    let fixed = run.map(&counts, |&k| {
        let cold = bpo::static_equivalent(&problem, k)?;
        let point = fixed_point(Objective::DPO, &cold, &Evidence::population(&cold))?;
        let mut policy = problem.reference();
        for _ in 0..k {
            let phase = bpo::phase_problem(&problem, &policy)?;
            let solved = fixed_point(Objective::DPO, &phase, &Evidence::population(&phase))?;
            policy = solved.policy.context("DPO has a limit on connected arms")?;
        }
        let cold = point.policy.context("DPO has a limit on connected arms")?;
        // Regrets at the problem's own temperature.
        Ok(Static {
            phases: k as u64,
            regret: problem.regret(&cold),
            stepwise: problem.regret(&policy),
        })
    })?;
    run.write("static.csv", &fixed)?;

    let references = [
        ("behaviour", Reference::Behaviour),
        ("static", Reference::Static),
    ];
    let mut places = Vec::new();
    for inner in Inner::ALL {
        for (name, reference) in references {
            places.extend(SAMPLED.map(|phases| (inner, name, reference, phases)));
        }
    }
    let trained = run.map(&places, |&(inner, name, reference, phases)| {
        let rows = phases::run(&problem, &plan(inner, reference, phases))?;
        let last = rows.into_iter().filter(|row| row.update == UPDATES);
        Ok(last
            .map(|row| Trained {
                inner: inner.name().into(),
                reference: name.into(),
                phases: phases as u64,
                seed: row.seed as u64,
                labels: row.labels as u64,
                regret: row.regret,
                reward: row.reward,
                win_rate: row.win_rate,
            })
            .collect::<Vec<_>>())
    })?;
    run.write("trained.csv", &trained.concat())?;
    run.finish()
}

fn report(dir: &Path, observer: &dyn Observer) -> Result<String> {
    let exact: Vec<Exact> = read(&dir.join("rows.csv"), observer)?;
    let fixed: Vec<Static> = read(&dir.join("static.csv"), observer)?;
    let sampled: Vec<Trained> = read(&dir.join("trained.csv"), observer)?;
    let regret = |inner: Inner, k: u64| {
        let row = exact
            .iter()
            .find(|r| r.inner == inner.name() && r.phases == k);
        row.map(|r| r.regret)
    };
    let gap = (fixed.iter())
        .map(|s| (s.stepwise - s.regret).abs())
        .fold(0.0, f64::max);
    let mut text = format!(
        "Exact regret by J_β after F phases. F phases of DPO, solved one after the other, and one \
         static phase at temperature β/F differ by at most {gap:.0e}. DPO is at π* after one phase, \
         IPO passes it after a few; then the policy goes on to the best arm and regret grows.\n\n"
    );
    let rows: Vec<Vec<String>> = (fixed.iter())
        .filter(|s| [1, 2, 3, 5, 10, 20].contains(&s.phases))
        .map(|s| {
            let mut row = vec![s.phases.to_string(), number(s.regret)];
            row.extend(Inner::ALL.map(|inner| maybe(regret(inner, s.phases))));
            row
        })
        .collect();
    text += &markdown(
        &["F", "static DPO at β/F", "bpo-dpo", "bpo-ipo", "bpo-slic"],
        &rows,
    );
    let labels = sampled.first().map_or(0, |r| r.labels);
    text += &format!(
        "\nBy sampling, {labels} labels in all whatever F: mean regret by J_β over seeds, with the \
         behaviour policy as reference (BPO) / with the initial reference throughout.\n\n"
    );
    let mut counts: Vec<u64> = sampled.iter().map(|r| r.phases).collect();
    counts.sort_unstable();
    counts.dedup();
    let rows: Vec<Vec<String>> = (counts.iter())
        .map(|k| {
            let mut row = vec![k.to_string()];
            row.extend(Inner::ALL.map(|inner| {
                let mean = |reference| {
                    let all = trained(&sampled, inner.name(), reference, |r| r.regret);
                    maybe(all.iter().find(|(at, _)| at == k).map(|(_, s)| s.mean))
                };
                format!("{} / {}", mean("behaviour"), mean("static"))
            }));
            row
        })
        .collect();
    text += &markdown(&["F", "bpo-dpo", "bpo-ipo", "bpo-slic"], &rows);
    Ok(text)
}
