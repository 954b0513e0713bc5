//! What three seeds say of the printed differences.
//!
//! A deviation on three seeds divides by n (claim `bpo/table-1-deviations`); it is corrected before it
//! goes into a t test. A difference is significant where p < 5 % two-sided, insignificant where it is
//! above one-sided too.

use std::f64::consts::{PI, SQRT_2};

use super::Finding;
use super::tables::{METHODS, mean_agrees};
use crate::error::{Error, Result};
use crate::stats::runs::{Aggregate, Scores, difference};
use crate::stats::student::{Summary, TTest, one_sample, welch};
use crate::stats::{Bootstrap, Estimate};

const SEEDS: usize = 3;
const LEVEL: f64 = 0.05;

/// Section 5.2: BPO (DPO) with F = 2 on TL;DR and on Helpfulness.
const TWO_PHASES: [(f64, f64); 2] = [(80.2, 2.3), (89.1, 1.4)];

/// Table 2: win rates of BPO (DPO) over offline and over on-policy DPO on TL;DR, Helpfulness and
/// Harmfulness.
const HEAD_TO_HEAD: [[(f64, f64); 3]; 2] = [
    [(75.9, 1.5), (78.0, 1.7), (99.3, 0.5)],
    [(70.4, 1.5), (57.4, 5.1), (79.9, 9.9)],
];
const EVEN: f64 = 50.0;

/// In `METHODS`, of each loss.
const OFFLINE: usize = 0;
const ON_POLICY: usize = 1;
const BPO: usize = 2;

fn significant(test: &TTest) -> bool {
    test.p < LEVEL
}

fn insignificant(test: &TTest) -> bool {
    test.p / 2.0 > LEVEL
}

fn no_spread() -> Error {
    Error::invalid("printed cells", "no t test", "give cells with a deviation")
}

/// BPO (DPO) with F = 2 less a method of table 5 on one of the first two tasks, by Welch's test.
fn two_phases_less(method: usize, task: usize) -> Result<TTest> {
    let (mean, sd) = TWO_PHASES[task];
    let ours = Summary::dividing_by_n(mean, sd, SEEDS);
    let theirs = Summary::of(&METHODS[method].seeds[task]);
    welch(&ours, &theirs).ok_or_else(no_spread)
}

pub(super) fn two_phases_over_on_policy() -> Result<Finding> {
    let test = two_phases_less(ON_POLICY, 0)?;
    let ((ours, spread), (theirs, other)) = (TWO_PHASES[0], METHODS[ON_POLICY].printed[0]);
    Ok(Finding::holds_if(
        ours - theirs > spread + other,
        insignificant(&test),
        format!(
            "{ours} ± {spread} against {theirs} ± {other}: bars of one deviation are {:.1} apart; Welch's t = {:.2} with {:.1} degrees of freedom, p = {:.2}",
            ours - theirs - spread - other,
            test.t,
            test.df,
            test.p
        ),
    )
    .measure("t", test.t)
    .measure("p, two-sided", test.p))
}

pub(super) fn two_phases_match() -> Result<Finding> {
    let (tldr, helpful) = (
        two_phases_less(ON_POLICY, 0)?,
        two_phases_less(ON_POLICY, 1)?,
    );
    let below = TWO_PHASES[1].0 - METHODS[ON_POLICY].printed[1].0;
    Ok(Finding::holds_if(
        tldr.t > 0.0 && !significant(&helpful),
        below < 0.0,
        format!(
            "above on TL;DR; on Helpfulness {} against {}, Welch's t = {:.2} with {:.1} degrees of freedom, p = {:.2}",
            TWO_PHASES[1].0, METHODS[ON_POLICY].printed[1].0, helpful.t, helpful.df, helpful.p
        ),
    )
    .measure("Helpfulness: F = 2 less on-policy, %", below)
    .measure("Helpfulness: t", helpful.t)
    .measure("Helpfulness: p, two-sided", helpful.p))
}

pub(super) fn two_phases_over_offline() -> Result<Finding> {
    let (tldr, helpful) = (two_phases_less(OFFLINE, 0)?, two_phases_less(OFFLINE, 1)?);
    let of = |test: &TTest| {
        let TTest { t, df, p } = test;
        format!("t = {t:.2} with {df:.1} degrees of freedom, p = {p:.3}")
    };
    Ok(Finding::holds_if(
        tldr.t > 0.0 && significant(&tldr) && helpful.t > 0.0,
        insignificant(&helpful),
        format!(
            "Welch's test: TL;DR {}; Helpfulness {}",
            of(&tldr),
            of(&helpful)
        ),
    )
    .measure("TL;DR: t", tldr.t)
    .measure("TL;DR: p, two-sided", tldr.p)
    .measure("Helpfulness: t", helpful.t)
    .measure("Helpfulness: p, two-sided", helpful.p))
}

pub(super) fn head_to_head() -> Result<Finding> {
    let [offline, on_policy] = HEAD_TO_HEAD;
    let test = |(mean, sd): (f64, f64)| {
        one_sample(&Summary::dividing_by_n(mean, sd, SEEDS), EVEN).ok_or_else(no_spread)
    };
    let clear = [offline[0], offline[1], offline[2], on_policy[0]];
    let (mut all_clear, mut least) = (true, f64::INFINITY);
    for cell in clear {
        let found = test(cell)?;
        all_clear &= significant(&found);
        least = least.min(found.t);
    }
    let (helpful, harmful) = (test(on_policy[1])?, test(on_policy[2])?);
    let above = HEAD_TO_HEAD
        .as_flattened()
        .iter()
        .all(|(mean, _)| *mean > EVEN);
    Ok(Finding::holds_if(
        above && all_clear,
        insignificant(&helpful) && !significant(&harmful),
        format!(
            "t tests against {EVEN}: {least:.1} or more in {} cells; against on-policy DPO {:.2} (p = {:.2}) on Helpfulness and {:.2} (p = {:.3}) on Harmfulness",
            clear.len(),
            helpful.t,
            helpful.p,
            harmful.t,
            harmful.p
        ),
    )
    .measure("over on-policy DPO, Helpfulness: t", helpful.t)
    .measure("over on-policy DPO, Helpfulness: p, two-sided", helpful.p)
    .measure("over on-policy DPO, Harmfulness: t", harmful.t)
    .measure("over on-policy DPO, Harmfulness: p, two-sided", harmful.p))
}

/// What stands for the seeds of a cell.
#[derive(Clone, Copy)]
enum Cells {
    /// Table 5.
    Seeds,
    /// Table 5 where its mean is table 1's; elsewhere three numbers of table 1's mean and deviation, all
    /// of which are `mean + sd √2 cos(turn + 2πk/3)`.
    Agreeing { turn: f64 },
}

/// Nine cells of three seeds: of each loss the tasks.
fn group(kind: usize, cells: Cells) -> Vec<[f64; SEEDS]> {
    let mut all = Vec::new();
    for m in (kind..METHODS.len()).step_by(3) {
        for task in 0..3 {
            let (mean, sd) = METHODS[m].printed[task];
            all.push(match cells {
                Cells::Agreeing { turn } if !mean_agrees((m, task)) => {
                    [0.0, 1.0, 2.0].map(|k| mean + sd * SQRT_2 * (turn + 2.0 * PI * k / 3.0).cos())
                }
                _ => METHODS[m].seeds[task],
            });
        }
    }
    all
}

/// Three runs on nine pairs of loss and task.
fn by_cell(cells: &[[f64; SEEDS]]) -> Result<Scores> {
    let run = |seed: usize| cells.iter().map(|cell| cell[seed]).collect();
    Scores::new(&(0..SEEDS).map(run).collect::<Vec<Vec<f64>>>())
}

/// Nine runs on three tasks.
fn by_task(cells: &[[f64; SEEDS]]) -> Result<Scores> {
    let run = |loss: &[[f64; SEEDS]], seed: usize| loss.iter().map(|cell| cell[seed]).collect();
    let runs = cells
        .chunks(3)
        .flat_map(|loss| (0..SEEDS).map(move |seed| run(loss, seed)));
    Scores::new(&runs.collect::<Vec<Vec<f64>>>())
}

const METRICS: [Aggregate; 3] = [Aggregate::Mean, Aggregate::Median, Aggregate::Iqm];

pub(super) fn aggregates() -> Result<Finding> {
    let bootstrap = Bootstrap {
        resamples: 4_000,
        ..Bootstrap::default()
    };
    // Intervals as in fig. 3, a stratum for every loss and task.
    let mut disjoint = true;
    let mut shown = Vec::new();
    let (offline, on_policy, ours) = (
        by_cell(&group(OFFLINE, Cells::Seeds))?,
        by_cell(&group(ON_POLICY, Cells::Seeds))?,
        by_cell(&group(BPO, Cells::Seeds))?,
    );
    for metric in METRICS {
        let all = [&offline, &on_policy, &ours].map(|s| s.estimate(metric, &bootstrap));
        disjoint &= all[2].low > all[1].high && all[2].low > all[0].high;
        let each =
            all.map(|Estimate { value, low, high }| format!("{value:.1} [{low:.1}, {high:.1}]"));
        shown.push(format!("{} {}", metric.name(), each.join(" / ")));
    }
    let by_tasks = |kind| -> Result<Estimate> {
        Ok(by_task(&group(kind, Cells::Seeds))?.estimate(Aggregate::Median, &bootstrap))
    };
    let overlap = by_tasks(ON_POLICY)?.high - by_tasks(BPO)?.low;
    // Differences, by either reading of the strata and of the cells on which tables 1 and 5 part.
    let (mut least, mut readings) = ([f64::INFINITY; 3], 0);
    for cells in [
        Cells::Seeds,
        Cells::Agreeing { turn: 0.0 },
        Cells::Agreeing { turn: PI / 3.0 },
    ] {
        for strata in [by_cell, by_task] {
            let ours = strata(&group(BPO, cells))?;
            for kind in [OFFLINE, ON_POLICY] {
                let theirs = strata(&group(kind, cells))?;
                for (least, metric) in least.iter_mut().zip(METRICS) {
                    *least = least.min(difference(&ours, &theirs, metric, &bootstrap).low);
                }
            }
            readings += 1;
        }
    }
    let [mean, median, iqm] = least;
    Ok(Finding::holds(
        disjoint && least.iter().all(|low| *low > 0.0),
        format!(
            "table 5, offline / on-policy / BPO: {}; in {readings} readings of strata and cells BPO is above either baseline by {:.1} or more",
            shown.join(", "),
            mean.min(median).min(iqm)
        ),
    )
    .measure(
        "three strata: overlap of the medians' intervals, BPO and on-policy",
        overlap,
    )
    .measure("lowest bound of a difference in means", mean)
    .measure("lowest bound of a difference in medians", median)
    .measure("lowest bound of a difference in IQMs", iqm))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every aggregate rises with every score, so a resample lies between those that take each cell's
    /// worst seed and its best one.
    #[test]
    fn no_resample_of_bpo_is_below_one_of_a_baseline() {
        let extreme = |kind, pick: fn(f64, f64) -> f64| {
            let cells = group(kind, Cells::Seeds);
            let all = cells
                .iter()
                .map(|c| [c.iter().copied().reduce(pick).unwrap(); SEEDS]);
            by_cell(&all.collect::<Vec<_>>()).unwrap()
        };
        let worst = extreme(BPO, f64::min);
        for kind in [OFFLINE, ON_POLICY] {
            let best = extreme(kind, f64::max);
            for metric in METRICS {
                assert!(
                    worst.aggregate(metric) > best.aggregate(metric),
                    "{metric:?}"
                );
            }
        }
    }

    #[test]
    fn stand_ins_have_the_printed_mean_and_deviation() {
        for turn in [0.0, PI / 3.0, 1.0] {
            let (seeds, cells) = (
                group(OFFLINE, Cells::Seeds),
                group(OFFLINE, Cells::Agreeing { turn }),
            );
            let other: Vec<usize> = (0..9).filter(|&i| seeds[i] != cells[i]).collect();
            // Offline SLiC on Harmfulness: 95.1 ± 0.9.
            assert_eq!(other, [8]);
            let mean = cells[8].iter().sum::<f64>() / 3.0;
            let squares: f64 = cells[8].iter().map(|v| (v - mean).powi(2)).sum();
            assert!((mean - 95.1).abs() < 1e-12 && ((squares / 3.0).sqrt() - 0.9).abs() < 1e-12);
        }
    }
}
