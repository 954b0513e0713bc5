//! The Advantage Model's tables, derived a second time.

use super::printed::{finding, measure, near};

/// Cohen's h of two shares in percent over its deviation.
fn h(from: f64, to: f64, n: f64, m: f64) -> f64 {
    let angle = |rate: f64| 2.0 * (rate / 100.0).sqrt().asin();
    (angle(to) - angle(from)) / (1.0 / n + 1.0 / m).sqrt()
}

#[test]
fn differences_by_arcsines() {
    let wins = finding("advantage-model/table-2-rehearsal");
    near(
        measure(&wins, "main set: z"),
        h(14.87, 15.78, 2623.0, 2623.0),
        0.01,
    );
    near(
        measure(&wins, "forget set: z"),
        h(9.70, 10.30, 1704.0, 1704.0),
        0.01,
    );
    let accuracy = finding("advantage-model/ranking-accuracy");
    near(
        measure(&accuracy, "HH-RLHF: z"),
        h(69.25, 69.43, 8500.0, 8500.0),
        0.01,
    );
    for z in [
        measure(&wins, "main set: z"),
        measure(&wins, "forget set: z"),
    ] {
        assert!(z > 0.0 && z < 1.0, "{z}");
    }
}

/// Whether three whole numbers of that sum print as these shares, trying all.
fn printable(row: [f64; 3], answers: usize) -> bool {
    let printed = |count: usize| (1e4 * count as f64 / answers as f64).round() as i64;
    let wanted = row.map(|share| (100.0 * share).round() as i64);
    let near = |share: f64| {
        let middle = (share / 100.0 * answers as f64) as usize;
        middle.saturating_sub(2)..=middle + 2
    };
    near(row[0]).any(|win| {
        printed(win) == wanted[0]
            && near(row[1]).any(|lose| {
                printed(lose) == wanted[1] && win + lose <= answers && {
                    printed(answers - win - lose) == wanted[2]
                }
            })
    })
}

#[test]
fn shares_by_trying_all_counts() {
    let found = finding("advantage-model/table-2-sizes");
    let rows = [
        (
            "main set: most answers, RM-PPO",
            [12.72, 12.62, 74.66],
            2623,
        ),
        (
            "main set: most answers, AM-PPO",
            [14.87, 10.38, 74.74],
            2623,
        ),
        (
            "main set: most answers, AM-PPO-SR",
            [15.78, 9.77, 74.45],
            2623,
        ),
        (
            "forget set: most answers, RM-PPO",
            [16.87, 29.28, 53.84],
            1704,
        ),
        (
            "forget set: most answers, AM-PPO",
            [9.70, 8.44, 81.86],
            1704,
        ),
        (
            "forget set: most answers, AM-PPO-SR",
            [10.30, 7.95, 81.75],
            1704,
        ),
    ];
    for (name, row, prompts) in rows {
        assert!(!printable(row, prompts), "{name}");
        let most = (1..prompts).rev().find(|n| printable(row, *n)).unwrap();
        near(measure(&found, name), most as f64, 1e-9);
    }
    // Of the first 2,623 the nearest shares to 12.72 are 333 and 334.
    let nearest = [333.0, 334.0].map(|k: f64| 100.0 * k / 2623.0);
    assert!(nearest[0] < 12.715 && nearest[1] > 12.725);
}
