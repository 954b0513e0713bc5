//! Noise in the rewards against the size of the dataset.
//!
//! Claim: with deterministic rewards CoPG has no statistical error at all; its estimate is π* as
//! soon as the pairs connect the arms (CoPG, Theorem 1, read on a dataset). With noisy rewards it is
//! a least-squares fit like any other. Objectives that learn from labels pay for the labels even
//! without noise, and noise in what the labels are drawn from flattens them for good.
//!
//! Each dataset is pairs whose rewards are seen with noise and whose labels follow Bradley–Terry
//! of the rewards seen; every objective gets the same dataset, and its exact fixed point is taken.

use std::path::Path;

use crate::bandit::{Dataset, Evidence, Problem};
use crate::loss::InputKind;
use crate::observer::Observer;
use crate::rows::families::{Skipped, left_out};
use crate::rows::reward_noise::{Limit, Row, read_series};
use crate::rows::spread::Point;
use crate::rows::table::read_numbered;
use anyhow::Result;
use serde_json::json;

use super::limits::{objectives, skipped, solve};
use super::report::{markdown, maybe};
use super::run::Run;
use super::{Request, Sim};

pub const SIM: Sim = Sim {
    name: "reward-noise",
    about: "Noise in the rewards against the size of the dataset: who has a statistical error",
    run: simulate,
    report,
};

/// CoPG's, with a margin for the Advantage Model and a value for DRO where it is held fixed.
const BANDIT: &str = r#"{"beta": 0.5, "margin": 2.5, "prompts": [{
    "reward": [2.5, 2.0, 1.0],
    "value": 1.5,
    "behavior": [[0.1, 0.2, 0.7], [0.05, 0.05, 0.9]]
}]}"#;
/// Standard deviations of the noise.
const NOISE: [f64; 3] = [0.0, 0.5, 1.0];
const SAMPLES: [usize; 4] = [100, 1_000, 10_000, 100_000];
const SEEDS: usize = 30;

fn simulate(request: &Request, dir: &Path) -> Result<()> {
    request.takes(SIM.name, &["problem", "objective", "samples", "seeds"])?;
    let problem = match &request.problem {
        Some(problem) => problem.clone(),
        None => Problem::from_json(BANDIT)?,
    };
    let (asked, rated): (Vec<_>, Vec<_>) =
        (objectives(request)?.into_iter()).partition(|o| o.spec().inputs != InputKind::Rated);
    let samples = request.samples.map_or(SAMPLES.to_vec(), |n| vec![n]);
    let seeds = request.seeds.unwrap_or(SEEDS) as u64;
    anyhow::ensure!(
        samples.iter().all(|n| (1..=10_000_000).contains(n)) && (1..=100_000).contains(&seeds),
        "--samples or --seeds: it is 0 or more than can be run"
    );
    let names: Vec<_> = asked.iter().chain(&rated).map(|o| o.name()).collect();
    let config = json!({
        "problem": serde_json::from_str::<serde_json::Value>(&problem.to_json())?,
        "objectives": names, "noise": NOISE, "samples": samples, "seeds": seeds,
        "key": request.key,
    });
    let run = Run::start(SIM.name, request, dir, config)?;

    let mut places = Vec::new();
    for noise in NOISE {
        for &n in &samples {
            places.extend((0..seeds).map(|seed| (noise, n, seed)));
        }
    }
    let solved = run.map(&places, |&(noise, n, seed)| {
        // The same pairs and the same errors, scaled, at every noise.
        let index = (n as u64) << 20 | seed;
        let data = Dataset::scored(&problem, n, noise, request.key, index)?;
        Ok(solve(
            &asked,
            &problem,
            &Evidence::from_dataset(&problem, &data),
        ))
    })?;
    let mut rows = Vec::new();
    for (&(noise, n, seed), solved) in places.iter().zip(&solved) {
        for (objective, answer) in solved {
            rows.extend(answer.as_ref().ok().map(|&regret| Row {
                objective: objective.name().into(),
                noise,
                samples: n as u64,
                seed,
                regret,
            }));
        }
    }
    run.write("rows.csv", &rows)?;
    let population = solve(&asked, &problem, &Evidence::population(&problem));
    let limits: Vec<Limit> = (population.iter())
        .filter_map(|(objective, answer)| {
            let objective = objective.name().into();
            answer
                .as_ref()
                .ok()
                .map(|&regret| Limit { objective, regret })
        })
        .collect();
    run.write("limits.csv", &limits)?;
    let mut skipped = skipped(solved.iter().chain([&population]));
    // Their labels are of single responses, and what is kept of a dataset is each arm's mean.
    skipped.extend(rated.iter().map(|objective| Skipped {
        objective: objective.name().into(),
        reason:
            "a noisy reward makes a label of each response, and only mean rewards are kept".into(),
    }));
    run.write("skipped.csv", &skipped)?;
    run.finish()
}

fn report(dir: &Path, observer: &dyn Observer) -> Result<String> {
    let all = read_series(dir, observer)?;
    let skipped: Vec<(_, Skipped)> = read_numbered(&dir.join("skipped.csv"), observer)?;
    let skipped: Vec<Skipped> = skipped.into_iter().map(|(_, row)| row).collect();
    let mut text = String::from(
        "Mean regret of the exact fixed point on datasets of pairs (columns: noise in the rewards / \
         pairs), beside the limit on the population without noise. A 0 in a column without noise is \
         an objective without statistical error; a number that stays put to the right is a bias.\n\n",
    );
    let Some(first) = all.first() else {
        return Ok(text);
    };
    let ends = |points: &[Point]| -> Vec<f64> {
        let sizes: Vec<f64> = points.iter().map(|p| p.0).collect();
        match sizes.as_slice() {
            [only] => vec![*only],
            [.., _] => vec![sizes[sizes.len() / 3], sizes[sizes.len() - 1]],
            [] => Vec::new(),
        }
    };
    let columns: Vec<(f64, f64)> = (first.curves.iter())
        .flat_map(|(noise, points)| ends(points).into_iter().map(move |n| (*noise, n)))
        .collect();
    let titles: Vec<String> = columns
        .iter()
        .map(|(noise, n)| format!("{noise} / {n}"))
        .collect();
    let mut header = vec!["objective"];
    header.extend(titles.iter().map(String::as_str));
    header.push("population");
    let rows: Vec<Vec<String>> = (all.iter())
        .map(|series| {
            let mut row = vec![series.names.join(", ")];
            row.extend(columns.iter().map(|(noise, n)| {
                let curve = series.curves.iter().find(|c| c.0 == *noise);
                maybe(
                    curve
                        .and_then(|c| c.1.iter().find(|p| p.0 == *n))
                        .map(|p| p.1),
                )
            }));
            row.push(maybe(series.limit));
            row
        })
        .collect();
    text += &markdown(&header, &rows);
    for series in all.iter().filter(|s| s.missing > 0) {
        let names = series.names.join(", ");
        text += &format!(
            "\n{names}: no limit, or one that depends on the path, on {} datasets, left out of the means.\n",
            series.missing
        );
    }
    Ok(text + &left_out(&skipped))
}
