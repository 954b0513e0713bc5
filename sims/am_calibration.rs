//! Calibration of the Advantage Model against a reward model (Advantage Model, section 4.3).
//!
//! Claim: the Advantage Model is better calibrated, and its scores lie alike from task to task. The
//! margin bounds scores, so with few labels it is not as overconfident as an unpenalised reward
//! model; but it shrinks gaps for good, and with many labels the reward model wins. The exact
//! calibration error `E|σ(δ) − p|` over pairs of different arms, for tables fitted to drawn labels.
//!
//! Second: categories of prompts whose rewards differ in spread, on the population.

use std::path::Path;

use crate::bandit::{Dataset, Evidence, Problem, Shape, random_problem};
use crate::loss::InputKind;
use crate::observer::Observer;
use crate::rows::am_calibration::{Category, Fitted, read_errors};
use crate::rows::table::{distinct, read};
use crate::solve::advantage::{self, Form};
use crate::solve::calibration::{Moments, error, moments};
use anyhow::{Context, Result};
use serde_json::json;

use super::report::{markdown, number};
use super::run::Run;
use super::{Request, Sim};

pub const SIM: Sim = Sim {
    name: "am-calibration",
    about: "Calibration of the Advantage Model and of a reward model, by labels and by category",
    run: simulate,
    report,
};

const LABELS: [usize; 7] = [10, 30, 100, 300, 1_000, 3_000, 10_000];
const MARGINS: [f64; 2] = [2.5, 5.0];
/// Penalties per label of the reward model: next to none, and a prior of its own.
const PENALTIES: [f64; 2] = [1e-6, 0.1];
const ARMS: usize = 8;
const SEEDS: usize = 40;
/// Spreads of the rewards in the categories.
const SCALES: [f64; 4] = [0.5, 1.0, 2.0, 4.0];
const PROMPTS: usize = 40;

/// What is fitted.
#[derive(Debug, Clone, Copy)]
enum Model {
    Advantage(f64),
    Reward(f64),
}

impl Model {
    const ALL: [Self; 4] = [
        Self::Advantage(MARGINS[0]),
        Self::Advantage(MARGINS[1]),
        Self::Reward(PENALTIES[0]),
        Self::Reward(PENALTIES[1]),
    ];

    fn name(self) -> String {
        match self {
            Self::Advantage(margin) => format!("advantage model m = {margin}"),
            Self::Reward(penalty) if penalty < 1e-3 => "reward model".into(),
            Self::Reward(penalty) => format!("reward model penalty {penalty}"),
        }
    }

    /// The table of scores; the penalty counts for every label.
    fn fit(self, problem: &Problem, evidence: &Evidence) -> Result<Vec<Vec<f64>>> {
        let point = match self {
            Self::Advantage(margin) => {
                advantage::fixed_point(problem, evidence, margin, Form::Distinct)?
            }
            Self::Reward(penalty) => advantage::ridge_reward_model(problem, evidence, penalty)?,
        };
        point.table.context("a fit that leaves a table")
    }
}

/// Eight arms, rewards of spread 1, both laws the same for all arms.
fn bandit(seed: u64, prompts: usize, scale: f64) -> Result<Problem> {
    let shape = Shape {
        prompts,
        arms: ARMS,
        beta: 1.0,
        reward_scale: scale,
    };
    let random = random_problem(shape, seed)?;
    let law = vec![1.0 / ARMS as f64; ARMS];
    let rows: Vec<_> = (random.prompts().iter())
        .map(|p| json!({"reward": p.reward, "behavior": [law]}))
        .collect();
    Ok(Problem::from_json(
        &json!({"beta": 1.0, "prompts": rows}).to_string(),
    )?)
}

fn simulate(request: &Request, dir: &Path) -> Result<()> {
    request.takes(SIM.name, &["seeds"])?;
    let seeds = request.seeds.unwrap_or(SEEDS) as u64;
    anyhow::ensure!(
        (1..=100_000).contains(&seeds),
        "--seeds: {seeds} cannot be run; ask for 1 to 100000"
    );
    let config = json!({
        "labels": LABELS, "margins": MARGINS, "penalties": PENALTIES, "arms": ARMS, "seeds": seeds,
        "scales": SCALES, "prompts": PROMPTS, "key": request.key,
    });
    let run = Run::start(SIM.name, request, dir, config)?;
    let key = request.key.wrapping_mul(1_000_003);

    let places: Vec<(usize, u64)> = (0..=LABELS.len())
        .flat_map(|i| (0..seeds).map(move |seed| (i, seed)))
        .collect();
    let fitted = run.map(&places, |&(i, seed)| {
        let problem = bandit(key + seed, 1, 1.0)?;
        let labels = LABELS.get(i).copied();
        let evidence = match labels {
            None => Evidence::population(&problem),
            Some(n) => {
                let data = Dataset::preferences(&problem, n, request.key, (n as u64) << 20 | seed);
                Evidence::from_dataset(&problem, &data)
            }
        };
        let each = Model::ALL.map(|model| -> Result<Fitted> {
            let table = model.fit(&problem, &evidence)?;
            Ok(Fitted {
                model: model.name(),
                labels: labels.unwrap_or(0) as u64,
                seed,
                error: error(&problem, &table)?,
            })
        });
        each.into_iter().collect::<Result<Vec<_>>>()
    })?;
    run.write("rows.csv", &fitted.concat())?;

    let categories = run.map(&SCALES, |&scale| {
        let problem = bandit(key ^ 0x5eed, PROMPTS, scale)?;
        let evidence = Evidence::population(&problem);
        let responses = evidence.of(InputKind::Singles)?;
        let row = |model: String, Moments { mean, spread }| Category {
            scale,
            model,
            mean,
            spread,
        };
        let of = |table: &[Vec<f64>]| {
            let prompts = problem.prompts().iter().zip(table).zip(&responses.prompts);
            moments(
                prompts.map(|((p, scores), share)| (p.weight, scores.as_slice(), share.mean_law())),
            )
        };
        let truth: Vec<Vec<f64>> = problem.prompts().iter().map(|p| p.reward.clone()).collect();
        let mut rows = vec![row("reward".into(), of(&truth))];
        for model in Model::ALL {
            rows.push(row(model.name(), of(&model.fit(&problem, &evidence)?)));
        }
        Ok(rows)
    })?;
    run.write("categories.csv", &categories.concat())?;
    run.finish()
}

fn report(dir: &Path, observer: &dyn Observer) -> Result<String> {
    let errors = read_errors(dir, observer)?;
    let categories: Vec<Category> = read(&dir.join("categories.csv"), observer)?;
    let mut text = String::from(
        "Mean exact calibration error `E|σ(δ) − p|` of scores fitted to labels (columns) of a bandit \
         of eight arms, and on the population. The margin helps while labels are few and costs once \
         they are many.\n\n",
    );
    let counts = errors.first().map_or(&[][..], |e| &e.points);
    let titles: Vec<String> = counts.iter().map(|p| p.0.to_string()).collect();
    let mut header = vec!["model"];
    header.extend(titles.iter().map(String::as_str));
    header.push("population");
    let rows: Vec<Vec<String>> = (errors.iter())
        .map(|e| {
            let mut row = vec![e.model.clone()];
            row.extend(e.points.iter().map(|p| format!("{:.4}", p.1)));
            row.push(e.limit.map_or("–".into(), number));
            row
        })
        .collect();
    text += &markdown(&header, &rows);
    text += "\nSpread of the scores within categories of prompts, by the spread of the rewards in \
             them, on the population: the reward model's is that of the rewards less each prompt's mean, the Advantage \
             Model's is held together by the margin.\n\n";
    let models = distinct(categories.iter().map(|c| c.model.as_str()));
    let mut scales: Vec<f64> = categories.iter().map(|c| c.scale).collect();
    scales.dedup();
    let titles: Vec<String> = scales.iter().map(|s| format!("scale {s}")).collect();
    let header: Vec<&str> = ["scores"]
        .into_iter()
        .chain(titles.iter().map(String::as_str))
        .collect();
    let rows: Vec<Vec<String>> = (models.iter())
        .map(|model| {
            let of = categories.iter().filter(|c| c.model == *model);
            [(*model).to_owned()]
                .into_iter()
                .chain(of.map(|c| number(c.spread)))
                .collect()
        })
        .collect();
    text += &markdown(&header, &rows);
    Ok(text)
}
