//! The printed tables, recomputed from their cells.

use super::super::{Finding, Share};
use crate::error::Result;
use crate::magnitude::larger;

/// Table 1: accuracy and ECE of the reward model and of the Advantage Model, in percent, on
/// HH-RLHF and on the proprietary data.
const TABLE_1: [[f64; 4]; 2] = [[69.25, 4.70, 74.75, 5.35], [69.43, 3.48, 75.28, 3.83]];

/// Table 2: win, lose, tie against the SFT model on the main and on the forget test set, for RM-PPO,
/// AM-PPO and AM-PPO-SR.
const TABLE_2: [[[f64; 3]; 2]; 3] = [
    [[12.72, 12.62, 74.66], [16.87, 29.28, 53.84]],
    [[14.87, 10.38, 74.74], [9.70, 8.44, 81.86]],
    [[15.78, 9.77, 74.45], [10.30, 7.95, 81.75]],
];

/// Prompts of the main and of the forget test set (section 4.1).
const PROMPTS: [usize; 2] = [2_623, 1_704];

/// Comparisons of HH-RLHF's test set (section 4.1).
const HH_TEST: f64 = 8_500.0;

pub(super) fn table_1() -> Result<Finding> {
    let [reward, advantage] = TABLE_1;
    let better = |column: usize| advantage[column] - reward[column];
    let as_described = [0, 2].iter().all(|&c| better(c) > 0.0 && better(c) < 1.0)
        && [1, 3].iter().all(|&c| better(c) < -1.0);
    // Win, lose and tie are shares of the same comparisons: no accuracies, and no calibration errors.
    let off = TABLE_2
        .iter()
        .flatten()
        .map(|row| (row.iter().sum::<f64>() - 100.0).abs());
    let shares = off.fold(0.0, larger);
    Ok(Finding::misprint(
        as_described,
        shares < 0.02,
        format!(
            "Table 1: accuracy {:+.2} and {:+.2}, ECE {:+.2} and {:+.2} points; every row of Table 2 sums to 100 within {shares:.2}",
            better(0),
            better(2),
            better(1),
            better(3)
        ),
    ))
}

pub(super) fn table_2_forgetting() -> Result<Finding> {
    let net = |row: [f64; 3]| row[0] - row[1];
    let [reward, advantage, _] = TABLE_2;
    let (reward, advantage) = (reward[1], advantage[1]);
    Ok(Finding::holds(
        net(reward) < 0.0 && net(advantage) > 0.0,
        format!(
            "wins less losses {:+.2} against {:+.2} points; wins alone {:.2} against {:.2}",
            net(reward),
            net(advantage),
            reward[0],
            advantage[0]
        ),
    ))
}

pub(super) fn table_2_rehearsal() -> Result<Finding> {
    let [_, without, with] = TABLE_2;
    let gain = |set: usize| with[set][0] - without[set][0];
    let score = |set: usize| {
        let [without, with] = [without, with].map(|row: [[f64; 3]; 2]| Share {
            percent: row[set][0],
            of: PROMPTS[set] as f64,
        });
        with.score_less(without)
    };
    Ok(Finding::holds(
        gain(0) > 0.0 && gain(1) > 0.0,
        format!(
            "wins {:+.2} points on the main set, {:+.2} on the forget set: z = {:.1} and {:.1}, were both shares \
             of answers of their own",
            gain(0),
            gain(1),
            score(0),
            score(1)
        ),
    )
    .measure("main set: z", score(0))
    .measure("forget set: z", score(1)))
}

pub(super) fn ranking_accuracy() -> Result<Finding> {
    let [reward, advantage] = TABLE_1;
    let [before, after] = [reward, advantage].map(|row| Share {
        percent: row[0],
        of: HH_TEST,
    });
    let z = after.score_less(before);
    let gains = [0, 2].map(|c| advantage[c] - reward[c]);
    Ok(Finding::holds(
        gains.iter().all(|gain| *gain > 0.0),
        format!(
            "accuracy {:+.2} and {:+.2} points; on HH-RLHF z = {z:.2}, were both shares of comparisons of their own",
            gains[0], gains[1]
        ),
    )
    .measure("HH-RLHF: z", z))
}

/// Whether a row's shares, printed to two digits, can be those of `answers`, all of which are counted.
fn shares_of(row: &[f64; 3], answers: usize) -> bool {
    // All counts that round to each share, and whether some of them add up.
    let counts = |share: f64| {
        let exact = share / 100.0 * answers as f64;
        let slack = 0.005 / 100.0 * answers as f64 + 1e-9;
        (
            (exact - slack).ceil() as usize,
            (exact + slack).floor() as usize,
        )
    };
    let all = row.map(counts);
    let possible = all.iter().all(|(low, high)| low <= high);
    let sum = |of: fn(&(usize, usize)) -> usize| all.iter().map(of).sum::<usize>();
    possible && sum(|c| c.0) <= answers && answers <= sum(|c| c.1)
}

pub(super) fn table_2_sizes() -> Result<Finding> {
    let (mut stated, mut doubled) = (0, 0);
    let mut most = [[0; 2]; 3];
    for (row, most) in TABLE_2.iter().zip(&mut most) {
        for set in 0..2 {
            stated += usize::from(shares_of(&row[set], PROMPTS[set]));
            doubled += usize::from(shares_of(&row[set], 2 * PROMPTS[set]));
            let sizes = (1..=PROMPTS[set]).rev();
            most[set] = sizes
                .into_iter()
                .find(|n| shares_of(&row[set], *n))
                .unwrap_or(0);
        }
    }
    let common =
        |set: usize| (1..=PROMPTS[set]).any(|n| TABLE_2.iter().all(|row| shares_of(&row[set], n)));
    let of = |set: usize| most.map(|m| m[set]);
    let ([rm, am, sr], [rm_forget, am_forget, sr_forget]) = (of(0), of(1));
    Ok(Finding::holds_if(
        most.as_flattened().iter().all(|n| *n > 0),
        stated == 0 && !common(0) && !common(1),
        format!(
            "of the six rows {stated} can be counts of the stated prompts over their number, {doubled} if each was \
             judged in both orders; RM-PPO, AM-PPO and AM-PPO-SR can be of at most {rm}, {am} and {sr} answers on \
             the main set, {rm_forget}, {am_forget} and {sr_forget} on the forget set, and of no number in common"
        ),
    )
    .measure("main set: most answers, RM-PPO", rm as f64)
    .measure("main set: most answers, AM-PPO", am as f64)
    .measure("main set: most answers, AM-PPO-SR", sr as f64)
    .measure("forget set: most answers, RM-PPO", rm_forget as f64)
    .measure("forget set: most answers, AM-PPO", am_forget as f64)
    .measure("forget set: most answers, AM-PPO-SR", sr_forget as f64))
}
