//! COPR and its rivals on a sequence of three tasks that pull apart, on a language model.
//!
//! The paper's benchmark in small: texts that begin with three different words, each with a rule of its own (glad words,
//! short sentences, speech), one policy that learns them one after the other, and its accuracy on all of them: the share of
//! held-out prompts where its text scores more than the initial model's. Strengths are tuned alike for every method, on seeds
//! of their own; then every method runs at its best one, and COPR and DPO in other orders and with other shares of replay.

mod grid;
mod report;
mod tasks;

use std::path::Path;
use std::sync::atomic::AtomicBool;

use crate::continual::metrics::{
    average_accuracy, average_incremental_accuracy, backward_transfer, forgetting,
};
use crate::llm::continual::{ACCURACY, Outcome, Settings, run as learn};
use crate::observer::{Silent, Work};
use crate::rows::continual::{Accuracy, read_accuracies};
use crate::rows::study_copr::{METHODS, ORDERS, REPLAY, Row, TUNING, best_setting};
use anyhow::{Result, ensure};
use serde_json::json;

use super::run::{Job, Run};
use super::world::COMPLETION;
use super::{Request, Study};
use tasks::Sequence;

pub const STUDY: Study = Study {
    name: "copr",
    about: "COPR and its rivals on a sequence of tasks: accuracy on all of them, and what is forgotten",
    run,
    report: report::report,
    ablations: None,
    full: false,
};

const SEEDS: u64 = 3;
/// Prompts of each task, and those that it is measured on.
const PROMPTS: usize = 256;
const HELD: usize = 128;
/// The share that is kept, unless it is varied.
const KEPT: f64 = 0.05;
const SHARES: [f64; 3] = [0.01, 0.05, 0.25];
/// Steps of a task, lists in a step, and steps between two measurements.
const STEPS: u64 = 24;
const BATCH: usize = 8;
const EVERY: u64 = 12;
/// Kept rows in a step.
const REPLAYED: usize = 4;
const LR: f64 = 5e-4;
/// Version of what `config` says.
const FORMAT: u32 = 1;
/// Seeds of tuning begin here.
const TUNED: u64 = 1000;

/// A method at a setting, on a sequence.
struct Trial {
    part: &'static str,
    method: &'static str,
    setting: String,
    order: [usize; 3],
    replay: f64,
    seed: u64,
    lr: f64,
}

fn run(request: &Request, dir: &Path) -> Result<()> {
    let seeds = request.seeds.unwrap_or(SEEDS);
    let lr = request.lr.unwrap_or(LR);
    ensure!(
        request.reward.is_empty(),
        "--reward: every task of this study has its own; leave it out"
    );
    let count = request.prompts.unwrap_or(PROMPTS);
    let sequence = Sequence::new(request, dir, count, HELD)?;
    let methods: Vec<&str> = grid::methods().collect();
    let config = json!({
        "format": FORMAT, "inputs": sequence.inputs, "tasks": sequence.told(), "key": request.key, "prompts": count,
        "held": HELD, "seeds": seeds, "lr": lr, "steps": STEPS, "batch": BATCH, "every": EVERY,
        "replay": KEPT, "replayed": REPLAYED,
        "methods": methods, "tokens": COMPLETION,
        "settings": methods.iter().map(|m| grid::settings(m)).collect::<Vec<_>>(),
    });
    let run = Run::start(STUDY.name, request, dir, config)?;
    sequence.write()?;
    let first = [0, 1, 2];
    let trial = |part, method, setting: &str, order, replay, seed| Trial {
        part,
        method,
        setting: setting.into(),
        order,
        replay,
        seed,
        lr,
    };
    let mut tuning = Vec::new();
    for method in grid::methods() {
        let settings = grid::settings(method);
        if settings.len() > 1 && grid::tuned_as(method) == method {
            let each = settings.iter();
            tuning.extend(each.map(|s| trial(TUNING, method, s, first, KEPT, TUNED)));
        }
    }
    let mut rows = run.trials("tuning", &sequence, &tuning)?;
    let best = |method: &str| match best_setting(&rows, grid::tuned_as(method)) {
        Some(setting) => setting.to_string(),
        None => grid::settings(method).swap_remove(0),
    };
    let mut trials = Vec::new();
    for seed in 0..seeds {
        for method in grid::methods() {
            trials.push(trial(METHODS, method, &best(method), first, KEPT, seed));
        }
        for method in grid::VARIED {
            let setting = best(method);
            for order in [[1, 2, 0], [2, 0, 1]] {
                trials.push(trial(ORDERS, method, &setting, order, KEPT, seed));
            }
            for share in SHARES.into_iter().filter(|share| *share != KEPT) {
                trials.push(trial(REPLAY, method, &setting, first, share, seed));
            }
        }
    }
    rows.extend(run.trials("methods", &sequence, &trials)?);
    run.finish(&rows)
}

impl Job for Trial {
    type World = Sequence;
    type Row = Row;

    fn name(&self) -> String {
        let order = self.order.map(|t| t.to_string()).concat();
        let plain = |c: char| {
            if c.is_ascii_alphanumeric() || c == '.' {
                c
            } else {
                '-'
            }
        };
        let setting: String = self.setting.chars().map(plain).collect();
        let (part, method) = (self.part, self.method.replace('+', "-"));
        format!(
            "{part}-{method}-{setting}-{order}-{}-seed{}",
            self.replay, self.seed
        )
    }

    fn steps(&self, _: &Sequence) -> Result<u64> {
        Ok(3 * STEPS)
    }

    fn run(&self, world: &Sequence, work: &dyn Work) -> Result<Vec<Row>> {
        let out = tempfile::tempdir_in(&world.dir)?;
        let mut settings = Settings {
            method: Some(self.method.into()),
            tasks: Some(world.tasks(self.order)),
            model: Some(world.model.clone()),
            out: Some(out.path().join("sequence")),
            replay: self.replay,
            replay_batch: REPLAYED,
            seed: self.seed,
            every: EVERY,
            max_new_tokens: COMPLETION,
            set: vec![
                format!("lr={}", self.lr),
                format!("steps={STEPS}"),
                format!("batch={BATCH}"),
                "schedule=constant".into(),
                "checkpoint_every=0".into(),
            ],
            ..Settings::default()
        };
        grid::apply(&self.setting, &mut settings)?;
        let outcome = learn(&settings, &AtomicBool::new(false), &Silent)?;
        let Outcome::Complete(dir) = outcome else {
            anyhow::bail!("it was stopped");
        };
        work.advance(3 * STEPS);
        self.rows(&read_accuracies(&dir.join(ACCURACY), &Silent)?, world)
    }
}

impl Trial {
    fn rows(&self, all: &[Accuracy], world: &Sequence) -> Result<Vec<Row>> {
        let order: Vec<&str> = self
            .order
            .iter()
            .map(|&t| world.names[t].as_str())
            .collect();
        let matrix: Vec<Vec<f64>> = (1..=3)
            .map(|k| {
                let end = all.iter().filter(|row| row.learning == k && row.end);
                end.map(|row| row.accuracy).collect()
            })
            .collect();
        let row = |row: &Accuracy| {
            let k = (row.learning as usize).checked_sub(1).filter(|_| row.end);
            Row {
                part: self.part.into(),
                method: self.method.into(),
                setting: self.setting.clone(),
                order: order.join(" "),
                replay: self.replay,
                seed: self.seed,
                learning: row.learning,
                step: row.step,
                end: row.end,
                task: row.task.clone(),
                accuracy: row.accuracy,
                aa: k.map(|k| average_accuracy(&matrix, k)),
                aia: k.map(|k| average_incremental_accuracy(&matrix, k)),
                bwt: k.and_then(|k| backward_transfer(&matrix, k)),
                fm: k.and_then(|k| forgetting(&matrix, k)),
            }
        };
        Ok(all.iter().map(row).collect())
    }
}
