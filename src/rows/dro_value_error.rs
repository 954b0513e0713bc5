//! Rows of the sim `dro-value-error`: minima under a wrong value.

use super::table::table;

table! {
    /// A local minimum on the bandit; `rank` 0 is the lowest.
    pub struct Minimum {
        offset: f64,
        rank: u64,
        delta: f64,
        error: f64,
        bound: f64,
        sharper: f64,
    }
}

table! {
    /// Random bandits with several local minima, and the sides of both bounds' largest ratios.
    pub struct Count {
        offset: f64,
        problems: u64,
        several: u64,
        tightest: f64,
        sharpest: f64,
    }
}
