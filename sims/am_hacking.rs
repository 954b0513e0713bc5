//! Reward hacking and forgetting on tasks that share a policy (Advantage Model, sections 3 and 4.4).
//!
//! Claim: PPO on a reward model's scores chases the task whose rewards are largest and forgets what
//! the policy knew; the Advantage Model's scores and selective rehearsal keep it from both. Clipped
//! PPO in exact expectation on a log-linear policy, in random worlds of four tasks of which one, the
//! forget set, is only measured. Controls: rewards standardised prompt by prompt, an exact critic.

use std::path::Path;

use crate::observer::Observer;
use crate::sim::multitask::{Experiment, VARIANTS, experiment};
use anyhow::{Context, Result};
use serde_json::json;

use super::report::{Spread, markdown};
use super::run::Run;
use super::table::{distinct, read, table};
use super::{Request, Sim};

pub const SIM: Sim = Sim {
    name: "am-hacking",
    about: "Reward hacking and forgetting under PPO: reward scores, Advantage Model, rehearsal",
    run: simulate,
    report,
};

/// The task that is never trained on.
pub const FORGET: &str = "forget";

table! {
    /// A variant's policy in one task of a world after some rounds; round 0 is the initial policy.
    pub struct Row {
        seed: u64,
        variant: String,
        round: u64,
        task: String,
        win: f64,
        kl: f64,
        reward: f64,
        score: f64,
    }
}

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

/// A run's rows.
pub struct Hacking {
    rows: Vec<Row>,
}

impl Hacking {
    /// Reads `rows.csv` of the folder.
    ///
    /// # Errors
    /// A file that is not such a table.
    pub fn read(dir: &Path, observer: &dyn Observer) -> Result<Self> {
        let rows = read(&dir.join("rows.csv"), observer)?;
        Ok(Self { rows })
    }

    fn names(&self, of: fn(&Row) -> &str) -> Vec<&str> {
        distinct(self.rows.iter().map(of))
    }

    /// The variants in the order of the file.
    pub fn variants(&self) -> Vec<&str> {
        self.names(|r| &r.variant)
    }

    /// The tasks in the order of the file.
    pub fn tasks(&self) -> Vec<&str> {
        self.names(|r| &r.task)
    }

    /// The rows of a variant in a task.
    pub fn of(&self, variant: &str, task: &str) -> impl Iterator<Item = &Row> {
        (self.rows.iter()).filter(move |r| r.variant == variant && r.task == task)
    }

    /// The last round.
    fn last(&self) -> u64 {
        self.rows.iter().map(|r| r.round).max().unwrap_or(0)
    }

    /// World and value after the last round.
    fn end(&self, variant: &str, task: &str, of: fn(&Row) -> f64) -> Vec<(u64, f64)> {
        let last = self.last();
        (self.of(variant, task))
            .filter(|r| r.round == last)
            .map(|r| (r.seed, of(r)))
            .collect()
    }

    /// What a variant ends with above another, world by world.
    fn above(&self, pair: [&str; 2], task: &str, of: fn(&Row) -> f64) -> Result<Above> {
        let other = self.end(pair[1], task, of);
        let mine = self.end(pair[0], task, of).into_iter();
        let each: Vec<f64> = mine
            .filter_map(|(seed, value)| {
                let same = other.iter().find(|(s, _)| *s == seed)?;
                Some(value - same.1)
            })
            .collect();
        let lower = each.iter().filter(|d| **d < 0.0).count();
        let spread = Spread::of(each)
            .with_context(|| format!("no world has both {} and {}", pair[0], pair[1]))?;
        Ok(Above { spread, lower })
    }
}

/// Paired differences over worlds.
struct Above {
    spread: Spread,
    lower: usize,
}

impl Above {
    /// Which way, as far as the band of the mean tells.
    fn words(&self) -> String {
        let Spread { mean, count, .. } = self.spread;
        let half = self.spread.half();
        let which = match half {
            Some(half) if mean < -half => "lower",
            Some(half) if mean > half => "higher",
            _ => "not reliably different",
        };
        let band = half.map_or(String::new(), |half| format!(" ± {half:.3}"));
        let lower = self.lower;
        format!("{which} (paired difference {mean:+.3}{band}; lower in {lower} of {count} worlds)")
    }
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
