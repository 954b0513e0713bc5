//! Rows of the sim `bpo-phases`: regret against the number of phases.

use super::spread::Spread;
use super::table::table;

table! {
    /// After some exact phases: regret by J_β, and the mean true reward.
    pub struct Exact {
        inner: String,
        phases: u64,
        regret: f64,
        reward: f64,
    }
}

table! {
    /// DPO alone: static at a temperature divided by so many phases, and in that many phases, each
    /// solved as a problem of its own with the last policy as reference and law.
    pub struct Static {
        phases: u64,
        regret: f64,
        stepwise: f64,
    }
}

table! {
    /// After training on a fixed budget of labels in so many phases. `reference` is `behaviour`, `static`,
    /// `golden`, `ema:τ`, or `ensemble:L`, the merged policy of L members that is also the behaviour policy.
    pub struct Trained {
        inner: String,
        reference: String,
        phases: u64,
        seed: u64,
        labels: u64,
        regret: f64,
        reward: f64,
        win_rate: f64,
    }
}

/// The references of the trained policies, in their order.
pub fn references(rows: &[Trained]) -> Vec<&str> {
    let mut all: Vec<&str> = Vec::new();
    for row in rows {
        if !all.contains(&row.reference.as_str()) {
            all.push(&row.reference);
        }
    }
    all
}

/// Mean over seeds of a number of the trained policies, and its spread, by number of phases.
pub fn trained(
    rows: &[Trained],
    inner: &str,
    reference: &str,
    value: fn(&Trained) -> f64,
) -> Vec<(u64, Spread)> {
    let of = || {
        rows.iter()
            .filter(|r| r.inner == inner && r.reference == reference)
    };
    let mut counts: Vec<u64> = of().map(|r| r.phases).collect();
    counts.dedup();
    let spread = |k: u64| Some((k, Spread::of(of().filter(|r| r.phases == k).map(value))?));
    counts.into_iter().filter_map(spread).collect()
}
