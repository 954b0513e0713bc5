//! Reward hacking and forgetting on tasks that share a policy (Advantage Model, sections 3 and 4.4).
//!
//! Claim: PPO on a reward model's scores chases the task whose rewards are largest and forgets what
//! the policy knew; the Advantage Model's scores and selective rehearsal keep it from both. Clipped
//! PPO in exact expectation on a log-linear policy, in random worlds of four tasks of which one, the
//! forget set, is only measured. Controls: rewards standardised prompt by prompt, an exact critic.
//! Beside: how much the number of clusters matters that rehearsal keeps examples of (Fig. 6).

use std::path::Path;

use crate::observer::Observer;
use crate::rows::am_hacking::{CLUSTERS, ClusterRow, Clusters, FORGET, Hacking, Row};
use crate::rows::spread::Spread;
use crate::sim::multitask::{Experiment, GAMMA, REHEARSED, TASKS, VARIANTS, experiment};
use anyhow::Result;
use serde_json::json;

use super::report::markdown;
use super::run::Run;
use super::{Request, Sim};

pub const SIM: Sim = Sim {
    name: "am-hacking",
    about: "Reward hacking and forgetting under PPO: reward scores, Advantage Model, rehearsal",
    run: simulate,
    report,
};

/// Numbers of clusters of the paper's Fig. 6, as far as the training prompts go.
const SWEPT: [usize; 5] = [1, 2, 4, 8, 16];

fn simulate(request: &Request, dir: &Path) -> Result<()> {
    request.takes(SIM.name, &["seeds", "clusters", "kept", "gamma"])?;
    let default = Experiment::default();
    let seeds = request.seeds.map_or(default.seeds, |n| n as u64);
    anyhow::ensure!(
        (1..=10_000).contains(&seeds),
        "--seeds: {seeds} cannot be run; ask for 1 to 10000"
    );
    let (clusters, kept, drawn) = default.rehearsal;
    let (clusters, kept) = (
        request.clusters.unwrap_or(clusters),
        request.kept.unwrap_or(kept),
    );
    let prompts: usize = (TASKS.iter().filter(|t| t.trained))
        .map(|t| t.prompts)
        .sum();
    anyhow::ensure!(
        (1..=prompts).contains(&clusters),
        "--clusters: {clusters} of {prompts} prompts; ask for 1 to {prompts}"
    );
    anyhow::ensure!(
        kept > 0,
        "--kept: 0 leaves nothing to rehearse; give 1 or more"
    );
    let gamma = request.gamma.unwrap_or(GAMMA);
    anyhow::ensure!(
        gamma > 0.0 && gamma.is_finite(),
        "--gamma: it is {gamma}; give a finite number above 0 (without rehearsal is a variant anyway)"
    );
    let study = Experiment {
        seeds,
        key: request.key,
        rehearsal: (clusters, kept, drawn),
        ..default
    };
    let variants = VARIANTS.map(|variant| variant.at(gamma));
    let settings = study.settings;
    let config = json!({
        "seeds": seeds, "key": request.key, "arms": study.arms, "beta": study.beta,
        "private": study.private, "margin": study.margin, "rounds": settings.rounds,
        "steps": settings.steps, "lr": settings.lr, "epsilon": settings.epsilon,
        "rehearsal": study.rehearsal, "variants": variants.map(|v| v.name),
        "gammas": variants.map(|v| v.gamma), "swept": SWEPT,
    });
    let run = Run::start(SIM.name, request, dir, config)?;
    let rows = run.map(&variants, |variant| {
        let measured = experiment(&study, std::slice::from_ref(variant))?;
        let rows = measured.into_iter().map(|m| Row {
            seed: m.seed,
            variant: m.variant.into(),
            round: m.row.round as u64,
            task: m.row.task.into(),
            win: m.row.win,
            kl: m.row.kl,
            reward: m.row.reward,
            score: m.row.score,
        });
        Ok(rows.collect::<Vec<_>>())
    })?;
    run.write("rows.csv", &rows.concat())?;
    let swept = run.map(&SWEPT, |&clusters| {
        let study = Experiment {
            rehearsal: (clusters, kept, drawn),
            ..study
        };
        let measured = experiment(&study, &[REHEARSED.at(gamma)])?;
        let rows = measured.into_iter().map(|m| ClusterRow {
            seed: m.seed,
            clusters: clusters as u64,
            kept: kept as u64,
            gamma,
            round: m.row.round as u64,
            task: m.row.task.into(),
            win: m.row.win,
            kl: m.row.kl,
            reward: m.row.reward,
            score: m.row.score,
        });
        Ok(rows.collect::<Vec<_>>())
    })?;
    run.write(CLUSTERS, &swept.concat())?;
    run.finish()
}

fn report(dir: &Path, observer: &dyn Observer) -> Result<String> {
    let run = Hacking::read(dir, observer)?;
    let tasks = run.tasks();
    let cell = |variant: &str, task: &str, of: fn(&Row) -> f64| -> String {
        shown(run.end(variant, task, of).into_iter().map(|(_, v)| v))
    };
    let last = run.last();
    let mut text = format!(
        "After {last} rounds of clipped PPO, mean over worlds and half its 95 % band: exact win rates \
         against the initial policy by task, and KL to it on the forget set, which is never trained \
         on. Every score but the Advantage Model's is made from the true rewards: what goes wrong is the choice of scale \
         and baseline, not a wrong reward.\n\n",
    );
    let wins: Vec<String> = tasks.iter().map(|t| format!("win rate, {t}")).collect();
    let mut header = vec!["scores"];
    header.extend(wins.iter().map(String::as_str));
    header.extend(["KL, forget", "reward, forget"]);
    let rows: Vec<Vec<String>> = (run.variants().into_iter())
        .map(|variant| {
            let mut row = vec![variant.to_owned()];
            row.extend(tasks.iter().map(|task| cell(variant, task, |r| r.win)));
            row.push(cell(variant, FORGET, |r| r.kl));
            row.push(cell(variant, FORGET, |r| r.reward));
            row
        })
        .collect();
    text += &markdown(&header, &rows);
    let rehearsal = ["advantage + rehearsal", "advantage"];
    let plain = ["standardised", "advantage"];
    let hacked = ["reward", "advantage"];
    let win: fn(&Row) -> f64 = |r| r.win;
    let kl: fn(&Row) -> f64 = |r| r.kl;
    text += &format!(
        "\nOn the forget set, rehearsal beside the Advantage Model's scores leaves the KL {} and the \
         win rate {}.\n",
        run.above(rehearsal, FORGET, kl)?.words(),
        run.above(rehearsal, FORGET, win)?.words(),
    );
    text += &format!(
        "There the win rate of training on rewards as they are is, against the Advantage Model's, {}; \
         that of rewards standardised prompt by prompt is {}.\n",
        run.above(hacked, FORGET, win)?.words(),
        run.above(plain, FORGET, win)?.words(),
    );
    if let Some(clusters) = Clusters::read(dir, observer)? {
        text += &over_clusters(&clusters);
    }
    Ok(text)
}

/// Mean and half of its 95 % band.
fn shown(values: impl IntoIterator<Item = f64>) -> String {
    Spread::of(values).map_or("–".into(), |s| match s.half() {
        Some(half) => format!("{:.3} ± {half:.3}", s.mean),
        None => format!("{:.3}", s.mean),
    })
}

/// The end of Fig. 6: scores and win rates by the number of clusters.
fn over_clusters(run: &Clusters) -> String {
    let kept = run.settings().map_or(String::new(), |(kept, gamma)| {
        format!(", the best {kept} of each at γ = {gamma}")
    });
    let rows: Vec<Vec<String>> = (run.counts().into_iter())
        .map(|c| {
            vec![
                c.to_string(),
                shown(run.end(c, true, |r| r.score)),
                shown(run.end(c, true, |r| r.win)),
                shown(run.end(c, false, |r| r.win)),
            ]
        })
        .collect();
    format!(
        "\nThe Advantage Model with rehearsal, by the number of clusters c that examples are kept of{kept}: mean over the \
         tasks trained on of score and win rate, and win rate on the forget set.\n\n{}",
        markdown(&["c", "score", "win rate", "win rate, forget"], &rows)
    )
}
