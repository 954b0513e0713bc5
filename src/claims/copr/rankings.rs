//! Which methods are above which, by Table 2's averages.

use super::super::Finding;
use super::table_2::{OURS, Row, TABLE_2, named, printed};
use crate::error::Result;

/// What the paper calls rank-based, its own method included.
const RANK_BASED: [&str; 4] = ["PRO+ER", "RRHF+ER", "DPO+ER", OURS];

/// A mean of numbers rounded to three digits, itself rounded to three.
const ROUNDING: f64 = 0.001;

/// AA of the scores.
fn recomputed(method: &str) -> f64 {
    named(method).map_or(f64::NAN, Row::average)
}

pub(super) fn averages() -> Result<Finding> {
    let off: Vec<&Row> = (TABLE_2.iter())
        .filter(|row| (row.average() - row.overall.average.0).abs() > ROUNDING)
        .collect();
    let names: Vec<&str> = off.iter().map(|row| row.method).collect();
    let agree = TABLE_2.len() - off.len();
    let evidence = format!(
        "{agree} of {} rows agree within rounding; not: {}",
        TABLE_2.len(),
        names.join(", ")
    );
    let only_one = names == ["SFT in order"];
    let finding = Finding::misprint(only_one, !off.is_empty(), evidence);
    Ok(finding.against(
        "AA of SFT in order",
        recomputed("SFT in order"),
        printed("SFT in order"),
    ))
}

pub(super) fn alignment() -> Result<Finding> {
    let best = (TABLE_2.iter().filter(|row| row.sft)).map(|row| row.overall.average.0);
    let best = best.fold(f64::NEG_INFINITY, f64::max);
    let below: Vec<&str> = (TABLE_2.iter())
        .filter(|row| !row.sft && row.overall.average.0 < best)
        .map(|row| row.method)
        .collect();
    let above = (TABLE_2.iter()).filter(|row| !row.sft && row.overall.average.0 > best);
    let above: Vec<&str> = above.map(|row| row.method).collect();
    let beaten = |method: &str| {
        (TABLE_2.iter())
            .filter(|r| r.sft && r.overall.average.0 > printed(method))
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
        .against("AA of CoH+ER", recomputed("CoH+ER"), printed("CoH+ER"))
        .against("AA of RRHF+ER", recomputed("RRHF+ER"), printed("RRHF+ER"))
        .against(
            "AA of SFT+DER++",
            recomputed("SFT+DER++"),
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
        .against("AA of SPIN+ER", recomputed("SPIN+ER"), spin)
        .against("AA of PRO+ER", recomputed("PRO+ER"), printed("PRO+ER"))
        .against("AA of RRHF+ER", recomputed("RRHF+ER"), printed("RRHF+ER")))
}
