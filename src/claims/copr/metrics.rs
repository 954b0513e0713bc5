//! Continual-learning metrics, and what Table 2 adds up to.

use super::super::Finding;
use crate::continual::metrics::{backward_transfer, forgetting, forgetting_as_printed};
use crate::error::Result;
use crate::magnitude::larger;
use crate::random::{Purpose, Stream};

/// A row of Table 2 that prints AA: method, whether it is based on SFT, the scores on HH, TL;DR and
/// IMDB, AA.
type Row = (&'static str, bool, [f64; 3], f64);

const TABLE_2: [Row; 14] = [
    ("SFT in order", true, [0.772, 0.771, 0.580], 0.720),
    ("SFT+Online L2Reg", true, [0.780, 0.764, 0.640], 0.728),
    ("SFT+EWC", true, [0.792, 0.771, 0.645], 0.736),
    ("SFT+MAS", true, [0.796, 0.767, 0.639], 0.734),
    ("SFT+LwF", true, [0.791, 0.776, 0.629], 0.732),
    ("SFT+AGM", true, [0.811, 0.756, 0.652], 0.740),
    ("SFT+TFCL", true, [0.784, 0.781, 0.632], 0.732),
    ("SFT+DER++", true, [0.817, 0.774, 0.637], 0.743),
    ("SPIN+ER", false, [0.851, 0.772, 0.642], 0.755),
    ("CoH+ER", false, [0.807, 0.743, 0.625], 0.725),
    ("PRO+ER", false, [0.803, 0.750, 0.682], 0.745),
    ("RRHF+ER", false, [0.808, 0.727, 0.641], 0.725),
    ("DPO+ER", false, [0.828, 0.775, 0.672], 0.758),
    ("COPR", false, [0.860, 0.783, 0.679], 0.774),
];

/// What the paper calls rank-based, its own method included.
const RANK_BASED: [&str; 4] = ["PRO+ER", "RRHF+ER", "DPO+ER", "COPR"];

/// A mean of numbers rounded to three digits, itself rounded to three.
const ROUNDING: f64 = 0.001;

fn average((_, _, scores, _): &Row) -> f64 {
    scores.iter().sum::<f64>() / 3.0
}

fn printed(method: &str) -> f64 {
    (TABLE_2.iter().find(|row| row.0 == method)).map_or(f64::NAN, |row| row.3)
}

pub(super) fn range() -> Result<Finding> {
    let mut stream = Stream::new(71, Purpose::Start, 0);
    let (tasks, count) = (5, 400);
    let (mut corrected, mut as_printed, mut bound) = (0.0f64, 0.0f64, f64::INFINITY);
    for _ in 0..count {
        let learned: Vec<Vec<f64>> = (0..tasks)
            .map(|_| (0..tasks).map(|_| stream.uniform()).collect())
            .collect();
        // The accuracies before a task is learned are not defined: fill them in two ways.
        let fill = |with: f64| -> Vec<Vec<f64>> {
            (learned.iter().enumerate())
                .map(|(k, row)| {
                    (row.iter().enumerate())
                        .map(|(j, &a)| if j <= k { a } else { with })
                        .collect()
                })
                .collect()
        };
        let (low, high) = (fill(0.0), fill(1.0));
        for k in 1..tasks {
            let of = |f: fn(&[Vec<f64>], usize) -> Option<f64>| {
                let value = |a: &[Vec<f64>]| f(a, k).unwrap_or(f64::NAN);
                (value(&high) - value(&low)).abs()
            };
            corrected = larger(corrected, of(forgetting));
            as_printed = larger(as_printed, of(forgetting_as_printed));
            if let (Some(f), Some(b)) = (forgetting(&low, k), backward_transfer(&low, k)) {
                bound = bound.min(f + b);
            }
        }
    }
    let first =
        forgetting(&[vec![0.5]], 0).is_none() && backward_transfer(&[vec![0.5]], 0).is_none();
    let evidence = format!(
        "{count} random runs of {tasks} tasks: entries before a task is learned change the printed FM by \
         up to {as_printed:.2} and the corrected one by {corrected:.0}; FM + BWT ≥ {bound:.1e}"
    );
    Ok(Finding::misprint(
        corrected == 0.0 && bound > -1e-12 && first,
        as_printed > 0.01,
        evidence,
    ))
}

pub(super) fn averages() -> Result<Finding> {
    let off: Vec<&Row> = (TABLE_2.iter())
        .filter(|row| (average(row) - row.3).abs() > ROUNDING)
        .collect();
    let names: Vec<&str> = off.iter().map(|row| row.0).collect();
    let agree = TABLE_2.len() - off.len();
    let evidence = format!(
        "{agree} of {} rows agree within rounding; not: {}",
        TABLE_2.len(),
        names.join(", ")
    );
    let only_one = names == ["SFT in order"];
    let finding = Finding::misprint(only_one, !off.is_empty(), evidence);
    Ok(finding.against("AA of SFT in order", average(&TABLE_2[0]), TABLE_2[0].3))
}

pub(super) fn alignment() -> Result<Finding> {
    let best = (TABLE_2.iter().filter(|row| row.1)).map(|row| row.3);
    let best = best.fold(f64::NEG_INFINITY, f64::max);
    let below: Vec<&str> = (TABLE_2.iter())
        .filter(|row| !row.1 && row.3 < best)
        .map(|row| row.0)
        .collect();
    let above = (TABLE_2.iter()).filter(|row| !row.1 && row.3 > best);
    let above: Vec<&str> = above.map(|row| row.0).collect();
    let beaten = |method: &str| {
        (TABLE_2.iter())
            .filter(|r| r.1 && r.3 > printed(method))
            .count()
    };
    let evidence = format!(
        "printed AA: the best SFT row has {best}; below it: {}; above: {}; CoH and RRHF have \
         {} and {} of the 8 SFT rows above them",
        below.join(", "),
        above.join(", "),
        beaten("CoH+ER"),
        beaten("RRHF+ER")
    );
    Ok(Finding::refuted(!below.is_empty(), evidence)
        .against("AA of CoH+ER", average(&TABLE_2[9]), printed("CoH+ER"))
        .against("AA of RRHF+ER", average(&TABLE_2[11]), printed("RRHF+ER"))
        .against(
            "AA of SFT+DER++",
            average(&TABLE_2[7]),
            printed("SFT+DER++"),
        ))
}

pub(super) fn ranking() -> Result<Finding> {
    let spin = printed("SPIN+ER");
    let below: Vec<&str> = (RANK_BASED.into_iter())
        .filter(|method| printed(method) < spin)
        .collect();
    let evidence = format!(
        "printed AA: SPIN {spin}; below it: {} of the rank-based {}",
        below.join(", "),
        RANK_BASED.join(", ")
    );
    let above = ["DPO+ER", "COPR"]
        .iter()
        .all(|method| printed(method) > spin);
    Ok(Finding::holds_if(above, !below.is_empty(), evidence)
        .against("AA of SPIN+ER", average(&TABLE_2[8]), spin)
        .against("AA of PRO+ER", average(&TABLE_2[10]), printed("PRO+ER"))
        .against("AA of RRHF+ER", average(&TABLE_2[11]), printed("RRHF+ER")))
}
