//! CoPG, DPO and IPO on a language model, offline, with one rule as the reward: the paper's
//! Figures 2 to 7 in small.
//!
//! The reference writes two completions of each prompt; the rule scores them; CoPG sees the scores,
//! DPO and IPO who is better. Each trains on the same pairs, over a sweep of β; then the best β of
//! each, chosen on the sweep, again on new seeds and more held-out prompts.

use std::path::Path;

use crate::loss::Objective;
use crate::observer::Observer;
use anyhow::{Result, ensure};
use serde_json::json;

use super::report;
use super::run::Run;
use super::trial::{BATCH, Trial};
use super::world::{COMPLETION, PROMPT, World};
use super::{Request, Study};
use crate::rows::study::{Row, rates, read_rows};

pub const STUDY: Study = Study {
    name: "copg",
    about: "CoPG, DPO and IPO offline on a language model, over β: CoPG's Figures 2 to 7 in small",
    run,
    report,
    ablations: None,
    full: false,
};

const BETAS: [f64; 6] = [0.01, 0.03, 0.06, 0.1, 0.3, 1.0];
const IPO_BETAS: [f64; 6] = [0.003, 0.01, 0.03, 0.06, 0.1, 0.3];
/// The paper's sweeps.
const SWEEPS: [(Objective, [f64; 6]); 3] = [
    (Objective::COPG, BETAS),
    (Objective::DPO, BETAS),
    (Objective::IPO, IPO_BETAS),
];

pub(super) const LR: f64 = 2e-4;
pub(super) const PROMPTS: usize = 2048;
pub(super) const SEEDS: u64 = 3;
/// Held-out prompts in the sweep, and for the best β.
pub(super) const HELD: [usize; 2] = [128, 512];
/// Version of what `config` says, the first of which knew no inputs but the weights.
const FORMAT: u32 = 2;
/// Steps between two judgements.
pub(super) const EVERY: u64 = 8;

fn run(request: &Request, dir: &Path) -> Result<()> {
    study(request, dir, STUDY.name, &SWEEPS)
}

/// A sweep over β for each objective, and the best β of each again.
pub(super) fn study<const N: usize>(
    request: &Request,
    dir: &Path,
    name: &'static str,
    sweeps: &[(Objective, [f64; N])],
) -> Result<()> {
    let (count, seeds) = (
        request.prompts.unwrap_or(PROMPTS),
        request.seeds.unwrap_or(SEEDS),
    );
    let lr = request.lr.unwrap_or(LR);
    let world = World::of(request, dir, count, HELD[1])?;
    let told = world.pairs.iter().filter(|[a, b]| a.reward != b.reward);
    let told = told.count();
    ensure!(
        told >= BATCH,
        "reward: it tells {told} of {count} pairs of completions apart, and a step takes {BATCH}; give \
         one that tells more apart, or more --prompts"
    );
    let named: Vec<_> = sweeps
        .iter()
        .map(|(o, betas)| json!({"objective": o.name(), "beta": betas.to_vec()}))
        .collect();
    let config = json!({
        "format": FORMAT, "inputs": world.inputs, "reward": world.rule_parts(), "key": request.key, "prompts": count,
        "held": HELD, "seeds": seeds, "lr": lr, "every": EVERY, "sweeps": named,
        "tokens": [PROMPT, COMPLETION],
    });
    let run = Run::start(name, request, dir, config)?;
    let trial = |part, objective, beta, seed, prompts| Trial {
        part,
        objective,
        beta,
        seed,
        lr,
        prompts,
        every: EVERY,
    };
    let mut trials = Vec::new();
    for seed in 0..seeds {
        for &(objective, betas) in sweeps {
            trials.extend(betas.map(|beta| trial("sweep", objective, beta, seed, HELD[0])));
        }
    }
    let mut rows = run.trials("sweep", &world, &trials)?;
    let mut best = Vec::new();
    for seed in seeds..3 * seeds {
        for (objective, _) in sweeps {
            if let Some(beta) = best_beta(&rows, objective.name()) {
                best.push(trial("best", *objective, beta, seed, HELD[1]));
            }
        }
    }
    rows.extend(run.trials("best β", &world, &best)?);
    run.finish(&rows)
}

/// The β with the greatest reward at the end of the sweep.
pub fn best_beta(rows: &[Row], objective: &str) -> Option<f64> {
    let ends = rates(rows, "sweep", objective);
    ends.into_iter()
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .map(|best| best.0)
}

fn report(dir: &Path, observer: &dyn Observer) -> Result<String> {
    let rows = read_rows(dir, observer)?;
    report::text(&rows, &SWEEPS.map(|(o, _)| o.name()))
}
