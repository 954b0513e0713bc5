//! What is computed from printed tables, derived a second time in closed form.

use pistar::claims::{Finding, all, check};

pub(super) fn finding(name: &str) -> Finding {
    let claim = all().into_iter().find(|c| c.name == name).unwrap();
    check(&[claim]).unwrap().remove(0).finding
}

pub(super) fn measure(finding: &Finding, name: &str) -> f64 {
    let found = finding.measures.iter().find(|m| m.name == name);
    found
        .unwrap_or_else(|| panic!("no `{name}`: {finding:?}"))
        .value
}

pub(super) fn near(a: f64, b: f64, slack: f64) {
    assert!((a - b).abs() < slack, "{a}, not {b}");
}

/// `P(|T| ≥ |t|)` of Student's law with 2 and with 4 degrees of freedom (Abramowitz and Stegun 26.7.4).
pub(super) fn two_and_four(t: f64) -> [f64; 2] {
    [2.0, 4.0].map(|df| {
        let (sine, square) = (t.abs() / (df + t * t).sqrt(), df / (df + t * t));
        1.0 - sine * if df == 2.0 { 1.0 } else { 1.0 + square / 2.0 }
    })
}

#[test]
fn bpo_head_to_head_by_the_law_of_two_degrees() {
    let found = finding("bpo/table-2");
    for (task, mean, sd) in [("Helpfulness", 57.4, 5.1), ("Harmfulness", 79.9, 9.9)] {
        // The deviation divides by n, so the mean's is sd/√(n − 1).
        let t = (mean - 50.0) / (sd / 2f64.sqrt());
        let [p, _] = two_and_four(t);
        near(
            measure(&found, &format!("over on-policy DPO, {task}: t")),
            t,
            1e-12,
        );
        near(
            measure(&found, &format!("over on-policy DPO, {task}: p, two-sided")),
            p,
            1e-9,
        );
        assert!(p > 0.05, "{task}");
        // Rounding at its most favourable does not change that.
        let t = (mean + 0.05 - 50.0) / ((sd - 0.05) / 2f64.sqrt());
        assert!(two_and_four(t)[0] > 0.05, "{task}");
    }
    // One-sided, Helpfulness is not told from 50 though the deviation be that which divides by n − 1.
    assert!(two_and_four(7.4 / (5.1 / 3f64.sqrt()))[0] / 2.0 > 0.05);
    for (mean, sd) in [(75.9, 1.5), (78.0, 1.7), (99.3, 0.5), (70.4, 1.5)] {
        assert!(two_and_four((mean - 50.0) / (sd / 2f64.sqrt()))[0] < 0.01);
    }
}

/// Mean and variance of three numbers, by their pairwise differences: `Σ_{i<j} (a_i − a_j)²/6`.
fn triple([a, b, c]: [f64; 3]) -> (f64, f64) {
    let squares = (a - b).powi(2) + (b - c).powi(2) + (c - a).powi(2);
    ((a + b + c) / 3.0, squares / 6.0)
}

#[test]
fn bpo_with_two_phases_by_bounds_on_welch() {
    let (with_tldr, with_helpful) = ([77.6, 77.5, 76.6], [90.8, 89.4, 91.6]);
    let (off_tldr, off_helpful) = ([68.9, 72.3, 74.8], [84.8, 85.8, 76.0]);
    let t = |(mean, sd): (f64, f64), seeds: [f64; 3]| {
        let (other, variance) = triple(seeds);
        // sd²/(n − 1) is the variance of a mean whose deviation divides by n.
        (mean - other) / (sd * sd / 2.0 + variance / 3.0).sqrt()
    };
    let (tldr, helpful) = ((80.2, 2.3), (89.1, 1.4));
    // Welch's degrees of freedom are between 2 and 4, p between those of either.
    let within = |name: &str, prefix: &str, t: f64| {
        let found = finding(name);
        near(measure(&found, &format!("{prefix}t")), t, 1e-9);
        let [high, low] = two_and_four(t);
        let p = measure(&found, &format!("{prefix}p, two-sided"));
        assert!(low <= p && p <= high, "{name}: {low} {p} {high}");
        low
    };
    let over_on_policy = within("bpo/two-phases-over-on-policy", "", t(tldr, with_tldr));
    assert!(over_on_policy / 2.0 > 0.05, "{over_on_policy}");
    let matches = within(
        "bpo/two-phases-match",
        "Helpfulness: ",
        t(helpful, with_helpful),
    );
    assert!(matches > 0.05, "{matches}");
    let name = "bpo/two-phases-over-offline";
    let over_offline = within(name, "Helpfulness: ", t(helpful, off_helpful));
    assert!(over_offline / 2.0 > 0.05, "{over_offline}");
    let on_tldr = within(name, "TL;DR: ", t(tldr, off_tldr));
    let welch = measure(&finding(name), "TL;DR: p, two-sided");
    assert!(on_tldr < 0.05 && welch < 0.05, "{on_tldr} {welch}");
}

/// The medians' intervals overlap with three strata, and their difference is clear of 0 nevertheless.
#[test]
fn bpo_medians_part_by_their_difference_alone() {
    let found = finding("bpo/figure-3");
    let overlap = "three strata: overlap of the medians' intervals, BPO and on-policy";
    assert!(measure(&found, overlap) > 0.0);
    assert!(measure(&found, "lowest bound of a difference in medians") > 0.0);
}

#[test]
fn bpo_phases_are_whole_by_factors() {
    assert_eq!(5usize.pow(4), 625);
    for phases in [2usize, 6, 15, 600] {
        assert!(
            phases.is_multiple_of(2) || phases.is_multiple_of(3),
            "{phases}"
        );
    }
    let evidence = finding("bpo/whole-phases").evidence;
    assert!(evidence.contains("625 is of [1] alone"), "{evidence}");
    // 2³ · 3 · 5² and 2 · 3 · 5² have them all.
    assert_eq!((8 * 3 * 25, 2 * 3 * 25), (600, 150));
}

#[test]
fn dro_single_value_by_arcsines() {
    let found = finding("dro/single-value");
    // Cohen's h over its deviation, √(2/n).
    let z = |from: f64, to: f64| {
        let angle = |rate: f64| 2.0 * (rate / 100.0).sqrt().asin();
        (angle(to) - angle(from)) / (2.0 / 5_000f64).sqrt()
    };
    near(measure(&found, "two networks: z"), z(72.1, 76.6), 0.02);
    near(measure(&found, "one network: z"), z(57.6, 55.5), 0.02);
    assert!(z(57.6, 55.5) < -2.0);
}

#[test]
fn dro_transitivity_by_odds_and_differences() {
    let found = finding("dro/figures-1-and-2");
    let rate = |[p, q]: [f64; 2]| p * (100.0 - q) / (p * (100.0 - q) + q * (100.0 - p)) * 100.0;
    for (size, cells, [direct, spread], rounded) in [
        ("T5-L", [(78.9, 0.3), (67.5, 0.7)], [63.4, 1.0], "-0.7"),
        ("T5-XL", [(81.5, 1.0), (78.2, 0.7)], [57.5, 0.8], "1.1"),
    ] {
        let at = cells.map(|(mean, _)| mean);
        let variance: f64 = (0..2)
            .map(|i| {
                let moved = |by: f64| {
                    let mut at = at;
                    at[i] += by;
                    rate(at)
                };
                let slope = (moved(1e-4) - moved(-1e-4)) / 2e-4;
                (slope * cells[i].1).powi(2)
            })
            .sum();
        let predicted = measure(
            &found,
            &format!("DRO-V over KTO by Bradley–Terry, {size}, %"),
        );
        near(predicted, rate(at), 1e-9);
        let apart = (direct - rate(at)) / (variance + spread * spread).sqrt();
        let name = format!("printed less predicted, {size}, in joint deviations");
        near(measure(&found, &name), apart, 1e-6);
        assert_eq!(format!("{apart:.1}"), rounded);
    }
}

#[test]
fn dro_sweeps_by_hand() {
    let rates = finding("dro/rate-range");
    for (name, by_hand) in [
        ("5e-5 to 5e-4, both rates, %", 0.5),
        ("5e-5 to 5e-4, value's only, %", 1.1),
        ("1e-5 to 1e-4, both rates, %", 5.2),
        ("1e-5 to 1e-4, value's only, %", 2.1),
    ] {
        near(measure(&rates, name), by_hand, 1e-9);
    }
    let taus = finding("dro/figure-4");
    near(measure(&taus, "range of DRO-V, %"), 8.4, 1e-9);
    near(measure(&taus, "range of KTO, %"), 5.6, 1e-9);
    near(
        measure(&taus, "DRO-V at its worst τ over KTO at its best, %"),
        3.0,
        1e-9,
    );
}

#[test]
fn copg_temperatures_by_steps_of_the_sweep() {
    let found = finding("copg/effective-beta");
    // Section 6's sweep from 0.01, where IPO's best is, up: CoPG's is two steps above it, DPO's three.
    let sweep = [0.01, 0.03, 0.06, 0.1];
    let steps = |n: usize| -> f64 { sweep.windows(2).take(n).map(|w| w[1] / w[0]).product() };
    near(measure(&found, "CoPG's over IPO's"), steps(2), 1e-12);
    near(measure(&found, "DPO's over IPO's"), steps(3), 1e-12);
}
