//! Statements about the printed figures, recomputed from their cells.

use super::super::{Finding, Share};
use crate::error::{Error, Result};
use crate::stats::student::{Summary, one_sample};

/// Fig. 3: the learning rates of its columns.
const RATES: [f64; 4] = [1e-5, 5e-5, 1e-4, 5e-4];

/// Fig. 3, first row: win rate against SFT by the learning rate of policy and value.
const JOINT_RATE: [f64; 4] = [73.7, 78.7, 78.9, 78.4];

/// Fig. 3, second row: win rate against SFT by the value's learning rate, the policy's being 1e-4.
const VALUE_RATE: [f64; 4] = [76.8, 78.0, 78.9, 79.1];

pub(super) fn figure_3() -> Result<Finding> {
    let rises = VALUE_RATE.is_sorted_by(|a, b| a < b);
    let gain = VALUE_RATE[3] - VALUE_RATE[0];
    Ok(Finding::holds(
        rises && gain < 5.0,
        "the printed row rises from each learning rate to the next",
    )
    .measure("gain from 1e-5 to 5e-4, %", gain))
}

/// Of a row of fig. 3 the range over the columns `from` to `to`.
fn range(row: &[f64; 4], from: usize, to: usize) -> f64 {
    let part = &row[from..=to];
    part.iter().fold(f64::NEG_INFINITY, |m, v| m.max(*v))
        - part.iter().fold(f64::INFINITY, |m, v| m.min(*v))
}

pub(super) fn rate_range() -> Result<Finding> {
    let decade = |from: usize, to: usize| (RATES[to] / RATES[from] - 10.0).abs() < 1e-9;
    // The two decades that the grid has: the upper one about the default, the one below it.
    let (upper, lower) = (decade(1, 3), decade(0, 2));
    let [joint, value] = [JOINT_RATE, VALUE_RATE].map(|row| [range(&row, 1, 3), range(&row, 0, 2)]);
    Ok(Finding::holds_if(
        upper && joint[0].max(value[0]) < 1.5,
        lower && joint[1] > 5.0,
        "ranges of both printed rows over the grid's two factors of ten",
    )
    .measure("5e-5 to 5e-4, both rates, %", joint[0])
    .measure("5e-5 to 5e-4, value's only, %", value[0])
    .measure("1e-5 to 1e-4, both rates, %", joint[1])
    .measure("1e-5 to 1e-4, value's only, %", value[1]))
}

/// Fig. 4: win rate against SFT of DRO-V and of KTO by τ.
const TAU: [f64; 3] = [0.1, 1.0, 5.0];
const DRO_TAU: [f64; 3] = [70.5, 78.9, 76.6];
const KTO_TAU: [f64; 3] = [63.5, 61.9, 67.5];

/// The τ of a row's largest entry, and of its smallest.
fn best_and_worst(row: &[f64; 3]) -> (f64, f64) {
    let mut order = [0, 1, 2];
    order.sort_by(|&a, &b| row[a].total_cmp(&row[b]));
    (TAU[order[2]], TAU[order[0]])
}

pub(super) fn figure_4() -> Result<Finding> {
    let (dro, kto) = (best_and_worst(&DRO_TAU), best_and_worst(&KTO_TAU));
    let extremes = |row: &[f64; 3]| {
        let least = row.iter().fold(f64::INFINITY, |m, v| m.min(*v));
        (least, row.iter().fold(f64::NEG_INFINITY, |m, v| m.max(*v)))
    };
    let (ours, theirs) = (extremes(&DRO_TAU), extremes(&KTO_TAU));
    Ok(Finding::holds(
        dro.0 == 1.0 && kto == (5.0, 1.0) && theirs.1 - theirs.0 > 5.0,
        format!(
            "of the printed rows DRO-V is best at τ = {}, KTO at {} and worst at {}",
            dro.0, kto.0, kto.1
        ),
    )
    .measure("range of DRO-V, %", ours.1 - ours.0)
    .measure("range of KTO, %", theirs.1 - theirs.0)
    .measure(
        "DRO-V at its worst τ over KTO at its best, %",
        ours.0 - theirs.1,
    ))
}

/// Fig. 1 (T5-L) and 2 (T5-XL): win rates of DRO-V over SFT, of KTO over SFT, and of DRO-V over KTO, with
/// deviations, on five folds of 1,000 prompts.
const SIDE_BY_SIDE: [[(f64, f64); 3]; 2] = [
    [(78.9, 0.3), (67.5, 0.7), (63.4, 1.0)],
    [(81.5, 1.0), (78.2, 0.7), (57.5, 0.8)],
];
const FOLDS: usize = 5;
const PROMPTS: f64 = 5_000.0;

/// The win rate of a first over a second that Bradley–Terry gives from theirs over a third, in percent,
/// and its deviation.
fn transitive([first, second]: [(f64, f64); 2]) -> (f64, f64) {
    // ln p/(1 − p) and its deviation.
    let log_odds = |(rate, sd): (f64, f64)| {
        let p = rate / 100.0;
        ((p / (1.0 - p)).ln(), sd / 100.0 / (p * (1.0 - p)))
    };
    let ((a, sa), (b, sb)) = (log_odds(first), log_odds(second));
    let p = 1.0 / (1.0 + (b - a).exp());
    (100.0 * p, 100.0 * p * (1.0 - p) * sa.hypot(sb))
}

pub(super) fn side_by_side() -> Result<Finding> {
    let (mut largest, mut predicted, mut apart) = (0.0f64, [0.0; 2], [0.0; 2]);
    for (size, figure) in SIDE_BY_SIDE.into_iter().enumerate() {
        for (mean, sd) in figure {
            // The larger reading of ±: of the mean itself, not of one fold.
            let sd = sd * (FOLDS as f64).sqrt();
            let count = FOLDS;
            let test = one_sample(&Summary { mean, sd, count }, 50.0).ok_or_else(|| {
                Error::invalid("printed cells", "no t test", "give cells with a deviation")
            })?;
            let p = if test.t > 0.0 { test.p } else { 1.0 };
            largest = largest.max(p);
        }
        let [ours, theirs, direct] = figure;
        let (rate, sd) = transitive([ours, theirs]);
        predicted[size] = rate;
        apart[size] = (direct.0 - rate) / sd.hypot(direct.1);
    }
    let direct = SIDE_BY_SIDE.map(|figure| figure[2].0);
    Ok(Finding::holds(
        largest < 0.01,
        format!("t tests of the six printed win rates against 50, four degrees of freedom: p = {largest:.0e} or less"),
    )
    .against("DRO-V over KTO by Bradley–Terry, T5-L, %", predicted[0], direct[0])
    .against("DRO-V over KTO by Bradley–Terry, T5-XL, %", predicted[1], direct[1])
    .measure("printed less predicted, T5-L, in joint deviations", apart[0])
    .measure("printed less predicted, T5-XL, in joint deviations", apart[1]))
}

/// Fig. 5: win rate against SFT by networks (one, two) and values per batch (one, several).
const SHARED: [[f64; 2]; 2] = [[57.6, 55.5], [72.1, 76.6]];

pub(super) fn figure_5() -> Result<Finding> {
    let [single, double] = SHARED;
    let values = double[1] - double[0];
    let networks = [double[0] - single[0], double[1] - single[1]];
    Ok(Finding::holds(
        (values - 4.5).abs() < 1e-9 && networks.iter().all(|n| *n > values),
        "the printed row's differences",
    )
    .against("several values over one, two networks, %", values, 4.5)
    .measure("two networks over one, one value, %", networks[0])
    .measure("two networks over one, several values, %", networks[1]))
}

pub(super) fn single_value() -> Result<Finding> {
    let [single, double] = SHARED;
    let gains = [single[1] - single[0], double[1] - double[0]];
    let score = |row: [f64; 2]| {
        let [one, several] = row.map(|percent| Share {
            percent,
            of: PROMPTS,
        });
        several.score_less(one)
    };
    Ok(Finding::holds_if(
        gains[1] > 0.0,
        gains[0] < 0.0,
        "the printed row's differences; their z if every cell is a share of 5,000 prompts",
    )
    .measure("several values over one, two networks, %", gains[1])
    .measure("several values over one, one network, %", gains[0])
    .measure("two networks: z", score(double))
    .measure("one network: z", score(single)))
}
