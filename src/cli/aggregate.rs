//! `pistar aggregate`

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::Error;
use crate::file::json;
use crate::magnitude::in_range;
use crate::rows::scores::{Name, Score};
use crate::stats::runs::{Aggregate, Scores, probability_of_improvement};
use crate::stats::{Bootstrap, Estimate};
use serde_json::json;

use super::{input, output};

#[derive(clap::Args)]
#[command(after_help = "\
Example:
  pistar aggregate scores.jsonl

A row is {\"algorithm\": …, \"task\": …, \"seed\": …, \"score\": …}, one a line, one
for every seed on every task (seeds and tasks may be numbers or names; a file
of one algorithm needs no `algorithm`); `evaluate --scores` and studies write
them (`scores.jsonl`). Aggregates and their intervals are
rliable's: the percentile bootstrap, stratified by task. docs/evaluate.md says
what each is. The optimality gap takes 1 for the best score.")]
pub struct Args {
    /// Scores, JSON lines (`-` is standard input)
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Resamples of the bootstrap
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    resamples: u32,
    /// Coverage of the intervals
    #[arg(long, default_value_t = 0.95)]
    level: f64,
    /// Seed of the bootstrap
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

const ROW: &str = "a row is {\"algorithm\": …, \"task\": …, \"seed\": …, \"score\": …}";

/// Most algorithms: every two of them are compared.
const MOST_ALGORITHMS: usize = 100;

pub fn run(args: &Args) -> anyhow::Result<()> {
    if !(args.level > 0.0 && args.level < 1.0) {
        let problem = format!("it is {}", output::exact(args.level));
        return Err(Error::invalid("--level", problem, "give a share between 0 and 1").into());
    }
    let bootstrap = Bootstrap {
        seed: args.seed,
        resamples: args.resamples as usize,
        level: args.level,
    };
    let all = read(&args.file)?;
    let value = |e: Estimate| json!({"value": e.value, "low": e.low, "high": e.high});
    let (mut lines, mut objects) = (Vec::new(), Vec::new());
    let shown = |e: Estimate| {
        let [value, low, high] = [e.value, e.low, e.high].map(output::number);
        format!("{value} [{low}, {high}]")
    };
    let mut header = vec!["algorithm".to_string(), "seeds".into(), "tasks".into()];
    header.extend(Aggregate::ALL.map(|a| a.name().replace('_', " ")));
    lines.push(header);
    for (name, scores) in &all {
        let of = |a| (a, scores.estimate(a, &bootstrap));
        let estimates = Aggregate::ALL.map(of);
        let mut line = vec![
            name.0.clone(),
            scores.runs().to_string(),
            scores.tasks().to_string(),
        ];
        line.extend(estimates.map(|(_, e)| shown(e)));
        lines.push(line);
        let mut object =
            json!({"algorithm": name.0, "seeds": scores.runs(), "tasks": scores.tasks()});
        for (aggregate, estimate) in estimates {
            object[aggregate.name()] = value(estimate);
        }
        objects.push(object);
    }
    let (mut duels, mut compared) = (Vec::new(), Vec::new());
    for (i, (x, of_x)) in all.iter().enumerate() {
        for (y, of_y) in &all[i + 1..] {
            let p = probability_of_improvement(of_x, of_y, &bootstrap)?;
            duels.push(vec![format!("P({} > {})", x.0, y.0), shown(p)]);
            compared.push(json!({"x": x.0, "y": y.0, "probability": value(p)}));
        }
    }
    if args.json {
        return output::json(&json!({"aggregates": objects, "improvement": compared}));
    }
    let mut text = output::columns(&lines);
    if !duels.is_empty() {
        text =
            text + "\nprobability of improvement, ties counted half\n" + &output::columns(&duels);
    }
    output::print(&text)
}

/// The scores of every algorithm, in the order of their names.
fn read(path: &Path) -> anyhow::Result<Vec<(Name, Scores)>> {
    let origin = input::origin(path);
    let mut found: BTreeMap<Name, BTreeMap<(Name, Name), f64>> = BTreeMap::new();
    let mut tasks = BTreeSet::new();
    for line in input::lines(path)? {
        let (place, line) = line?;
        let row: Score = json::line(&line, &place, ROW)?;
        in_range(format_args!("{place}: score"), row.score)?;
        tasks.insert(row.task.clone());
        let scores = found.entry(row.algorithm.clone()).or_default();
        let at = (row.seed.clone(), row.task.clone());
        if scores.insert(at, row.score).is_some() {
            let problem = format!(
                "seed {} of `{}` has a score on task {} already",
                row.seed.0, row.algorithm.0, row.task.0
            );
            return Err(Error::invalid(place, problem, "give one score for each").into());
        }
    }
    if found.len() > MOST_ALGORITHMS {
        let problem = format!(
            "it has {} algorithms, and every two are compared",
            found.len()
        );
        let remedy = format!("give at most {MOST_ALGORITHMS}");
        return Err(Error::invalid(origin, problem, remedy).into());
    }
    let scores = |(name, scores): (Name, BTreeMap<(Name, Name), f64>)| {
        let seeds: BTreeSet<&Name> = scores.keys().map(|(seed, _)| seed).collect();
        let score = |seed: &Name, task: &Name| {
            scores
                .get(&(seed.clone(), task.clone()))
                .copied()
                .ok_or_else(|| {
                    let problem = format!(
                        "seed {} of `{}` has no score on task {}",
                        seed.0, name.0, task.0
                    );
                    Error::invalid(
                        origin.clone(),
                        problem,
                        "give every seed of an algorithm a score on every task",
                    )
                })
        };
        let row = |seed: &&Name| tasks.iter().map(|task| score(seed, task)).collect();
        let runs = seeds
            .iter()
            .map(row)
            .collect::<Result<Vec<Vec<f64>>, Error>>()?;
        Ok((name.clone(), Scores::new(&runs)?))
    };
    let all = found
        .into_iter()
        .map(scores)
        .collect::<anyhow::Result<Vec<_>>>()?;
    if all.is_empty() {
        return Err(Error::invalid(origin, "it has no rows", "give one a line").into());
    }
    Ok(all)
}
