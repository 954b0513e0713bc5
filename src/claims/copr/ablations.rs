//! Tables 3 and 4, recomputed from their cells.

use super::super::Finding;
use super::table_2::{Cell, HALF, Overall, first_score, ours, overall, test};
use crate::error::Result;

/// Table 3: without J_C, and with λ ≡ 1 in place of multipliers.
const NO_CONSTRAINTS: Overall = overall(
    (0.700, 0.0084),
    (0.706, 0.0015),
    (-0.054, 0.0061),
    (0.054, 0.0061),
);
const NO_MULTIPLIERS: Overall = overall(
    (0.761, 0.0021),
    (0.830, 0.0019),
    (-0.031, 0.0036),
    (0.031, 0.0036),
);

/// Table 4: AA and BWT by the share of the data that is replayed, in percent; 5 is Table 2's own.
const REPLAY: [(u32, Cell, Cell); 3] = [
    (1, (0.764, 0.0059), (-0.041, 0.0026)),
    (2, (0.778, 0.0032), (-0.022, 0.0025)),
    (10, (0.784, 0.0021), (-0.019, 0.0042)),
];

/// A matrix of scores of three tasks, `[after][task]`, that a row of the metrics leaves open in two of its
/// numbers: the first task's when just learned and the last one's.
fn matrix(row: &Overall, first: f64, last: f64) -> [[f64; 3]; 3] {
    let (average, transfer) = (row.average.0, row.transfer.0);
    let old = 3.0 * average - last;
    let second = old - 2.0 * transfer - first;
    let kept = 2.0 * (3.0 * row.incremental.0 - average - first) - second;
    // Of BWT only the sum over both tasks counts: each is taken to fall alike.
    let end = first + transfer;
    [
        [first, f64::NAN, f64::NAN],
        [kept, second, f64::NAN],
        [end, old - end, last],
    ]
}

pub(super) fn no_constraints() -> Result<Finding> {
    let row = &NO_CONSTRAINTS;
    let (first, slack) = first_score(ours()?);
    let best_last = super::table_2::TABLE_2
        .iter()
        .map(|row| row.scores[2].0)
        .fold(f64::NEG_INFINITY, f64::max);
    // The rise of the two old tasks while the third is learned, at least, if it ends with `last`.
    let rise = |first: f64, last: f64, error: f64| {
        let old = 3.0 * (row.average.0 - error) - last;
        let before = 3.0 * (row.incremental.0 + error) - (row.average.0 - error) - first;
        old - 2.0 * before
    };
    let least = rise(first - slack, 1.0, HALF);
    let likely = rise(first, best_last, 0.0);
    // Where they do not rise.
    let lower = first - likely / 2.0;
    let other = matrix(row, lower, best_last);
    let scores = || (0..3).flat_map(|i| other[i][..=i].iter());
    let possible = scores().all(|a| (0.0..=1.0).contains(a)) && other[1][0] <= other[0][0];
    let evidence = format!(
        "with COPR's own {first:.4} ± {slack:.4} on HH the two old tasks must rise by {least:.2} together while the \
         third is learned, were that to end at 1, and by {likely:.2} were it at Table 2's best, {best_last}; with \
         {lower:.3} on HH there is a matrix in which they do not"
    );
    Ok(Finding::holds_if(possible, least > 0.0, evidence)
        .measure("rise of the old tasks, at least", least)
        .measure("rise with IMDB at Table 2's best", likely)
        .measure("first score without a rise", lower))
}

pub(super) fn replay() -> Result<Finding> {
    let [(_, one, one_transfer), (_, two, _), (_, ten, ten_transfer)] = REPLAY;
    let five = ours()?.overall;
    let by_n = true;
    let average = test(ten, one, by_n)?;
    let transfer = test(ten_transfer, one_transfer, by_n)?;
    let from_two = test(ten, two, by_n)?;
    let rise = ten.0 - one.0;
    let multipliers = five.average.0 - NO_MULTIPLIERS.average.0;
    let kept = ten_transfer.0 / one_transfer.0;
    let evidence = format!(
        "from 1 % to 10 %: AA {rise:+.3} (Welch's t = {:.1}, p = {:.3}), more than the {multipliers:.3} for which \
         multipliers are recommended; BWT t = {:.1}, p = {:.3}. From 2 %: t = {:.1}, p = {:.2}, with 5 % below 2 %",
        average.t, average.p, transfer.t, transfer.p, from_two.t, from_two.p
    );
    let flat = from_two.p > 0.05 && five.average.0 < two.0;
    Ok(Finding::holds_if(
        flat,
        average.p < 0.05 && transfer.p < 0.05 && rise > multipliers,
        evidence,
    )
    .measure("1 % to 10 %: rise of AA", rise)
    .measure("1 % to 10 %: AA, t", average.t)
    .measure("1 % to 10 %: BWT, t", transfer.t)
    .measure("2 % to 10 %: AA, t", from_two.t)
    .measure("BWT at 10 % over that at 1 %", kept))
}
