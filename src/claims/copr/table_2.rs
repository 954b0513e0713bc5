//! Table 2 as printed, and what follows from its cells.

use crate::error::{Error, Result};
use crate::stats::student::{Summary, TTest, welch};

/// A printed mean and its deviation.
pub(super) type Cell = (f64, f64);

/// AA, AIA, BWT and FM as a row prints them.
#[derive(Clone, Copy)]
pub(super) struct Overall {
    pub average: Cell,
    pub incremental: Cell,
    pub transfer: Cell,
    pub forgetting: Cell,
}

pub(super) const fn overall(
    average: Cell,
    incremental: Cell,
    transfer: Cell,
    forgetting: Cell,
) -> Overall {
    Overall {
        average,
        incremental,
        transfer,
        forgetting,
    }
}

/// A method that learns one task after another.
pub(super) struct Row {
    pub method: &'static str,
    /// Whether it is based on SFT; the others are alignment methods.
    pub sft: bool,
    /// Scores on HH, TL;DR and IMDB after the last of them.
    pub scores: [Cell; 3],
    pub overall: Overall,
}

impl Row {
    /// AA of the scores.
    pub fn average(&self) -> f64 {
        self.scores.iter().map(|cell| cell.0).sum::<f64>() / 3.0
    }

    /// Mean of the two tasks learned before the last.
    pub fn old(&self) -> f64 {
        (self.scores[0].0 + self.scores[1].0) / 2.0
    }
}

const fn row(method: &'static str, sft: bool, scores: [Cell; 3], overall: Overall) -> Row {
    Row {
        method,
        sft,
        scores,
        overall,
    }
}

/// A row whose FM is its BWT without the sign, deviation included, as all are but one.
const fn plain(
    method: &'static str,
    sft: bool,
    scores: [Cell; 3],
    [average, incremental, transfer]: [Cell; 3],
) -> Row {
    let forgetting = (-transfer.0, transfer.1);
    row(
        method,
        sft,
        scores,
        overall(average, incremental, transfer, forgetting),
    )
}

#[rustfmt::skip]
pub(super) const TABLE_2: [Row; 14] = [
    plain("SFT in order", true,
        [(0.772, 0.0171), (0.771, 0.0082), (0.580, 0.0148)],
        [(0.720, 0.0044), (0.739, 0.0028), (-0.043, 0.0084)]),
    plain("SFT+Online L2Reg", true,
        [(0.780, 0.0107), (0.764, 0.0116), (0.640, 0.0098)],
        [(0.728, 0.0058), (0.749, 0.0075), (-0.024, 0.0042)]),
    plain("SFT+EWC", true,
        [(0.792, 0.0107), (0.771, 0.0116), (0.645, 0.0098)],
        [(0.736, 0.0058), (0.771, 0.0075), (-0.013, 0.0051)]),
    plain("SFT+MAS", true,
        [(0.796, 0.0112), (0.767, 0.0081), (0.639, 0.0148)],
        [(0.734, 0.0048), (0.767, 0.0028), (-0.014, 0.0044)]),
    plain("SFT+LwF", true,
        [(0.791, 0.0091), (0.776, 0.0034), (0.629, 0.0061)],
        [(0.732, 0.0028), (0.761, 0.0019), (-0.017, 0.0021)]),
    plain("SFT+AGM", true,
        [(0.811, 0.0103), (0.756, 0.0048), (0.652, 0.0112)],
        [(0.740, 0.0031), (0.771, 0.0038), (-0.013, 0.0032)]),
    plain("SFT+TFCL", true,
        [(0.784, 0.0132), (0.781, 0.0074), (0.632, 0.0083)],
        [(0.732, 0.0058), (0.779, 0.0075), (-0.021, 0.0061)]),
    plain("SFT+DER++", true,
        [(0.817, 0.0116), (0.774, 0.0089), (0.637, 0.0056)],
        [(0.743, 0.0052), (0.781, 0.0037), (-0.018, 0.0045)]),
    plain("SPIN+ER", false,
        [(0.851, 0.0118), (0.772, 0.0074), (0.642, 0.0067)],
        [(0.755, 0.0032), (0.794, 0.0041), (-0.033, 0.0032)]),
    plain("CoH+ER", false,
        [(0.807, 0.0121), (0.743, 0.0107), (0.625, 0.0113)],
        [(0.725, 0.0082), (0.781, 0.0026), (-0.027, 0.0041)]),
    plain("PRO+ER", false,
        [(0.803, 0.0151), (0.750, 0.0164), (0.682, 0.0173)],
        [(0.745, 0.0059), (0.802, 0.0063), (-0.030, 0.0023)]),
    row("RRHF+ER", false,
        [(0.808, 0.0126), (0.727, 0.0198), (0.641, 0.0092)],
        overall((0.725, 0.0065), (0.791, 0.0072), (-0.011, 0.0025), (0.018, 0.0031))),
    plain("DPO+ER", false,
        [(0.828, 0.0165), (0.775, 0.0125), (0.672, 0.0098)],
        [(0.758, 0.0086), (0.816, 0.0041), (-0.024, 0.0047)]),
    plain(OURS, false,
        [(0.860, 0.0123), (0.783, 0.0115), (0.679, 0.0102)],
        [(0.774, 0.0039), (0.842, 0.0027), (-0.029, 0.0025)]),
];

pub(super) const OURS: &str = "COPR";

/// The row of SFT on all tasks at once.
pub(super) const MULTI_TASKS: [Cell; 3] = [(0.825, 0.0143), (0.781, 0.0041), (0.641, 0.0151)];

/// The row of Iterated RLHF, which trains anew on all data at every task.
pub(super) const ITERATED: [f64; 3] = [0.867, 0.799, 0.692];

/// Half a unit of the last digit.
pub(super) const HALF: f64 = 0.0005;

/// Seeds of every experiment (Table 4's caption).
const SEEDS: usize = 3;

/// Welch's test of a printed mean against another, the deviations dividing by n − 1, as favours a
/// difference, or by n.
pub(super) fn test(first: Cell, second: Cell, by_n: bool) -> Result<TTest> {
    let of = |(mean, sd): Cell| {
        if by_n {
            Summary::dividing_by_n(mean, sd, SEEDS)
        } else {
            Summary {
                mean,
                sd,
                count: SEEDS,
            }
        }
    };
    welch(&of(first), &of(second))
        .ok_or_else(|| Error::invalid("printed cells", "no t test", "give cells with a deviation"))
}

pub(super) fn named(method: &str) -> Result<&'static Row> {
    let found = TABLE_2.iter().find(|row| row.method == method);
    found.ok_or_else(|| Error::invalid("Table 2", format!("no row `{method}`"), "name one of it"))
}

/// AA as printed.
pub(super) fn printed(method: &str) -> f64 {
    named(method).map_or(f64::NAN, |row| row.overall.average.0)
}

/// The row of the paper's own method.
pub(super) fn ours() -> Result<&'static Row> {
    named(OURS)
}

/// Bounds, by the rounding of the printed numbers, on the score of the first task of three when it was just learned.
///
/// With a_ij the score on task j after task i, AA and AIA give `a₁₁ + (a₂₁ + a₂₂)/2 = 3 AIA − AA`, BWT gives
/// `a₁₁ + a₂₂ = a₃₁ + a₃₂ − 2 BWT`, and FM gives `max(a₁₁, a₂₁) − a₁₁ = 2 (FM + BWT)`. What is left is
/// `a₁₁ + a₂₁`, of which a₁₁ is half or more but for the difference.
pub(super) fn first_score(row: &Row) -> (f64, f64) {
    let Overall {
        average,
        incremental,
        transfer,
        forgetting,
    } = row.overall;
    let learned = row.scores[0].0 + row.scores[1].0 - 2.0 * transfer.0;
    let both = 2.0 * (3.0 * incremental.0 - average.0) - learned;
    let regained = 2.0 * (forgetting.0 + transfer.0);
    let least = (both - regained) / 2.0;
    // Of the four numbers rounded, by their factors.
    let slack = (2.0 * 4.0 + 2.0 + 2.0 + 2.0 * 2.0) * HALF / 2.0;
    (least, slack)
}
