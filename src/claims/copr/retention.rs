//! What is kept of old tasks, by the printed tables.

use super::super::Finding;
use super::table_2::{ITERATED, MULTI_TASKS, OURS, Row, TABLE_2, first_score, named, ours, test};
use crate::error::Result;
use crate::stats::student::TTest;

/// What Fig. 2 compares COPR with are its fellows here: SPIN is left out of it.
const NOT_IN_FIGURE_2: &str = "SPIN+ER";

const TASKS: [&str; 3] = ["HH", "TL;DR", "IMDB"];

pub(super) fn retained() -> Result<Finding> {
    let ours = ours()?;
    let rivals = || TABLE_2.iter().filter(|row| row.method != OURS);
    let next = rivals().map(Row::old).fold(f64::NEG_INFINITY, f64::max);
    let better = |row: &&Row| row.overall.transfer.0 > ours.overall.transfer.0;
    let all = rivals().filter(better).count();
    let compared = |row: &&Row| !row.sft && row.method != NOT_IN_FIGURE_2;
    let fellows = rivals().filter(compared).count();
    let above = rivals().filter(compared).filter(better).count();
    let evidence = format!(
        "Table 2: HH and TL;DR end at {:.4} on average, {next:.4} for the next best; BWT is the {}th of {}, \
         and behind {above} of the {fellows} other alignment methods of Fig. 2",
        ours.old(),
        all + 1,
        TABLE_2.len()
    );
    Ok(Finding::holds_if(ours.old() > next, above > 0, evidence)
        .measure("old tasks at the end less the next best", ours.old() - next)
        .measure("methods with a higher BWT", all as f64)
        .measure("of them alignment methods of Fig. 2", above as f64))
}

pub(super) fn least_forgetting() -> Result<Finding> {
    let rrhf = named("RRHF+ER")?;
    let of = |row: &Row| row.overall.forgetting.0;
    let others = || TABLE_2.iter().filter(|row| row.method != rrhf.method);
    let below: Vec<&str> = others()
        .filter(|row| of(row) < of(rrhf))
        .map(|row| row.method)
        .collect();
    let among = others()
        .filter(|row| !row.sft)
        .all(|row| of(row) > of(rrhf));
    let transfer = others().all(|row| row.overall.transfer.0 < rrhf.overall.transfer.0);
    let evidence = format!(
        "FM of RRHF {}; below it: {}; its BWT is the highest of all, and every other row's FM is its −BWT",
        of(rrhf),
        below.join(", ")
    );
    Ok(
        Finding::holds_if(among && transfer, !below.is_empty(), evidence).against(
            "FM of RRHF, were it −BWT as in every other row",
            -rrhf.overall.transfer.0,
            of(rrhf),
        ),
    )
}

pub(super) fn upper_bound() -> Result<Finding> {
    let mut at_end = f64::INFINITY;
    for row in &TABLE_2 {
        for (cell, most) in row.scores.iter().zip(ITERATED) {
            at_end = at_end.min(most - cell.0);
        }
    }
    let (first, slack) = first_score(ours()?);
    let evidence = format!(
        "at the end Iterated RLHF is ahead of every row on every task by {at_end:.3} or more; for COPR AA, AIA, \
         BWT and FM leave {first:.4} ± {slack:.4} or more on HH when that was just learned"
    );
    Ok(
        Finding::holds_if(at_end > 0.0, first - slack > ITERATED[0], evidence).against(
            "least score on HH just learned, COPR, against Iterated RLHF's at the end",
            first,
            ITERATED[0],
        ),
    )
}

pub(super) fn multi_tasks() -> Result<Finding> {
    let order = named("SFT in order")?;
    let mut tests = Vec::new();
    for (multi, single) in MULTI_TASKS.into_iter().zip(order.scores) {
        tests.push((test(multi, single, true)?, test(multi, single, false)?));
    }
    let shown: Vec<String> = (TASKS.iter().zip(&tests))
        .map(|(task, (by_n, _))| format!("{task} t = {:.2} (p = {:.3})", by_n.t, by_n.p))
        .collect();
    let [hh, tldr, imdb] = [0, 1, 2].map(|i| &tests[i]);
    let evidence = format!(
        "Welch's tests on three seeds: {}; were deviations to divide by n − 1, p = {:.3}, {:.2} and {:.3}",
        shown.join(", "),
        hh.1.p,
        tldr.1.p,
        imdb.1.p
    );
    let clear = |pair: &(TTest, TTest)| pair.0.p < 0.05 && pair.1.p < 0.05;
    let unclear = |pair: &(TTest, TTest)| pair.0.p / 2.0 > 0.05 && pair.1.p / 2.0 > 0.05;
    Ok(
        Finding::holds_if(clear(hh) && clear(imdb), unclear(tldr), evidence)
            .measure("HH: t", hh.0.t)
            .measure("HH: p, two-sided", hh.0.p)
            .measure("TL;DR: t", tldr.0.t)
            .measure("TL;DR: p, two-sided", tldr.0.p)
            .measure("IMDB: t", imdb.0.t)
            .measure("IMDB: p, two-sided", imdb.0.p),
    )
}
