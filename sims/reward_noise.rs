//! Noise in the rewards against the size of the dataset.
//!
//! Claim: with deterministic rewards CoPG has no statistical error at all; its estimate is π* as
//! soon as the pairs connect the arms (CoPG, Theorem 1, read on a dataset). With noisy rewards it is
//! a least-squares fit like any other. Objectives that learn from labels pay for the labels even
//! without noise, and noise in what the labels are drawn from flattens them for good.
//!
//! Each dataset is pairs whose rewards are seen with noise and whose labels follow Bradley–Terry
//! of the rewards seen; every objective gets the same dataset, and its exact fixed point is taken.

use std::collections::BTreeMap;
use std::path::Path;

use crate::bandit::{Dataset, Evidence, Problem};
use crate::loss::InputKind;
use crate::observer::Observer;
use anyhow::Result;
use serde_json::json;

use super::families::{Family, Skipped, families, left_out};
use super::limits::{objectives, skipped, solve};
use super::report::{Point, Spread, markdown, maybe};
use super::run::Run;
use super::table::{read, read_numbered, table};
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

table! {
    /// An exact limit on one dataset.
    pub struct Row {
        objective: String,
        noise: f64,
        samples: u64,
        seed: u64,
        regret: Option<f64>,
    }
}

table! {
    /// An exact limit on the population without noise.
    pub struct Limit {
        objective: String,
        regret: Option<f64>,
    }
}

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

/// Objectives that agree on every dataset.
pub struct Series {
    /// Their names.
    pub names: Vec<String>,
    /// The exact limit on the population without noise.
    pub limit: Option<f64>,
    /// Of each noise: pairs, mean regret, half the width of its band.
    pub curves: Vec<(f64, Vec<Point>)>,
    /// Datasets on which there is no limit.
    pub missing: usize,
}

/// A dataset: the noise's bits (its order is theirs), its size, its seed.
type Place = (u64, u64, u64);

/// The curves, coinciding ones joined, in the order of the file.
pub fn read_series(dir: &Path, observer: &dyn Observer) -> Result<Vec<Series>> {
    let mut curves: Vec<(String, BTreeMap<Place, Option<f64>>)> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for row in read::<Row>(&dir.join("rows.csv"), observer)? {
        let at = *places.entry(row.objective.clone()).or_insert_with(|| {
            curves.push((row.objective.clone(), BTreeMap::new()));
            curves.len() - 1
        });
        let place = (row.noise.to_bits(), row.samples, row.seed);
        curves[at].1.insert(place, row.regret);
    }
    let limits: Vec<(_, Limit)> = read_numbered(&dir.join("limits.csv"), observer)?;
    let limits: BTreeMap<String, Option<f64>> = limits
        .into_iter()
        .map(|(_, l)| (l.objective, l.regret))
        .collect();
    let series = |family: Family<Place>| {
        let mut means: BTreeMap<u64, BTreeMap<u64, Vec<f64>>> = BTreeMap::new();
        for (&(noise, samples, _), regret) in &family.curve {
            let sizes = means.entry(noise).or_default();
            sizes.entry(samples).or_default().extend(regret);
        }
        let curve = |sizes: BTreeMap<u64, Vec<f64>>| {
            let point = |(n, regrets): (u64, Vec<f64>)| {
                let spread = Spread::of(regrets)?;
                Some((n as f64, spread.mean, spread.half()))
            };
            sizes.into_iter().filter_map(point).collect()
        };
        Series {
            limit: limits.get(&family.names[0]).copied().flatten(),
            curves: (means.into_iter())
                .map(|(noise, sizes)| (f64::from_bits(noise), curve(sizes)))
                .collect(),
            missing: family.curve.values().filter(|r| r.is_none()).count(),
            names: family.names,
        }
    };
    Ok(families(curves).into_iter().map(series).collect())
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
