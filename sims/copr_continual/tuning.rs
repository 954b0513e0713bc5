//! What every method's settings are tuned to: the same number of trials, on the same sequences, which are not those reported.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::super::Request;
use super::super::run::Run;
use super::{Base, config, outcome, plan};
use crate::continual::{Method, POINTS, Plan};
use crate::rows::copr_continual::Trial;
use crate::rows::spread::Spread;
use crate::rows::table;

/// The table that the sim's settings are read from: that of `pistar sim copr-continual --tune`.
const TUNED: &str = include_str!("tuning.csv");

/// Sequences of a trial.
const SEEDS: u64 = 24;

/// The first of their seeds; reported sequences have smaller ones.
pub const FIRST: u64 = 500_000;

/// A method's settings at a point.
pub fn settle(method: Method, point: usize, plan: &mut Plan) {
    for (setting, value) in method.point(point) {
        setting.set(value, plan);
    }
}

/// The settings at a point, for people.
pub fn words(method: Method, point: usize) -> String {
    let point = method.point(point);
    let each = (point.iter()).map(|(setting, value)| format!("{}={value}", setting.name()));
    let text = each.collect::<Vec<_>>().join(" ");
    if text.is_empty() {
        "as it comes".into()
    } else {
        text
    }
}

/// Tries every method at every point and writes `tuning.csv`.
pub fn tune(request: &Request, dir: &Path) -> Result<()> {
    let base = Base::of(request)?;
    let seeds = request.seeds.map_or(SEEDS, |seeds| seeds as u64);
    let run = Run::start(
        super::SIM.name,
        request,
        dir,
        config(&base, seeds, &[("points", POINTS.into())]),
    )?;
    let trials: Vec<(Method, usize)> = (Method::ALL.iter())
        .flat_map(|&method| (0..method.points()).map(move |point| (method, point)))
        .collect();
    let places: Vec<(Method, usize, u64)> = (trials.iter())
        .flat_map(|&(method, point)| (0..seeds).map(move |seed| (method, point, seed)))
        .collect();
    let averages = run.map(&places, |&(method, point, seed)| {
        let mut plan = plan(&base);
        settle(method, point, &mut plan);
        // Parameters that run away are no answer.
        let outcome = outcome(request.key, FIRST + seed, 0, method, plan);
        Ok(outcome
            .ok()
            .and_then(|o| o.0.metrics.average_accuracy.last().copied()))
    })?;
    let rows: Vec<Trial> = (trials.iter().zip(averages.chunks(seeds as usize)))
        .map(|(&(method, point), each)| {
            let all: Option<Vec<f64>> = each.iter().copied().collect();
            let spread = all.and_then(Spread::of);
            Trial {
                method: method.name.into(),
                point: point as u64,
                settings: words(method, point),
                average: spread.map(|s| s.mean),
                half: spread.and_then(|s| s.half()),
            }
        })
        .collect();
    run.write("tuning.csv", &rows)?;
    run.finish()
}

/// The points that the kept table has the highest average accuracy at, by method.
pub fn chosen() -> Result<impl Fn(Method) -> Result<usize>> {
    let rows: Vec<(usize, Trial)> = table::parse("tuning.csv", TUNED)?;
    let rows: Vec<Trial> = rows.into_iter().map(|(_, row)| row).collect();
    Ok(move |method: Method| {
        let of = rows.iter().filter(|row| row.method == method.name);
        let best = (of.filter_map(|row| Some((row.average?, row))))
            .reduce(|best, next| if next.0 > best.0 { next } else { best });
        let (_, best) = best.with_context(|| {
            format!(
                "tuning.csv has no trial of {}: write it again with --tune",
                method.name
            )
        })?;
        let point = best.point as usize;
        ensure!(
            point < method.points() && best.settings == words(method, point),
            "tuning.csv: point {point} of {} is not {}: write it again with --tune",
            method.name,
            best.settings
        );
        Ok(point)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kept table is the command's: every method at every point with its settings, and one row of those that
    /// take least time computed again.
    #[test]
    fn the_kept_table_is_of_these_methods_and_points() {
        let rows: Vec<(usize, Trial)> = table::parse("tuning.csv", TUNED).expect("well formed");
        let mut rows = rows.into_iter().map(|(_, row)| row);
        for &method in Method::ALL {
            for point in 0..method.points() {
                let row = rows.next().expect("a row for every trial");
                let names = (row.method.as_str(), row.point, row.settings.as_str());
                assert_eq!(names, (method.name, point as u64, &*words(method, point)));
            }
            let best = chosen().expect("a table")(method).expect("a trial that ended");
            assert!(best < method.points());
        }
        assert_eq!(rows.next(), None);
    }

    #[test]
    fn a_row_of_the_kept_table_is_what_a_run_gives() {
        let base = Base::of(&Request::default()).expect("defaults");
        let rows: Vec<(usize, Trial)> = table::parse("tuning.csv", TUNED).expect("well formed");
        let row = |name: &str, point: u64| {
            let row = rows
                .iter()
                .find(|(_, r)| r.method == name && r.point == point);
            row.expect("a trial").1.average.expect("one that ended")
        };
        for (method, point) in [(Method::SFT_L2, 3), (Method::COPR, 5)] {
            let each = (0..SEEDS).map(|seed| {
                let mut plan = plan(&base);
                settle(method, point, &mut plan);
                let (outcome, _) = outcome(0, FIRST + seed, 0, method, plan).expect("it ends");
                *outcome.metrics.average_accuracy.last().expect("tasks")
            });
            let mean = each.sum::<f64>() / SEEDS as f64;
            let kept = row(method.name, point as u64);
            assert!((mean - kept).abs() < 1e-9, "{}: {mean} {kept}", method.name);
        }
    }
}
