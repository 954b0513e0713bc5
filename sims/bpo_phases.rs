//! BPO's phases (BPO, Algorithm 1): what more phases do, exactly and by sampling.
//!
//! Claim: online preference optimisation with the behaviour policy as reference does better the more
//! phases it has. Solved exactly, F phases of DPO are one static phase at temperature β/F: no
//! phase is the last, the policy goes on to the arm of the largest reward, and regret by J_β, zero
//! after one phase of DPO, grows. The true reward grows with it: whether that is better depends on what is
//! measured. By sampling at a fixed budget of labels, each phase has fewer updates: little of it is
//! seen before the reference moves along.
//!
//! Beside the behaviour policy and the initial reference stand the paper's other references: the end of an
//! on-policy run of BPO ("golden"), a moving average of the policy's logits, and the merged policy of five
//! members that are trained side by side. Members of a table are changes of its logits of rank 2, with one
//! member of that rank as their control; transformers have weights of their own, all fitted to the reference.
//! Averages and merged policies are those of logits: of ln π of every response where the policy is a
//! transformer, whose weights the paper averages.

use std::path::Path;

use crate::bandit::{Evidence, Problem};
use crate::loss::Objective;
use crate::observer::Observer;
use crate::rows::bpo_phases::{Exact, Static, Trained, references, trained};
use crate::rows::table::read;
use crate::sim::Optimizer;
use crate::sim::phases::{self, Ensemble, Pairs, Reference};
use crate::solve::bpo::{self, Inner};
use crate::solve::fixed_point;
use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::report::{markdown, maybe, number};
use super::run::Run;
use super::transformers::{self, Starts};
use super::{Policy, Request, Sim};

pub const SIM: Sim = Sim {
    name: "bpo-phases",
    about: "BPO in phases: regret against their number, exact and sampled, over references; static DPO at β/F",
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
/// The same of transformers: a step of one size on every weight moves a logit a hundred times as far as on a table.
const FEWER: [usize; 3] = [1, 10, 400];
const FINE: f64 = 2e-4;
const TRANSFORMERS: usize = 4;

/// Rates of the averaged reference, of those of BPO's section 5.4.
const TAUS: [&str; 3] = ["0.05", "0.01", "0.001"];
/// Members of an ensemble, and the rank of each where they are tables.
const MEMBERS: usize = 5;
const RANK: usize = 2;

/// A reference, and what is trained against it.
#[derive(Clone)]
struct Setting {
    name: String,
    reference: Reference,
    ensemble: Ensemble,
}

/// All of them: those of Algorithm 1 first.
fn settings(policy: Policy) -> Result<Vec<Setting>> {
    let lone = |name: &str, reference| Setting {
        name: name.into(),
        reference,
        ensemble: Ensemble::default(),
    };
    let ensemble = |members, rank| Setting {
        name: format!("ensemble:{members}"),
        reference: Reference::Behaviour,
        ensemble: Ensemble { members, rank },
    };
    let mut all = vec![
        lone("behaviour", Reference::Behaviour),
        lone("static", Reference::Static),
        lone("golden", Reference::Golden),
    ];
    for tau in TAUS {
        let name = format!("ema:{tau}");
        all.push(lone(&name, Reference::Average { tau: tau.parse()? }));
    }
    match policy {
        // Beside the five, one of their rank.
        Policy::Tabular => all.extend([MEMBERS, 1].map(|n| ensemble(n, Some(RANK)))),
        // Their weights make them differ.
        Policy::Transformer => all.push(ensemble(MEMBERS, None)),
    }
    Ok(all)
}

/// A training to be run: loss, setting, phases.
type Place = (Inner, Setting, usize);

fn places(settings: &[Setting], phases: &[usize]) -> Vec<Place> {
    let (first, rest) = settings.split_at(2.min(settings.len()));
    let mut all = Vec::new();
    for settings in [first, rest] {
        for inner in Inner::ALL {
            for setting in settings {
                all.extend(phases.iter().map(|&n| (inner, setting.clone(), n)));
            }
        }
    }
    all
}

fn simulate(request: &Request, dir: &Path) -> Result<()> {
    request.takes(SIM.name, &["policy", "seeds"])?;
    let tabular = request.policy == Policy::Tabular;
    let seeds = if tabular { SEEDS } else { TRANSFORMERS };
    let seeds = request.seeds.unwrap_or(seeds);
    let (sampled, rate) = if tabular {
        (&SAMPLED[..], RATE)
    } else {
        (&FEWER[..], FINE)
    };
    let problem = Problem::from_json(BANDIT)?;
    let settings = settings(request.policy)?;
    let names: Vec<&str> = settings.iter().map(|s| s.name.as_str()).collect();
    let mut config = json!({
        "problem": serde_json::from_str::<Value>(&problem.to_json())?,
        "exact_phases": PHASES, "phases": sampled, "updates": UPDATES, "batch": BATCH,
        "optimizer": "adam", "rate": rate, "seeds": seeds, "key": request.key,
        "references": names,
    });
    if let Value::Object(config) = &mut config {
        let (name, value) = if tabular {
            ("rank", RANK.into())
        } else {
            ("policy", transformers::record(&problem)?)
        };
        config.insert(name.into(), value);
    }
    let plan = |(inner, setting, phases): &Place| phases::Config {
        inner: *inner,
        reference: setting.reference.clone(),
        ensemble: setting.ensemble,
        updates: UPDATES,
        phases: *phases,
        pairs: Pairs::Drawn(BATCH),
        every: UPDATES,
        optimizer: Optimizer::adam(rate),
        seeds,
        key: request.key,
        threads: 1,
    };
    let places = places(&settings, sampled);
    for place in &places {
        plan(place).check()?;
    }
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

    let starts = if tabular {
        None
    } else {
        Some(Starts::new(&problem, &run, seeds, MEMBERS)?)
    };
    let trained = run.map(&places, |place| {
        let rows = match &starts {
            None => phases::run(&problem, &plan(place))?,
            Some(starts) => starts.phases(&plan(place))?,
        };
        let last = rows.into_iter().filter(|row| row.update == UPDATES);
        let (inner, setting, phases) = place;
        Ok(last
            .map(|row| Trained {
                inner: inner.name().into(),
                reference: setting.name.clone(),
                phases: *phases as u64,
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
    text += "\nThe same by reference: mean regret ± its standard deviation over seeds, and the mean true reward.\n";
    for &k in [counts.first(), counts.last()].into_iter().flatten() {
        let rows: Vec<Vec<String>> = (references(&sampled).into_iter())
            .map(|reference| {
                let mut row = vec![reference.to_string()];
                row.extend(Inner::ALL.map(|inner| {
                    let at = |value| {
                        let all = trained(&sampled, inner.name(), reference, value);
                        all.into_iter().find(|(at, _)| *at == k).map(|(_, s)| s)
                    };
                    match (at(|r| r.regret), at(|r| r.reward)) {
                        (Some(regret), Some(reward)) => format!(
                            "{} ± {}, {}",
                            number(regret.mean),
                            number(regret.sd),
                            number(reward.mean)
                        ),
                        _ => "–".into(),
                    }
                }));
                row
            })
            .collect();
        text += &format!("\nF = {k}\n\n");
        text += &markdown(&["reference", "bpo-dpo", "bpo-ipo", "bpo-slic"], &rows);
    }
    Ok(text)
}
