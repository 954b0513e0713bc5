//! Calibration: bins, ties, moments and inversions, counted by hand.

use pistar::backend::nd::sigmoid;
use pistar::bandit::Problem;
use pistar::solve::calibration::{Bin, accuracy, binned_error, diagram, error, inversion, moments};

/// Two prompts of unequal weight, three arms and two, uneven laws.
fn problem() -> Problem {
    Problem::from_json(
        r#"{"beta": 1, "prompts": [
            {"weight": 0.25, "reward": [2.0, 0.5, -1.0], "behavior": [[0.5, 0.3, 0.2]]},
            {"weight": 0.75, "reward": [0.0, 1.0], "behavior": [[0.6, 0.4], [0.1, 0.9]]}
        ]}"#,
    )
    .unwrap()
}

/// Scores with a tie, an inversion and gaps of every size.
fn scores() -> Vec<Vec<f64>> {
    vec![vec![0.4, 0.4, 3.0], vec![-0.2, 0.3]]
}

/// (mass, gap of the scores, gap of the rewards) of the four pairs of different arms.
fn pairs() -> [(f64, f64, f64); 4] {
    [
        (0.25 * 2.0 * 0.5 * 0.3, 0.0, 1.5),
        (0.25 * 2.0 * 0.5 * 0.2, -2.6, 3.0),
        (0.25 * 2.0 * 0.3 * 0.2, -2.6, 1.5),
        (0.75 * (0.6 * 0.9 + 0.4 * 0.1), -0.5, -1.0),
    ]
}

fn near(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-14, "{a} {b}");
}

#[test]
fn errors_are_means_over_pairs_of_different_arms() {
    let mass: f64 = pairs().iter().map(|p| p.0).sum();
    let gaps = pairs().map(|(w, gap, truth)| w * (sigmoid(gap) - sigmoid(truth)).abs());
    near(
        error(&problem(), &scores()).unwrap(),
        gaps.iter().sum::<f64>() / mass,
    );
    let right = pairs().map(|(w, gap, truth)| {
        w * match gap {
            0.0 => 0.5,
            g if g > 0.0 => sigmoid(truth),
            _ => sigmoid(-truth),
        }
    });
    near(
        accuracy(&problem(), &scores()).unwrap(),
        right.iter().sum::<f64>() / mass,
    );
}

#[test]
fn bins_partition_the_pairs_by_confidence() {
    let mass: f64 = pairs().iter().map(|p| p.0).sum();
    let bins = diagram(&problem(), &scores(), 4).unwrap();
    // σ(0) = .5 and σ(.5) = .622 lie in the first bin, σ(2.6) = .931 in the last.
    let [tie, far, other, close] = pairs();
    for (bin, from) in bins.iter().zip([0.5, 0.625, 0.75, 0.875]) {
        near(bin.from, from);
    }
    let first = (tie.0 + close.0) / mass;
    near(bins[0].mass, first);
    let mean = |a: f64, b: f64| (tie.0 * a + close.0 * b) / (tie.0 + close.0);
    near(bins[0].confidence, mean(0.5, sigmoid(0.5)));
    near(bins[0].accuracy, mean(0.5, sigmoid(1.0)));
    for bin in &bins[1..3] {
        assert_eq!((bin.mass, bin.confidence, bin.accuracy), (0.0, 0.0, 0.0));
    }
    near(bins[3].mass, (far.0 + other.0) / mass);
    near(bins[3].confidence, sigmoid(2.6));
    let wrong = (far.0 * sigmoid(-3.0) + other.0 * sigmoid(-1.5)) / (far.0 + other.0);
    near(bins[3].accuracy, wrong);
    // Full confidence belongs to the last bin.
    let sure = diagram(&problem(), &[vec![0.0, 0.0, 0.0], vec![0.0, 1e3]], 3).unwrap();
    near(sure[2].mass, close.0 / mass);
}

#[test]
fn binned_errors_weigh_what_is_there() {
    let bin = |mass, confidence, accuracy| Bin {
        from: 0.5,
        mass,
        confidence,
        accuracy,
    };
    let bins = [
        bin(0.25, 0.5, 0.75),
        bin(0.0, 0.0, f64::NAN),
        bin(0.75, 0.9, 0.5),
    ];
    near(binned_error(&bins), 0.25 * 0.25 + 0.75 * 0.4);
}

#[test]
fn moments_weigh_prompts_and_arms() {
    let rows: [(f64, &[f64], Vec<f64>); 2] = [
        (1.0, &[1.0, 3.0], vec![0.5, 0.5]),
        (3.0, &[5.0, -1.0], vec![1.0, 0.0]),
    ];
    let found = moments(rows.into_iter());
    // Masses .5, .5, 3 on 1, 3, 5.
    near(found.mean, (0.5 + 1.5 + 15.0) / 4.0);
    let variance = (0.5 * 3.25f64.powi(2) + 0.5 * 1.25f64.powi(2) + 3.0 * 0.75f64.powi(2)) / 4.0;
    near(found.spread, variance.sqrt());
}

#[test]
fn the_worst_inversion_is_found() {
    assert_eq!(inversion(&problem(), &scores()), Some((0, 0, 2)));
    // A tie of scores is none, nor is a gap between equal rewards.
    assert_eq!(
        inversion(&problem(), &[vec![2.0, 1.0, 1.0], vec![0.0, 0.0]]),
        None
    );
    let second = [vec![3.0, 2.9, 1.0], vec![0.3, 0.1]];
    assert_eq!(inversion(&problem(), &second), Some((1, 1, 0)));
    let equal = Problem::from_json(
        r#"{"beta": 1, "prompts": [{"reward": [1, 1], "behavior": [[0.5, 0.5]]}]}"#,
    );
    assert_eq!(inversion(&equal.unwrap(), &[vec![0.0, 1.0]]), None);
}
