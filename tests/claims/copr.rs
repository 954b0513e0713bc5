//! COPR's tables, derived a second time: by other formulas, or from the matrix of scores itself.

use super::printed::{finding, measure, near, two_and_four};

/// AA, AIA, BWT and FM of three tasks, by eq. 29 to 33.
fn metrics(a: [[f64; 3]; 3]) -> [f64; 4] {
    let average = |k: usize| a[k][..=k].iter().sum::<f64>() / (k + 1) as f64;
    let transfer = (a[2][0] - a[0][0] + a[2][1] - a[1][1]) / 2.0;
    let forgetting = (a[0][0].max(a[1][0]) - a[2][0] + a[1][1] - a[2][1]) / 2.0;
    let all = (average(0) + average(1) + average(2)) / 3.0;
    [average(2), all, transfer, forgetting]
}

fn rounded(metrics: [f64; 4], printed: [f64; 4]) -> bool {
    metrics
        .iter()
        .zip(printed)
        .all(|(m, p)| (m - p).abs() <= 5.000_01e-4)
}

/// A search over all matrices that round to COPR's row: none has less on HH than the bound.
#[test]
fn no_matrix_of_copr_begins_below_the_bound() {
    let found = finding("copr/upper-bound");
    let least = measure(
        &found,
        "least score on HH just learned, COPR, against Iterated RLHF's at the end",
    );
    let printed = [0.774, 0.842, -0.029, 0.029];
    let end = [0.860, 0.783, 0.679];
    let (mut lowest, mut any) = (f64::INFINITY, 0);
    let grid = |low: f64, step: f64, count: usize| (0..count).map(move |i| low + step * i as f64);
    for first in grid(0.85, 5e-4, 301) {
        for kept in grid(0.80, 1e-3, 201) {
            for second in grid(0.70, 1e-3, 301) {
                let a = [[first, 0.0, 0.0], [kept, second, 0.0], end];
                if rounded(metrics(a), printed) {
                    (lowest, any) = (lowest.min(first), any + 1);
                }
            }
        }
    }
    assert!(any > 0);
    assert!(lowest >= least - 0.004 - 1e-9, "{lowest}");
    assert!(lowest > 0.867);
    // By hand: a₁₁ + a₂₂ = 1.701, a₁₁ + a₂₁ = 1.803 and a₁₁ ≥ a₂₁.
    near(least, 1.803 / 2.0, 1e-9);
}

/// The printed row without constraints, with the first score that COPR's own has at least: the old tasks rise.
#[test]
fn without_constraints_the_old_tasks_would_rise() {
    let found = finding("copr/table-3-constraints");
    let rise = measure(&found, "rise of the old tasks, at least");
    // AA₁ + AA₂ = 3 AIA − AA₃ at their largest, less the first score's bound; and AA₃ at its lowest, with 1 on the third.
    let second = (3.0 * 0.7065 - 0.6995) - 0.8975;
    near(rise, (3.0 * 0.6995 - 1.0) - 2.0 * second, 1e-9);
    assert!(rise > 0.0);
    // Where they do not rise there is a matrix with these metrics.
    let lower = measure(&found, "first score without a rise");
    let (last, old) = (0.682, 2.1 - 0.682);
    let second = old + 0.108 - lower;
    let kept = 2.0 * (3.0 * 0.706 - 0.700 - lower) - second;
    let a = [
        [lower, 0.0, 0.0],
        [kept, second, 0.0],
        [lower - 0.054, second - 0.054, last],
    ];
    assert!(rounded(metrics(a), [0.700, 0.706, -0.054, 0.054]), "{a:?}");
    near(kept + second, old, 1e-9);
    near(lower, 0.709, 5e-4);
}

#[test]
fn copr_retention_by_counting() {
    let found = finding("copr/retains-most");
    let transfers = [
        -0.043, -0.024, -0.013, -0.014, -0.017, -0.013, -0.021, -0.018, -0.033, -0.027, -0.030,
        -0.011, -0.024,
    ];
    let better = transfers.iter().filter(|t| **t > -0.029).count();
    near(
        measure(&found, "methods with a higher BWT"),
        better as f64,
        1e-9,
    );
    assert_eq!(better, 10);
    // CoH, RRHF and DPO; PRO is below.
    near(
        measure(&found, "of them alignment methods of Fig. 2"),
        3.0,
        1e-9,
    );
    let next = (0.851 + 0.772) / 2.0;
    let gap = measure(&found, "old tasks at the end less the next best");
    near(gap, (0.860 + 0.783) / 2.0 - next, 1e-12);
    assert!(gap > 0.0);
}

/// Student's t with deviations dividing by n, three seeds each.
fn t([mean, sd]: [f64; 2], [other, spread]: [f64; 2]) -> f64 {
    (mean - other) / ((sd * sd + spread * spread) / 2.0).sqrt()
}

#[test]
fn copr_multi_tasks_by_bounds_on_welch() {
    let found = finding("copr/multi-tasks");
    let cells = [
        ("HH", [0.825, 0.0143], [0.772, 0.0171], true),
        ("TL;DR", [0.781, 0.0041], [0.771, 0.0082], false),
        ("IMDB", [0.641, 0.0151], [0.580, 0.0148], true),
    ];
    for (task, multi, order, clear) in cells {
        let by_hand = t(multi, order);
        near(measure(&found, &format!("{task}: t")), by_hand, 1e-9);
        let p = measure(&found, &format!("{task}: p, two-sided"));
        let [high, low] = two_and_four(by_hand);
        assert!(low <= p && p <= high, "{task}: {low} {p} {high}");
        assert_eq!(p < 0.05, clear, "{task}");
        // On TL;DR not by the law of four degrees either, and one-sided.
        assert!(clear || low / 2.0 > 0.05, "{task}");
    }
}

#[test]
fn copr_replay_by_bounds_on_welch() {
    let found = finding("copr/replay-share");
    let (one, two, ten) = ([0.764, 0.0059], [0.778, 0.0032], [0.784, 0.0021]);
    near(measure(&found, "1 % to 10 %: AA, t"), t(ten, one), 1e-9);
    near(measure(&found, "2 % to 10 %: AA, t"), t(ten, two), 1e-9);
    let transfer = t([-0.019, 0.0042], [-0.041, 0.0026]);
    near(measure(&found, "1 % to 10 %: BWT, t"), transfer, 1e-9);
    let rise = measure(&found, "1 % to 10 %: rise of AA");
    near(rise, 0.020, 1e-12);
    // More than multipliers are worth.
    assert!(rise > 0.774 - 0.761);
    // Above 5 % whatever the degrees of freedom.
    assert!(two_and_four(t(ten, two))[1] > 0.05);
    near(
        measure(&found, "BWT at 10 % over that at 1 %"),
        19.0 / 41.0,
        1e-12,
    );
}

#[test]
fn copr_is_ahead_in_its_table_by_less_than_three_seeds_tell() {
    let found = finding("copr/outperforms");
    let by_hand = t([0.774, 0.0039], [0.758, 0.0086]);
    near(measure(&found, "Table 2: t"), by_hand, 1e-9);
    assert!(two_and_four(by_hand)[1] > 0.05);
    assert!(measure(&found, "bandits: AA of EWC less COPR's") > 0.0);
}

#[test]
fn copr_bold_forgetting_by_the_table() {
    let below = [0.013, 0.014, 0.017, 0.013];
    assert!(below.iter().all(|fm| *fm < 0.018));
    let evidence = finding("copr/table-2-forgetting").evidence;
    for method in ["EWC", "MAS", "LwF", "AGM"] {
        assert!(evidence.contains(method), "{evidence}");
    }
    assert!(!evidence.contains("DER"), "{evidence}");
}
