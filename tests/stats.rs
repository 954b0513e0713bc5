//! rliable's numbers (tests/fixtures/make_rliable.py).

use pistar::stats::runs::{Aggregate, Scores, probability_of_improvement};
use pistar::stats::{Bootstrap, Estimate};
use serde::Deserialize;

#[derive(Deserialize)]
struct Theirs {
    value: f64,
    low: f64,
    high: f64,
}

#[derive(Deserialize)]
struct Fixture {
    x: Vec<Vec<f64>>,
    y: Vec<Vec<f64>>,
    of_x: std::collections::BTreeMap<String, Theirs>,
    of_y: std::collections::BTreeMap<String, Theirs>,
    probability_of_improvement: Theirs,
}

/// Of our resamples, how much fewer or more than 2.5 % may be beyond their bounds: five standard errors
/// √(0.025 · 0.975 (1/20 000 + 1/200 000)), theirs being of 200 000 resamples.
const SLACK: f64 = 0.0058;

/// The number to 1e-12; each of their bounds between our quantiles at 2.5 % less and more the slack.
/// (The laws are discrete: bounds that differ by a step can be as likely.)
fn same(ours: impl Fn(&Bootstrap) -> Estimate, theirs: &Theirs, what: &str) {
    let at = |level| {
        ours(&Bootstrap {
            seed: 1,
            resamples: 20_000,
            level,
        })
    };
    let (wide, narrow) = (at(0.95 + 2.0 * SLACK), at(0.95 - 2.0 * SLACK));
    let value = wide.value;
    assert!(
        (value - theirs.value).abs() < 1e-12,
        "{what}: {value} {}",
        theirs.value
    );
    let (low, high) = (theirs.low, theirs.high);
    let within = |a: f64, b: f64, c: f64| a <= b + 1e-12 && b <= c + 1e-12;
    assert!(
        within(wide.low, low, narrow.low),
        "{what}: {low}, {wide:?} {narrow:?}"
    );
    assert!(
        within(narrow.high, high, wide.high),
        "{what}: {high}, {wide:?} {narrow:?}"
    );
    assert!(wide.low < value && value < wide.high, "{what}");
}

#[test]
fn aggregates_are_those_of_rliable() {
    let text = include_str!("fixtures/rliable.json");
    let fixture: Fixture = serde_json::from_str(text).expect("a fixture");
    let [x, y] = [&fixture.x, &fixture.y].map(|runs| Scores::new(runs).expect("a matrix"));
    for (scores, theirs) in [(&x, &fixture.of_x), (&y, &fixture.of_y)] {
        assert_eq!(theirs.len(), Aggregate::ALL.len());
        for aggregate in Aggregate::ALL {
            let ours = |bootstrap: &Bootstrap| scores.estimate(aggregate, bootstrap);
            same(ours, &theirs[aggregate.name()], aggregate.name());
        }
    }
    let ours = |bootstrap: &Bootstrap| {
        probability_of_improvement(&x, &y, bootstrap).expect("the same tasks")
    };
    same(ours, &fixture.probability_of_improvement, "improvement");
}
