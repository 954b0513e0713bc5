//! `pistar runs`

use std::path::{Path, PathBuf};

use crate::Error;
use crate::llm::train::runs::{Condition, Run, Summary, curves, differing, find, order};
use serde_json::{Map, Value, json};

use super::{Found, output};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  pistar runs
  pistar runs out/grid --metric eval_loss --figure grid.svg
  pistar runs runs/a runs/b --json

A run is a folder with config.toml and manifest.json. The table has the
settings in which the runs differ, the last value of each metric and the best
one with its step. Without --metric, the metric is eval_loss where a run has
it, and loss otherwise; with it, the run whose last value is best comes first.
A run that cannot be read is
named at the end, with exit code 1. docs/runs.md says more.")]
pub struct Args {
    /// Folders with runs in them or below [default: out]
    #[arg(value_name = "DIR")]
    dirs: Vec<PathBuf>,
    /// Metric to show, such as eval_rewards/accuracies; several one by one, the first is drawn
    #[arg(long, value_name = "NAME")]
    metric: Vec<String>,
    /// Draw the metric along the steps, into FILE's name with .svg and with .png
    #[arg(long, value_name = "FILE")]
    figure: Option<PathBuf>,
    /// Print JSON: an array of runs with all their metrics
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let dirs = match args.dirs.as_slice() {
        [] => &[PathBuf::from("out")][..],
        dirs => dirs,
    };
    let found = find(dirs)?;
    let (mut runs, mut broken) = (Vec::new(), Vec::new());
    for dir in &found {
        match Run::read(dir) {
            Ok(run) => runs.push(run),
            Err(error) => broken.push(error),
        }
    }
    if runs.is_empty()
        && let Some(error) = broken.pop()
    {
        return Err(error.into());
    }
    let metrics = metrics(args, &runs)?;
    order(&mut runs, args.metric.first().map(String::as_str));
    if args.json {
        output::json(&Value::Array(
            runs.iter().map(|r| object(r, &runs)).collect(),
        ))?
    } else {
        output::print(&table(&runs, &metrics))?
    }
    if let Some(file) = &args.figure {
        figure(file, &runs, &metrics[0], args.json)?;
    }
    match broken.len() {
        0 => Ok(()),
        count => {
            let each: String = broken.iter().map(|error| format!("\n{error}")).collect();
            let what = format!("{count} of {} runs cannot be read:{each}", found.len());
            Err(Found(what).into())
        }
    }
}

/// The metrics that are shown: those that were asked for, or the usual ones.
fn metrics(args: &Args, runs: &[Run]) -> anyhow::Result<Vec<String>> {
    let has = |name: &str| runs.iter().any(|run| run.metrics.contains_key(name));
    let usual = ["eval_loss", "loss"].into_iter().find(|name| has(name));
    if args.metric.is_empty() {
        return Ok(vec![usual.unwrap_or("loss").into()]);
    }
    if let Some(unknown) = args.metric.iter().find(|name| !has(name)) {
        let mut known: Vec<&str> = runs
            .iter()
            .flat_map(|run| run.metrics.keys().map(String::as_str))
            .collect();
        known.sort_unstable();
        known.dedup();
        let remedy = if known.is_empty() {
            "they have no rows yet".into()
        } else {
            format!("use one of {}", known.join(", "))
        };
        let problem = "no run has it";
        return Err(Error::invalid(format!("metric: {unknown}"), problem, remedy).into());
    }
    Ok(args.metric.clone())
}

fn table(runs: &[Run], metrics: &[String]) -> String {
    let names = differing(runs);
    let mut head = vec!["run".to_string(), "objective".into()];
    head.extend(names.iter().cloned());
    head.extend(["state".into(), "steps".into()]);
    for metric in metrics {
        head.extend([metric.clone(), "best".into(), "at".into()]);
    }
    head.push("tokens/s".into());
    let mut rows = vec![head];
    for run in runs {
        let mut row = vec![
            run.dir.display().to_string(),
            run.manifest.objective.clone(),
        ];
        let value = |name| run.settings.get(name).map_or("–".into(), shown);
        row.extend(names.iter().map(value));
        row.push(run.condition.name().into());
        row.push(format!("{}/{}", run.steps, run.manifest.steps));
        for metric in metrics {
            let summary = run.metrics.get(metric).and_then(|m| Summary::of(metric, m));
            let number = |x: Option<f64>| x.map_or("–".into(), output::number);
            let best = summary.and_then(|s| s.best);
            row.push(number(summary.map(|s| s.last)));
            row.push(number(best.map(|(value, _)| value)));
            row.push(best.map_or("–".into(), |(_, step)| step.to_string()));
        }
        let rate = run.tokens_per_second();
        row.push(rate.map_or("–".into(), |rate| format!("{rate:.0}")));
        rows.push(row);
    }
    let mut text = output::columns(&rows);
    for run in runs {
        if let Condition::Failed(why) = &run.condition {
            text += &format!("{}: {why}\n", run.dir.display());
        }
    }
    text
}

fn shown(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn object(run: &Run, runs: &[Run]) -> Value {
    let metrics: Map<String, Value> = (run.metrics.iter())
        .filter_map(|(name, values)| {
            let summary = Summary::of(name, values)?;
            let mut told = json!({"last": summary.last, "step": summary.step});
            if let Some((value, step)) = summary.best {
                told["best"] = value.into();
                told["best_step"] = step.into();
            }
            Some((name.clone(), told))
        })
        .collect();
    let settings: Map<String, Value> = (differing(runs).into_iter())
        .map(|name| {
            let value = run.settings.get(&name);
            let value = value.and_then(|v| serde_json::to_value(v).ok());
            (name, value.unwrap_or_default())
        })
        .collect();
    let failed = match &run.condition {
        Condition::Failed(why) => Some(why),
        _ => None,
    };
    json!({
        "run": run.dir.display().to_string(),
        "objective": run.manifest.objective,
        "settings": settings,
        "state": run.condition.name(),
        "error": failed,
        "step": run.steps,
        "steps": run.manifest.steps,
        "metrics": metrics,
        "tokens_per_second": run.tokens_per_second(),
        "version": run.manifest.version,
        "inputs": run.manifest.inputs,
        "processes": run.processes,
    })
}

#[cfg(feature = "plot")]
fn figure(file: &Path, runs: &[Run], metric: &str, quiet: bool) -> anyhow::Result<()> {
    let stem = super::figure::stem(file);
    let curves = curves(runs, metric);
    crate::figures::runs::draw(metric, &curves, &stem)?;
    let stem = stem.display();
    let said = format!("figure: {stem}.svg and {stem}.png\n");
    if quiet {
        eprint!("{said}");
        return Ok(());
    }
    output::print(&said)
}

#[cfg(not(feature = "plot"))]
fn figure(_: &Path, _: &[Run], _: &str, _: bool) -> anyhow::Result<()> {
    let _ = curves;
    anyhow::bail!("figures: this build has none; build with the feature `plot`")
}
