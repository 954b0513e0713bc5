//! Reward hacking and forgetting on tasks that share a policy (Advantage Model, sections 3 and 4.4).
//!
//! Claim: PPO on a reward model's scores chases the task whose rewards are largest and forgets what
//! the policy knew; the Advantage Model's scores and selective rehearsal keep it from both. Clipped
//! PPO in exact expectation on a log-linear policy, in random worlds of four tasks of which one, the
//! forget set, is only measured. Controls: rewards standardised prompt by prompt, an exact critic.

use std::path::Path;

use crate::observer::Observer;
use crate::rows::am_hacking::{FORGET, Hacking, Row};
use crate::rows::spread::Spread;
use crate::sim::multitask::{Experiment, VARIANTS, experiment};
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

fn simulate(request: &Request, dir: &Path) -> Result<()> {
    request.takes(SIM.name, &["seeds"])?;
    let default = Experiment::default();
    let seeds = request.seeds.map_or(default.seeds, |n| n as u64);
    anyhow::ensure!(
        (1..=10_000).contains(&seeds),
        "--seeds: {seeds} cannot be run; ask for 1 to 10000"
    );
    let study = Experiment {
        seeds,
        key: request.key,
        ..default
    };
    let settings = study.settings;
    let config = json!({
        "seeds": seeds, "key": request.key, "arms": study.arms, "beta": study.beta,
        "private": study.private, "margin": study.margin, "rounds": settings.rounds,
        "steps": settings.steps, "lr": settings.lr, "epsilon": settings.epsilon,
        "rehearsal": study.rehearsal, "variants": VARIANTS.map(|v| v.name),
        "gammas": VARIANTS.map(|v| v.gamma),
    });
    let run = Run::start(SIM.name, request, dir, config)?;
    let rows = run.map(&VARIANTS, |variant| {
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
    run.finish()
}

fn report(dir: &Path, observer: &dyn Observer) -> Result<String> {
    let run = Hacking::read(dir, observer)?;
    let tasks = run.tasks();
    let cell = |variant: &str, task: &str, of: fn(&Row) -> f64| -> String {
        let values = run.end(variant, task, of).into_iter().map(|(_, v)| v);
        Spread::of(values).map_or("–".into(), |s| match s.half() {
            Some(half) => format!("{:.3} ± {half:.3}", s.mean),
            None => format!("{:.3}", s.mean),
        })
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
    Ok(text)
}
