//! Rows of the sim `ipo-bias`: where the laws rank arms otherwise than their rewards.

use super::table::table;

table! {
    /// A cell of the map: `μ₁ = (1 − first)·P + first·Q`, `μ₂ = (1 − second)·P + second·Q`.
    pub struct Cell {
        first: f64,
        second: f64,
        regret: f64,
        best: u64,
        inverted: u64,
    }
}

table! {
    /// How often random problems are ranked wrongly, with different or equal laws.
    pub struct Ranking {
        arms: u64,
        equal_laws: bool,
        problems: u64,
        wrong_best: u64,
        inverted: u64,
    }
}
