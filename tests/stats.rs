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

/// The number to 1e-12; the bounds to what resampling leaves open. The standard error of a 2.5 %
/// quantile of n resamples is √(0.025 · 0.975/n) over the density there, which is 0.058/sd of a normal
/// law, whose sd is a quarter of the interval: at 20 000 resamples (theirs are 200 000) 0.5 % of the
/// interval's width. Five of them, and a little for the steps of a discrete law.
fn same(ours: Estimate, theirs: &Theirs, what: &str) {
    assert!(
        (ours.value - theirs.value).abs() < 1e-12,
        "{what}: {ours:?} {}",
        theirs.value
    );
    let width = theirs.high - theirs.low;
    for (ours, theirs) in [(ours.low, theirs.low), (ours.high, theirs.high)] {
        assert!(
            (ours - theirs).abs() < 0.03 * width,
            "{what}: {ours} {theirs} of {width}"
        );
    }
}

#[test]
fn aggregates_are_those_of_rliable() {
    let text = include_str!("fixtures/rliable.json");
    let fixture: Fixture = serde_json::from_str(text).expect("a fixture");
    let bootstrap = Bootstrap {
        seed: 1,
        resamples: 20_000,
        level: 0.95,
    };
    let [x, y] = [&fixture.x, &fixture.y].map(|runs| Scores::new(runs).expect("a matrix"));
    for (scores, theirs) in [(&x, &fixture.of_x), (&y, &fixture.of_y)] {
        assert_eq!(theirs.len(), Aggregate::ALL.len());
        for aggregate in Aggregate::ALL {
            let ours = scores.estimate(aggregate, &bootstrap);
            same(ours, &theirs[aggregate.name()], aggregate.name());
        }
    }
    let ours = probability_of_improvement(&x, &y, &bootstrap).expect("the same tasks");
    same(ours, &fixture.probability_of_improvement, "improvement");
}
